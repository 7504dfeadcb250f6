//! Examines an SQLite file.
//!
//! SQLite has no roles: a user who may write the file can put anything into it. Its triggers protect against
//! mistakes, and the file's permissions against other users.

mod file;
mod probes;

use std::path::Path;

use db_services::client::{Connection, Database};
use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use diesel::{Connection as _, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::Code::*;
use super::report::RawFindings;
use super::{DoctorError, Finding, Severity};
use file::JournalMode;

/// The migrations: name and SQL.
const MIGRATIONS: [(&str, &str); 1] = [(
    "2026-11-24-000001_create_audit_logs",
    include_str!("../../../../../migrations/sqlite/2026-11-24-000001_create_audit_logs/up.sql"),
)];

const TABLE_AND_TRIGGERS: &str = "SELECT coalesce(sql, '') AS value FROM sqlite_master \
     WHERE tbl_name = 'audit_logs' AND type IN ('table', 'trigger')";

/// A row with a single text.
#[derive(QueryableByName)]
struct Value {
    #[diesel(sql_type = Text)]
    value: String,
}

/// Runs all checks on a separate connection, because one of the pool would change the file's journal mode.
pub(super) async fn examine(database: &Database) -> Result<RawFindings, DoctorError> {
    let Some(path) = database.sqlite_path().map(Path::to_owned) else {
        return Err(DoctorError::InMemory(database.to_string()));
    };
    let journal_mode = match file::journal_mode(&path) {
        Ok(mode) => mode,
        Err(source) => return Err(DoctorError::File { path, source }),
    };
    let mut findings = file::examine(&path);
    findings.push(journal(journal_mode));
    let file = path.clone();
    let examined = tokio::task::spawn_blocking(move || examine_file(&file)).await?;
    let (version, of_file) = examined.map_err(|source| DoctorError::Sqlite { path, source })?;
    findings.extend(of_file);
    // Opening the file as the application does would switch another journal mode to WAL.
    if journal_mode == JournalMode::Wal {
        findings.extend(settings(database).await?);
    }
    Ok(RawFindings {
        server: format!("SQLite {version}"),
        user: "any user who may open the file".to_owned(),
        findings,
    })
}

fn examine_file(path: &Path) -> diesel::ConnectionResult<(String, Vec<Finding>)> {
    let mut conn = SqliteConnection::establish(&db_services::files::sqlite_uri(path, "mode=rw"))?;
    examine_connection(&mut conn).map_err(diesel::ConnectionError::CouldntSetupConfiguration)
}

fn examine_connection(conn: &mut SqliteConnection) -> diesel::QueryResult<(String, Vec<Finding>)> {
    conn.batch_execute("PRAGMA busy_timeout = 200")?;
    let version = value(conn, "SELECT sqlite_version() AS value")?.unwrap_or_default();
    let mut findings = schema(conn)?;
    if value(
        conn,
        "SELECT name AS value FROM sqlite_master WHERE type = 'table' AND name = 'audit_logs'",
    )?
    .is_some()
    {
        findings.extend(probes::examine(conn)?);
    }
    Ok((version, findings))
}

fn values(conn: &mut SqliteConnection, sql: &str) -> diesel::QueryResult<Vec<String>> {
    Ok(sql_query(sql)
        .load::<Value>(conn)?
        .into_iter()
        .map(|row| row.value)
        .collect())
}

fn value(conn: &mut SqliteConnection, sql: &str) -> diesel::QueryResult<Option<String>> {
    Ok(values(conn, sql)?.into_iter().next())
}

fn journal(mode: JournalMode) -> Finding {
    match mode {
        JournalMode::Wal => Finding::ok(SqliteJournal, "a write-ahead log"),
        JournalMode::Rollback => Finding::new(
            SqliteJournal,
            Severity::Warning,
            "the file has no write-ahead log: a reader blocks the writer, and the writer blocks all readers",
            "sqlite3 FILE 'PRAGMA journal_mode = WAL'\n-- or start an audit writer on it, which does the same",
        ),
    }
}

/// Compares the recorded migrations, the table and its triggers with those of this version.
fn schema(conn: &mut SqliteConnection) -> diesel::QueryResult<Vec<Finding>> {
    let recorded =
        values(conn, "SELECT version AS value FROM __diesel_schema_migrations").unwrap_or_default();
    let existing = values(conn, TABLE_AND_TRIGGERS)?;
    let expected = expected()?;
    let mut findings = vec![pending(&recorded)];
    findings.extend(missing(&expected, &existing));
    findings.extend(unexpected(&expected, &existing));
    for code in [Triggers, OtherTriggers] {
        if !findings.iter().any(|finding| finding.code == code) {
            findings.push(Finding::ok(code, "as the migrations created them"));
        }
    }
    Ok(findings)
}

/// The statements of the table and its triggers, as a new database has them. SQLite rewrites the statement of a
/// table with each ALTER TABLE, so the text of the migrations does not tell.
fn expected() -> diesel::QueryResult<Vec<String>> {
    let conn = SqliteConnection::establish(":memory:");
    let mut conn = conn.map_err(|error| diesel::result::Error::QueryBuilderError(error.into()))?;
    for (_, sql) in MIGRATIONS {
        conn.batch_execute(sql)?;
    }
    values(&mut conn, TABLE_AND_TRIGGERS)
}

fn pending(recorded: &[String]) -> Finding {
    let versions = MIGRATIONS
        .iter()
        .map(|(name, _)| name.split('_').next().unwrap_or_default().replace('-', ""));
    let pending: Vec<String> = versions.filter(|version| !recorded.contains(version)).collect();
    if pending.is_empty() {
        return Finding::ok(Migrations, format!("all {}", MIGRATIONS.len()));
    }
    Finding::new(
        Migrations,
        Severity::Warning,
        format!("the database lacks the migrations {}", pending.join(", ")),
        "auditlog migrate",
    )
}

/// Statements of this version whose table or trigger does not exist with the same text.
fn missing(expected: &[String], existing: &[String]) -> Vec<Finding> {
    let missing = expected.iter().filter(|sql| !existing.contains(sql));
    missing
        .map(|sql| {
            let (code, severity) = if sql.starts_with("CREATE TRIGGER") {
                (Triggers, Severity::Critical)
            } else {
                (Migrations, Severity::Warning)
            };
            let found = format!("missing or changed: {}", first_line(sql));
            Finding::new(code, severity, found, format!("{sql};"))
        })
        .collect()
}

/// Triggers that this version does not create.
fn unexpected(expected: &[String], existing: &[String]) -> Vec<Finding> {
    let unexpected = existing
        .iter()
        .filter(|sql| sql.starts_with("CREATE TRIGGER") && !expected.contains(sql));
    unexpected
        .map(|sql| {
            let found = format!("a trigger that is not part of the trail: {}", first_line(sql));
            Finding::new(
                OtherTriggers,
                Severity::Warning,
                found,
                "-- DROP TRIGGER, unless it is needed",
            )
        })
        .collect()
}

fn first_line(sql: &str) -> &str {
    sql.lines().next().unwrap_or_default()
}

/// Checks the settings of the application's connections. Connections of other programs may differ.
async fn settings(database: &Database) -> Result<Vec<Finding>, DoctorError> {
    let Connection::Sqlite(mut conn) = database.connection().await? else {
        return Ok(Vec::new());
    };
    let queried = conn
        .spawn_blocking(|conn| {
            let text = |name: &str| format!("SELECT CAST({name} AS TEXT) AS value FROM pragma_{name}");
            Ok((
                value(conn, &text("synchronous"))?,
                value(conn, &text("recursive_triggers"))?,
            ))
        })
        .await;
    let (synchronous, recursive) = match queried {
        Ok(settings) => settings,
        Err(error) => return Ok(vec![Finding::unchecked(Durability, error.to_string())]),
    };
    let mut findings = Vec::new();
    findings.push(match synchronous.as_deref() {
        Some("2" | "3") => Finding::ok(
            Durability,
            "synchronous is FULL or more on the application's connections",
        ),
        other => Finding::new(
            Durability,
            Severity::Warning,
            format!(
                "synchronous is {} on the application's connections: a crash of the machine can lose commits",
                other.unwrap_or("?")
            ),
            "PRAGMA synchronous = FULL;",
        ),
    });
    findings.push(match recursive.as_deref() {
        Some("1") => Finding::ok(
            ReplicaMode,
            "recursive_triggers is on: REPLACE fires the DELETE trigger too",
        ),
        _ => Finding::new(
            ReplicaMode,
            Severity::Info,
            "recursive_triggers is off on the application's connections: only one trigger refuses REPLACE",
            "PRAGMA recursive_triggers = ON;",
        ),
    });
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sqlite_migration_is_known_to_the_doctor() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite");
        let mut names: Vec<_> = std::fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(MIGRATIONS.map(|(name, _)| name.to_owned()).to_vec(), names);
    }

    #[test]
    fn the_table_and_its_triggers_are_expected() {
        let expected = expected().unwrap();
        assert_eq!(expected.len(), 4, "{expected:?}");
        assert!(expected[0].starts_with("CREATE TABLE audit_logs"), "{expected:?}");
    }

    #[test]
    fn a_table_that_was_altered_differs_from_the_expected_one() {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        for (_, sql) in MIGRATIONS {
            conn.batch_execute(sql).unwrap();
        }
        let differences = |conn: &mut SqliteConnection| {
            let existing = values(conn, TABLE_AND_TRIGGERS).unwrap();
            missing(&expected().unwrap(), &existing).len()
        };
        assert_eq!(differences(&mut conn), 0);
        conn.batch_execute("ALTER TABLE audit_logs ADD COLUMN session_id TEXT")
            .unwrap();
        assert_eq!(differences(&mut conn), 1);
    }
}
