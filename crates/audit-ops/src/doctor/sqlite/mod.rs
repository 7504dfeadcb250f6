//! Examines an SQLite file.
//!
//! SQLite has no roles: a user who may write the file can put anything into it. Its triggers protect against
//! mistakes, and the file's permissions against other users.

mod file;
mod probes;
mod schema;

use std::path::Path;

use db_services::client::{Connection, Database};
use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use diesel::{Connection as _, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::Code::*;
use super::allow::{AllowList, Allowed};
use super::report::RawFindings;
use super::{DoctorError, Finding, Options, Severity};
use file::JournalMode;

/// The migrations: name and SQL.
const MIGRATIONS: [(&str, &str); 3] = [
    (
        "2026-11-24-000001_create_audit_logs",
        include_str!("../../../../../migrations/sqlite/2026-11-24-000001_create_audit_logs/up.sql"),
    ),
    (
        "2026-11-29-000002_look_ups",
        include_str!("../../../../../migrations/sqlite/2026-11-29-000002_look_ups/up.sql"),
    ),
    (
        "2026-11-29-000003_feed",
        include_str!("../../../../../migrations/sqlite/2026-11-29-000003_feed/up.sql"),
    ),
];

/// A row with a single text.
#[derive(QueryableByName)]
struct Value {
    #[diesel(sql_type = Text)]
    value: String,
}

/// Runs all checks on a separate connection, because one of the pool would change the file's journal mode.
pub(super) async fn examine(database: &Database, options: &Options) -> Result<RawFindings, DoctorError> {
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
    let allow = options.allow.clone();
    let examined = tokio::task::spawn_blocking(move || examine_file(&file, &allow)).await?;
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

fn examine_file(path: &Path, allow: &AllowList) -> diesel::ConnectionResult<(String, Vec<Finding>)> {
    let mut allowed = Allowed::new(allow);
    let mut conn = SqliteConnection::establish(&db_services::files::sqlite_uri(path, "mode=rw"))?;
    let (version, mut findings) = examine_connection(&mut conn, &mut allowed)
        .map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
    findings.extend(allowed.findings());
    Ok((version, findings))
}

fn examine_connection(
    conn: &mut SqliteConnection,
    allowed: &mut Allowed,
) -> diesel::QueryResult<(String, Vec<Finding>)> {
    conn.batch_execute("PRAGMA busy_timeout = 200")?;
    let version = value(conn, "SELECT sqlite_version() AS value")?.unwrap_or_default();
    let recorded =
        values(conn, "SELECT version AS value FROM __diesel_schema_migrations").unwrap_or_default();
    let mut findings = vec![pending(&recorded)];
    findings.extend(schema::examine(conn, allowed)?);
    if value(
        conn,
        "SELECT name AS value FROM sqlite_master WHERE type = 'table' AND name = 'audit_logs'",
    )?
    .is_some()
    {
        findings.extend(probes::examine(conn)?);
        findings.push(schema::future(conn)?);
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
}
