//! Checks that nothing is missing between the first entry and the last, and that nothing is dated in the future.

use super::comparison::Names;
use super::session::{Refusal, Row, Session};
use crate::doctor::Code::{Continuity, Indexes};
use crate::doctor::allow::Allowed;
use crate::doctor::{DoctorError, Finding, Severity};
use crate::partitions::MAX_PARTITIONS;

/// Months between the first and the last that have neither a partition nor an entry in the ledger, as ranges: the first
/// and the last month, their number, the quoted name of the schema, how many partitions there would be with them, and the
/// times if they are not whole months.
const MISSING_MONTHS: &str = include_str!("checks/missing_months.sql");

/// Numbers that are missing in the ledger and among the holds: table, first, last.
const MISSING_NUMBERS: &str = include_str!("checks/missing_numbers.sql");

/// Entries of ledger and holds dated in the future: table, number, time.
const FUTURE_RECORDS: &str = include_str!("checks/future_records.sql");

/// Months that ended long enough ago without all of their look-up indexes: first, last, number, schema.
const WITHOUT_INDEXES: &str = include_str!("checks/months_without_indexes.sql");

/// Rows dated in the future. The second query reads the whole trail, so its time is limited.
const FUTURE_CREATED: &str = "SELECT count(*)::text FROM (SELECT FROM @schema@.audit_logs \
     WHERE created_at > clock_timestamp() + interval '10 minutes' LIMIT 1000) few";
const FUTURE_RECORDED: &str = "SELECT count(*)::text FROM (SELECT FROM @schema@.audit_logs \
     WHERE recorded_at > clock_timestamp() + interval '10 minutes' LIMIT 1000) few";

/// Runs the checks, and reports those that this user may not run.
pub(super) async fn examine(
    session: &Session,
    names: &Names,
    allowed: &mut Allowed,
) -> Result<Vec<Finding>, DoctorError> {
    let mut findings = Vec::new();
    let query = async |sql: &str| session.query_in_savepoint(&names.sql(sql)).await;
    let mut reasons = Reasons::default();
    match query(MISSING_MONTHS).await? {
        Ok(rows) => findings.extend(rows.into_iter().filter_map(|row| missing_months(row, allowed))),
        Err(refused) => reasons.refused("", refused),
    }
    match query(MISSING_NUMBERS).await? {
        Ok(rows) => findings.extend(rows.into_iter().map(missing_numbers)),
        Err(refused) => reasons.refused("", refused),
    }
    match query(FUTURE_RECORDS).await? {
        Ok(rows) => findings.extend(rows.into_iter().map(future_record)),
        Err(refused) => reasons.refused("", refused),
    }
    if sees_all_rows(session, names).await? {
        session.execute("SET LOCAL statement_timeout = '2s'").await?;
        for (column, sql) in [("created_at", FUTURE_CREATED), ("recorded_at", FUTURE_RECORDED)] {
            match query(sql).await? {
                Ok(rows) => findings.extend(future_rows(column, &rows)),
                // Its time is limited on purpose.
                Err(refused) if refused.sqlstate == "57014" => {
                    reasons
                        .missing
                        .push(format!("the entries' {column}: {}", refused.message));
                }
                Err(refused) => reasons.refused(&format!("the entries' {column}: "), refused),
            }
        }
        session.execute("SET LOCAL statement_timeout = '10s'").await?;
    } else {
        reasons
            .missing
            .push("this user does not see every row".to_owned());
    }
    let unchecked = reasons.findings();
    if !unchecked.is_empty() {
        findings.extend(unchecked);
    } else if findings.is_empty() {
        findings.push(Finding::ok(
            Continuity,
            "nothing is missing or dated in the future",
        ));
    }
    match query(WITHOUT_INDEXES).await? {
        Ok(rows) => findings.extend(rows.into_iter().map(without_indexes)),
        Err(refused) => findings.push(Finding::not_run(Indexes, refused.message)),
    }
    Ok(findings)
}

/// Why parts of the check could not be run.
#[derive(Default)]
struct Reasons {
    /// This user lacks a right, or the time was too short.
    missing: Vec<String>,
    /// Anything else.
    failed: Vec<String>,
}

impl Reasons {
    fn refused(&mut self, what: &str, refused: Refusal) {
        let list = if refused.lacks_right() {
            &mut self.missing
        } else {
            &mut self.failed
        };
        list.push(format!("{what}{}", refused.message));
    }

    fn findings(self) -> Vec<Finding> {
        let joined = |mut reasons: Vec<String>| {
            reasons.sort();
            reasons.dedup();
            (!reasons.is_empty()).then(|| reasons.join("; "))
        };
        let missing = joined(self.missing).map(|reasons| Finding::unchecked(Continuity, reasons));
        let failed = joined(self.failed).map(|reasons| Finding::not_run(Continuity, reasons));
        missing.into_iter().chain(failed).collect()
    }
}

async fn sees_all_rows(session: &Session, names: &Names) -> Result<bool, DoctorError> {
    let sql = "SELECT (has_table_privilege(@trail@, 'SELECT') AND (NOT row_security_active(@trail@) OR EXISTS ( \
         SELECT FROM pg_policy p, unnest(p.polroles) r WHERE p.polrelid = @trail@ AND p.polname = 'audit_logs_read_all' \
           AND r <> 0 AND pg_has_role(r, 'USAGE'))))::text";
    let rows = session.query_in_savepoint(&names.sql(sql)).await?;
    Ok(rows.is_ok_and(|rows| rows.first().and_then(|row| row.first()?.as_deref()) == Some("true")))
}

fn cells<const N: usize>(row: Row) -> [String; N] {
    let mut cells = row.into_iter().map(Option::unwrap_or_default);
    std::array::from_fn(|_| cells.next().unwrap_or_default())
}

fn missing_months(row: Row, allowed: &mut Allowed) -> Option<Finding> {
    let [first, last, count, schema, partitions, part] = cells(row);
    let found = match count.as_str() {
        _ if !part.is_empty() => {
            format!("the time {part} has neither a partition nor an entry in the ledger")
        }
        "1" => format!("{first} has neither a partition nor an entry in the ledger"),
        _ => {
            format!("{first} to {last} ({count} months) have neither a partition nor an entry in the ledger")
        }
    };
    let found = format!("{found}: its rows may have been removed without a record");
    let name = format!("{first}..{last}");
    if allowed.allows(&[("months".to_owned(), name.clone())], &found) {
        return None;
    }
    // More partitions than that would be worse than the gap.
    let create = if !part.is_empty() {
        // The month has partitions already; a further one takes its place among them.
        " Then attach a table for that time, which auditlog restore or a backup fills;\n--".to_owned()
    } else if partitions
        .parse()
        .is_ok_and(|count: u64| count <= u64::from(MAX_PARTITIONS))
    {
        format!(
            " Then:\nSELECT {schema}.audit_logs_ensure_partitions('{first}-01 00:00+00', '{last}-01 00:00+00');\n-- or,"
        )
    } else {
        format!(
            "\n-- with a partition for each month there would be {partitions}, and {MAX_PARTITIONS} are the limit;"
        )
    };
    Some(Finding::new(
        Continuity,
        Severity::Warning,
        found,
        format!(
            "-- find out what became of its rows; they can only come from a backup or an archive.{create} \
             if there never were any, allow it (--allow): months {name}"
        ),
    ))
}

fn missing_numbers(row: Row) -> Finding {
    let [table, first, last] = cells(row);
    let numbers = if first == last {
        format!("the number {first} is")
    } else {
        format!("the numbers {first} to {last} are")
    };
    Finding::new(
        Continuity,
        Severity::Critical,
        format!("{numbers} missing in {table}, which counts without gaps: entries were removed"),
        "-- compare with a backup, and find out who may change the table (GRANTS, TRIGGERS)",
    )
}

fn future_record(row: Row) -> Finding {
    let [table, number, time, _] = cells(row);
    Finding::new(
        Continuity,
        Severity::Warning,
        format!("the entry {number} of {table} is dated {time}, in the future"),
        "-- correct the server's clock; an entry cannot be changed, and stays until then",
    )
}

fn future_rows(column: &str, rows: &[Row]) -> Option<Finding> {
    let count = rows.first().and_then(|row| row.first().cloned().flatten())?;
    if count == "0" {
        return None;
    }
    let more = if count == "1000" { " or more" } else { "" };
    Some(Finding::new(
        Continuity,
        Severity::Warning,
        format!("entries whose {column} is more than 10 minutes in the future: {count}{more}"),
        "-- look at the clocks of server and applications; rows cannot be changed: write further ones that correct them",
    ))
}

fn without_indexes(row: Row) -> Finding {
    let [first, last, count, schema] = cells(row);
    Finding::new(
        Indexes,
        Severity::Warning,
        match count.as_str() {
            "1" => format!(
                "the closed month {first} lacks look-up indexes: searches by actor, resource or request are slow"
            ),
            _ => format!(
                "{count} closed months, {first} to {last}, lack look-up indexes: searches by actor, resource or request are slow"
            ),
        },
        format!(
            "SELECT {schema}.audit_logs_index_closed_months();\n-- each day; or with the command: auditlog partitions ensure"
        ),
    )
}
