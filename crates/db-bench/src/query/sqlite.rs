//! The same questions to SQLite.

use std::time::Instant;

use db_services::client::Database;
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection};

use crate::Result;
use crate::args::Options;
use crate::progress;
use crate::report::Report;
use crate::result::Series;

/// Rows like those of `sql/fill.sql`, over a year. ?1: how many.
const FILL: &str = "\
    WITH RECURSIVE numbers (nth) AS (SELECT 0 UNION ALL SELECT nth + 1 FROM numbers WHERE nth + 1 < ?1) \
    INSERT INTO audit_logs (id, created_at, tenant_id, actor_id, actor_type, action, resource_type, resource_id, user_agent, request_id, metadata) \
    SELECT CAST(substr(printf('%016d', nth), 1, 16) AS BLOB), \
           (unixepoch('now') - 31536000) * 1000000 + nth * (31536000000000 / ?1), \
           printf('tenant-%04d', CASE WHEN nth % 10 = 0 THEN 0 ELSE nth * 7919 % 1009 % 200 END), \
           CASE WHEN nth % 10 = 3 THEN 'user-frequent' ELSE printf('user-%08d', nth * 7919 % 20011) END, \
           'user', 'document.read', 'document', printf('doc-%012d', nth * 104729 % 100003), \
           'Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0', printf('req-%016d', nth), \
           '{\"field\":\"title\",\"reason\":\"edited in the browser\",\"trusted\":true}' \
    FROM numbers";

/// A question, and its parameter for a row.
type Question = (&'static str, &'static str, fn(usize) -> String);

const QUESTIONS: [Question; 6] = [
    ("actor, ordinary", "actor_id = ?1", |row| {
        format!(
            "user-{:08}",
            (if row % 10 == 3 { row - 1 } else { row }) * 7_919 % 20_011
        )
    }),
    ("actor, frequent", "actor_id = ?1", |_| "user-frequent".to_owned()),
    ("resource", "resource_id = ?1", |row| {
        format!("doc-{:012}", row * 104_729 % 100_003)
    }),
    ("request", "request_id = ?1", |row| format!("req-{row:016}")),
    ("tenant timeline", "tenant_id = ?1", |row| {
        format!("tenant-{:04}", row % 200)
    }),
    ("page across tenants", "?1 <> ''", |_| "all".to_owned()),
];

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

pub(super) async fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let rows = options.sqlite_rows;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("trail.db").display().to_string();
    Database::from_url(&format!("sqlite://{path}"))?.migrate().await?;
    let options = options.clone();
    let measured = tokio::task::spawn_blocking(move || ask_all(&path, rows, &options)).await??;
    for series in measured {
        report.add(series.row(None))?;
    }
    Ok(())
}

fn ask_all(path: &str, rows: usize, options: &Options) -> Result<Vec<Series>> {
    let mut conn = SqliteConnection::establish(path)?;
    let bar = progress::bar("query", QUESTIONS.len());
    bar.set_message("SQLite");
    diesel::sql_query(FILL)
        .bind::<BigInt, _>(i64::try_from(rows)?)
        .execute(&mut conn)?;
    conn.batch_execute("PRAGMA optimize")?;
    let mut measured = Vec::new();
    for (name, condition, about) in QUESTIONS {
        let mut series = Series::new(format!("SQLite, {rows} rows: {name}"), "ms");
        let sql = format!(
            "SELECT count(*) AS value FROM (SELECT * FROM audit_logs WHERE {condition} ORDER BY created_at DESC, id DESC LIMIT 50)"
        );
        for nth in 0..options.blocks.min(9) {
            let about = about((nth + 1) * 15_485_863 % rows);
            let begun = Instant::now();
            let found: Count = diesel::sql_query(&sql)
                .bind::<Text, _>(&about)
                .get_result(&mut conn)?;
            series.values.push(begun.elapsed().as_secs_f64() * 1e3);
            if found.value == 0 {
                return Err(format!("void: SQLite has no row about {about}").into());
            }
        }
        bar.inc(1);
        measured.push(series);
    }
    bar.finish_and_clear();
    Ok(measured)
}
