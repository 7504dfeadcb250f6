//! What is an SQLite file asked? It knows no rights: who may write the file may write anything into it,
//! so that its triggers stand against mistakes, and the file's permissions against people.

mod attempts;
mod file;

use std::path::Path;

use db_services::client::{Connection, Database};
use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use diesel::{Connection as _, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::Code::*;
use super::report::Examined;
use super::{DoctorError, Finding, Severity};

/// What the migrations run.
const SQL: [(&str, &str); 1] = [(
    "2026-11-24-000001_create_audit_logs",
    include_str!("../../../../../migrations/sqlite/2026-11-24-000001_create_audit_logs/up.sql"),
)];

/// A value of a query.
#[derive(QueryableByName)]
struct Value {
    #[diesel(sql_type = Text)]
    value: String,
}

/// Runs all checks, on a connection of its own: the pool's would change the file's journal.
pub(super) async fn examine(database: &Database) -> Result<Examined, DoctorError> {
    let Some(path) = database.sqlite_path().map(Path::to_owned) else {
        let reason = "a database in memory ends with its process and keeps no evidence".to_owned();
        return Err(DoctorError::Sqlite {
            path: database.to_string(),
            reason,
        });
    };
    let failed = |reason: String| DoctorError::Sqlite {
        path: path.display().to_string(),
        reason,
    };
    let wal = file::is_wal(&path).map_err(|error| failed(error.to_string()))?;
    let mut findings = file::examine(&path);
    findings.push(journal(wal));
    let file = path.clone();
    let examined = tokio::task::spawn_blocking(move || look(&file)).await;
    let (version, looked) = examined
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))?;
    findings.extend(looked);
    // Opening it as the application does would turn another journal into this one.
    if wal {
        findings.extend(settings(database).await?);
    }
    let user = "whoever may open the file".to_owned();
    Ok(Examined {
        server: format!("SQLite {version}"),
        user,
        findings,
    })
}

fn look(path: &Path) -> diesel::ConnectionResult<(String, Vec<Finding>)> {
    // "./" keeps SQLite from reading a name like "file:x" as a URI.
    let name = if path.is_relative() {
        format!("./{}", path.display())
    } else {
        path.display().to_string()
    };
    let mut conn = SqliteConnection::establish(&name)?;
    ask(&mut conn).map_err(diesel::ConnectionError::CouldntSetupConfiguration)
}

fn ask(conn: &mut SqliteConnection) -> diesel::QueryResult<(String, Vec<Finding>)> {
    conn.batch_execute("PRAGMA busy_timeout = 200")?;
    let version = value(conn, "SELECT sqlite_version() AS value")?.unwrap_or_default();
    let mut findings = schema(conn)?;
    if value(
        conn,
        "SELECT name AS value FROM sqlite_master WHERE type = 'table' AND name = 'audit_logs'",
    )?
    .is_some()
    {
        findings.extend(attempts::examine(conn)?);
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

fn journal(wal: bool) -> Finding {
    match wal {
        true => Finding::ok(SqliteJournal, "a write-ahead log"),
        false => Finding::new(
            SqliteJournal,
            Severity::Warning,
            "the file has no write-ahead log: a reader holds up the writer, and the writer all readers",
            "sqlite3 FILE 'PRAGMA journal_mode = WAL'\n-- or start an audit writer on it, which does the same",
        ),
    }
}

/// The noted migrations, the table and its triggers, against those of this version.
fn schema(conn: &mut SqliteConnection) -> diesel::QueryResult<Vec<Finding>> {
    let noted = values(conn, "SELECT version AS value FROM __diesel_schema_migrations").unwrap_or_default();
    let made = values(
        conn,
        "SELECT coalesce(sql, '') AS value FROM sqlite_master WHERE tbl_name = 'audit_logs' AND type IN ('table', 'trigger')",
    )?;
    let ours: Vec<&str> = SQL.iter().flat_map(|(_, sql)| statements(sql)).collect();
    let mut findings = vec![pending(&noted)];
    findings.extend(missing(&ours, &made));
    findings.extend(strange(&ours, &made));
    for code in [Triggers, StrangeTriggers] {
        if !findings.iter().any(|finding| finding.code == code) {
            findings.push(Finding::ok(code, "as they were made"));
        }
    }
    Ok(findings)
}

fn pending(noted: &[String]) -> Finding {
    let versions = SQL
        .iter()
        .map(|(name, _)| name.split('_').next().unwrap_or_default().replace('-', ""));
    let pending: Vec<String> = versions.filter(|version| !noted.contains(version)).collect();
    match pending.is_empty() {
        true => Finding::ok(Migrations, format!("all {}", SQL.len())),
        false => Finding::new(
            Migrations,
            Severity::Warning,
            format!("the database lacks the migrations {}", pending.join(", ")),
            "auditlog migrate",
        ),
    }
}

/// What this version makes, and is not there to the letter.
fn missing(ours: &[&str], made: &[String]) -> Vec<Finding> {
    let missing = ours.iter().filter(|sql| !made.iter().any(|made| made == *sql));
    missing
        .map(|sql| {
            let (code, severity) = match sql.starts_with("CREATE TRIGGER") {
                true => (Triggers, Severity::Critical),
                false => (Migrations, Severity::Warning),
            };
            let found = format!("missing, or not as it was made: {}", first_line(sql));
            Finding::new(code, severity, found, format!("{sql};"))
        })
        .collect()
}

/// Triggers that this version does not make.
fn strange(ours: &[&str], made: &[String]) -> Vec<Finding> {
    let strange = made
        .iter()
        .filter(|made| made.starts_with("CREATE TRIGGER") && !ours.contains(&made.as_str()));
    strange
        .map(|sql| {
            let found = format!("a trigger that is none of the trail's: {}", first_line(sql));
            Finding::new(
                StrangeTriggers,
                Severity::Warning,
                found,
                "-- DROP TRIGGER, if nobody needs it",
            )
        })
        .collect()
}

fn first_line(sql: &str) -> &str {
    sql.lines().next().unwrap_or_default()
}

/// The statements of a migration that make the table and its triggers, as SQLite keeps them.
fn statements(sql: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in sql.match_indices("CREATE T") {
        let rest = &sql[at..];
        let end = if rest.starts_with("CREATE TRIGGER") {
            rest.find("\nEND;").map(|at| at + 4)
        } else {
            rest.find(";\n")
        };
        found.extend(end.map(|end| &rest[..end]));
    }
    found
}

/// What the application's own connections are set to. Other programs' have their own settings.
async fn settings(database: &Database) -> Result<Vec<Finding>, DoctorError> {
    let Connection::Sqlite(mut conn) = database.connection().await? else {
        return Ok(Vec::new());
    };
    let asked = conn
        .spawn_blocking(|conn| {
            let text = |name: &str| format!("SELECT CAST({name} AS TEXT) AS value FROM pragma_{name}");
            Ok((
                value(conn, &text("synchronous"))?,
                value(conn, &text("recursive_triggers"))?,
            ))
        })
        .await;
    let (synchronous, recursive) = match asked {
        Ok(asked) => asked,
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
        Some("1") => Finding::ok(ReplicaMode, "recursive_triggers is on: REPLACE asks the DELETE trigger too"),
        _ => Finding::new(
            ReplicaMode,
            Severity::Info,
            "recursive_triggers is off on the application's connections: REPLACE is refused by one trigger only",
            "PRAGMA recursive_triggers = ON;",
        ),
    });
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_migration_is_forgotten() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite");
        let mut there: Vec<_> = std::fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        assert_eq!(SQL.map(|(name, _)| name.to_owned()).to_vec(), there);
    }

    #[test]
    fn the_table_and_its_triggers_are_found() {
        let found: Vec<_> = SQL
            .iter()
            .flat_map(|(_, sql)| statements(sql))
            .map(first_line)
            .collect();
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(
            statements(SQL[0].1)
                .iter()
                .skip(1)
                .all(|sql| sql.ends_with("END"))
        );
        assert!(statements(SQL[0].1)[0].ends_with("WITHOUT ROWID"));
    }
}
