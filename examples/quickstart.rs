//! A first look: writes 52 real events, some forgotten and some awaited, then reads the trail back.
//!
//! `cargo run --example quickstart` keeps them in `audit.db`; with `DATABASE_URL=postgres://…` they
//! go to that server. Run it twice: every event has an id of its own and is stored once.
#![allow(clippy::print_stdout)]

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use comfy_table::{Table, presets};
use db_services::audit::{
    self, AuditEntry, AuditLog, AuditWriter, Outcome, write_audit_log, write_audit_logs,
};
use db_services::client::Database;
use serde_json::Value;

/// Log files as AWS delivers them; see `cloudtrail/README.md`.
const FILES: [&str; 2] = [
    include_str!("cloudtrail/218007301253_CloudTrail_us-east-1_20230710T1205Z_dOIWyEekdNWhkpqY.json"),
    include_str!("cloudtrail/218007301253_CloudTrail_us-east-1_20230710T1215Z_YxpR6PTmNBivhnJJ.json"),
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init();

    // Once, when the application starts: a database, its tables, a writer for the whole process.
    let database = match Database::from_env()? {
        Some(database) => database,
        None => Database::from_url("sqlite://audit.db")?,
    };
    database.migrate().await?;
    let (writer, guard) = AuditWriter::builder(database.clone()).start()?;
    audit::install(writer)?;

    let [first, second] = FILES.map(events);
    let (first, second) = (first?, second?);
    let ids: HashSet<_> = first.iter().chain(&second).filter_map(|event| event.id).collect();

    // These events are of 2023: PostgreSQL gets a partition for their month.
    let mut conn = database.connection().await?;
    audit::ensure_partitions(&mut conn, first.iter().map(|event| event.created_at)).await?;

    // Wherever something happens. What was denied is worth a wait: is it safe?
    for event in first {
        if event.outcome == Outcome::Denied {
            let what = event.action.clone();
            println!(
                "{what} was denied, and its record is {}",
                write_audit_log(event).await
            );
        } else {
            write_audit_log(event);
        }
    }
    // Many at once, forgotten too.
    write_audit_logs(second);

    // Once, before `main` returns.
    let report = guard.shutdown(Duration::from_secs(10)).await;
    println!(
        "{} committed to {database}, {} lost\n",
        report.committed, report.lost
    );

    let rows = audit::latest(&mut conn, 10_000).await?;
    show(rows.iter().filter(|row| ids.contains(&row.id)).collect());
    Ok(())
}

/// The events of a log file as entries.
fn events(file: &str) -> Result<Vec<AuditEntry>, Box<dyn std::error::Error>> {
    let file: Value = serde_json::from_str(file)?;
    file["Records"]
        .as_array()
        .ok_or("no records")?
        .iter()
        .map(event)
        .collect()
}

fn event(record: &Value) -> Result<AuditEntry, Box<dyn std::error::Error>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let service = text(&record["eventSource"]).replace(".amazonaws.com", "");
    let outcome = match record["errorCode"].as_str() {
        None => Outcome::Success,
        Some(code) if code.contains("AccessDenied") => Outcome::Denied,
        Some(_) => Outcome::Failure,
    };
    let mut entry = AuditEntry::new(format!("{service}.{}", text(&record["eventName"])))
        .id(text(&record["eventID"]).parse()?)
        .created_at(text(&record["eventTime"]).parse()?)
        .tenant(text(&record["recipientAccountId"]))
        .ip_text(text(&record["sourceIPAddress"]))
        .user_agent(text(&record["userAgent"]))
        .outcome(outcome)
        .metadata(record["requestParameters"].clone());
    entry.actor_id = record["userIdentity"]["userName"].as_str().map(Into::into);
    Ok(entry)
}

fn show(rows: Vec<&AuditLog>) {
    let mut trail = table(["time (UTC)", "outcome", "action", "actor", "address"]);
    for row in &rows {
        trail.add_row([
            row.created_at.format("%F %T").to_string(),
            row.outcome.clone(),
            row.action.clone(),
            row.actor_id.clone().unwrap_or_default(),
            row.ip_address
                .map(|net| net.addr().to_string())
                .unwrap_or_default(),
        ]);
    }
    println!("{trail}\n");
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for row in &rows {
        *counts.entry((&row.outcome, &row.action)).or_default() += 1;
    }
    let mut summary = table(["outcome", "action", "events"]);
    for ((outcome, action), count) in counts {
        summary.add_row([outcome, action, &count.to_string()]);
    }
    println!("{summary}\n\n{} events", rows.len());
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header);
    table
}
