//! Compares the schema of an SQLite trail, and everything that names it, with what the migrations make.

use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

use super::{MIGRATIONS, value, values};
use crate::doctor::allow::Allowed;
use crate::doctor::text::comment;
use crate::doctor::{
    Code::{self, *},
    Finding, Severity,
};
use crate::is_harmful;

/// The trail's objects, and those whose text names it: SQLite records no dependencies. Objects without a text belong to
/// constraints.
const OBJECTS: &str = "SELECT type AS kind, name, tbl_name AS on_table, sql AS text FROM sqlite_master \
     WHERE sql IS NOT NULL AND (tbl_name = 'audit_logs' COLLATE NOCASE OR instr(lower(sql), 'audit_logs') > 0 \
         OR instr(lower(sql), 'audit_feed') > 0) \
     ORDER BY type, name";

/// The columns of audit_logs. One that is missing or differs has lost values, or lets a row be stored without them.
const COLUMNS: &str = "SELECT name || ' ' || type || ' ' || \"notnull\" || ' ' || coalesce(dflt_value, '') || ' ' || pk AS value FROM pragma_table_info('audit_logs')";

#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
struct Object {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    on_table: String,
    #[diesel(sql_type = Text)]
    text: String,
}

/// Compares the schemas.
pub(super) fn examine(
    conn: &mut SqliteConnection,
    allowed: &mut Allowed,
) -> diesel::QueryResult<Vec<Finding>> {
    let existing = sql_query(OBJECTS).load::<Object>(conn)?;
    let (expected, columns) = expected()?;
    let mut findings = compare(&expected, &existing, allowed);
    let existing_columns = values(conn, COLUMNS)?;
    if !columns.iter().all(|column| existing_columns.contains(column)) {
        findings
            .iter_mut()
            .filter(|finding| finding.code == Tables)
            .for_each(|finding| finding.severity = Severity::Critical);
    }
    for (code, ok) in [
        (Triggers, "as the migrations created them"),
        (OtherTriggers, "none"),
        (Tables, "as the migrations created them"),
        (Indexes, "as the migrations created them"),
        (Dependents, "none"),
    ] {
        if !findings.iter().any(|finding| finding.code == code) {
            findings.push(Finding::ok(code, ok));
        }
    }
    Ok(findings)
}

/// The objects of a new database. SQLite rewrites the statement of a table with each ALTER TABLE, so the text of the
/// migrations does not tell.
fn expected() -> diesel::QueryResult<(Vec<Object>, Vec<String>)> {
    let conn = SqliteConnection::establish(":memory:");
    let mut conn = conn.map_err(|error| diesel::result::Error::QueryBuilderError(error.into()))?;
    for (_, sql) in MIGRATIONS {
        conn.batch_execute(sql)?;
    }
    Ok((sql_query(OBJECTS).load(&mut conn)?, values(&mut conn, COLUMNS)?))
}

fn compare(expected: &[Object], existing: &[Object], allowed: &mut Allowed) -> Vec<Finding> {
    let same = |a: &&Object, b: &Object| a.kind == b.kind && a.name.eq_ignore_ascii_case(&b.name);
    let mut findings = Vec::new();
    for object in expected.iter().filter(|object| !existing.contains(object)) {
        let changed = existing.iter().any(|other| same(&object, other));
        findings.push(differs(object, changed));
    }
    let additional = existing
        .iter()
        .filter(|object| !expected.iter().any(|other| same(object, other)));
    for object in additional {
        let (code, severity) = additional_object(object);
        let found = format!(
            "a {} that is not part of the trail: {}",
            object.kind,
            first_line(&object.text)
        );
        if !allowed.allows(&[(object.kind.clone(), object.name.clone())], &found) {
            let remedy = format!(
                "{}\n{}",
                drop_statement(object),
                comment(&format!(
                    "or, if it is intended, allow it (--allow): {} {}",
                    object.kind, object.name
                ))
            );
            findings.push(Finding::new(code, severity, found, remedy));
        }
    }
    findings
}

/// An object of the trail that is missing or changed.
fn differs(object: &Object, changed: bool) -> Finding {
    let (code, severity) = match object.kind.as_str() {
        "trigger" => (Triggers, Severity::Critical),
        "index" => (Indexes, Severity::Warning),
        _ => (Tables, Severity::Warning),
    };
    let found = format!("missing or changed: {}", first_line(&object.text));
    let remedy = match (object.kind.as_str(), changed) {
        ("table", true) => "-- migrate a new file, and write the entries of this one into it".to_owned(),
        ("table", false) => "auditlog migrate".to_owned(),
        (kind, true) => format!(
            "DROP {} {};\n{};",
            kind.to_uppercase(),
            quoted(&object.name),
            object.text
        ),
        (_, false) => format!("{};", object.text),
    };
    Finding::new(code, severity, found, remedy)
}

/// What an additional object permits.
fn additional_object(object: &Object) -> (Code, Severity) {
    let text = object.text.to_uppercase();
    let of_trail = object.on_table.eq_ignore_ascii_case("audit_logs");
    match object.kind.as_str() {
        // It can change what is inserted, or leave it out.
        "trigger" if of_trail && !runs_after(object) => (OtherTriggers, Severity::Critical),
        "trigger" if of_trail => (OtherTriggers, Severity::Warning),
        "index" if of_trail && text.contains(" UNIQUE ") => (Indexes, Severity::Critical),
        "index" if of_trail => (Indexes, Severity::Info),
        _ => (Dependents, Severity::Info),
    }
}

/// Whether a trigger runs after the row is stored. Its name, quoted or not, precedes that word; if it cannot be found,
/// the trigger may be one that runs before.
fn runs_after(object: &Object) -> bool {
    let after_name = |name: &str| {
        let (_, rest) = object.text.split_once(name)?;
        let rest = rest.trim_start_matches(['"', '\'', '`', ']']).trim_start();
        Some(rest.get(..5)?.eq_ignore_ascii_case("AFTER"))
    };
    let found = after_name(&quoted(&object.name)).or_else(|| after_name(&object.name));
    found.unwrap_or(false)
}

fn first_line(sql: &str) -> &str {
    sql.lines().next().unwrap_or_default()
}

/// SQLite has no escapes for identifiers, so a name that cannot be printed is only described.
fn drop_statement(object: &Object) -> String {
    if object.name.contains(is_harmful) {
        let advice = "look at it, and drop it with a program that quotes its name, which cannot be printed:";
        return comment(&format!("{advice} {} {}", object.kind, object.name));
    }
    format!("DROP {} {};", object.kind.to_uppercase(), quoted(&object.name))
}

/// A name as an SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Entries dated more than ten minutes in the future. There is no index on recorded_at, so that only the newest
/// entries are looked at.
const FUTURE: &str = "SELECT CAST((SELECT count(*) FROM (SELECT 1 FROM audit_logs \
         WHERE created_at > CAST(strftime('%s', 'now') AS INTEGER) * 1000000 + 600000000 LIMIT 1000)) \
     + (SELECT count(*) FROM (SELECT recorded_at FROM audit_logs ORDER BY created_at DESC LIMIT 100000) \
        WHERE recorded_at > CAST(strftime('%s', 'now') AS INTEGER) * 1000000 + 600000000) AS TEXT) AS value";

/// Looks for entries dated in the future.
pub(super) fn future(conn: &mut SqliteConnection) -> diesel::QueryResult<Finding> {
    Ok(match value(conn, FUTURE)?.as_deref() {
        None | Some("0") => Finding::ok(Continuity, "nothing is dated in the future"),
        Some(count) => Finding::new(
            Continuity,
            Severity::Warning,
            format!(
                "entries whose created_at or recorded_at is more than 10 minutes in the future: {count} or more"
            ),
            "-- look at the machine's clock; entries cannot be changed: write further ones that correct them",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::allow::AllowList;
    use super::*;

    fn migrated() -> SqliteConnection {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        for (_, sql) in MIGRATIONS {
            conn.batch_execute(sql).unwrap();
        }
        conn
    }

    fn found(conn: &mut SqliteConnection) -> Vec<(Code, Severity, String)> {
        let findings = examine(conn, &mut Allowed::new(&AllowList::default())).unwrap();
        let bad = findings
            .into_iter()
            .filter(|finding| finding.severity > Severity::Ok);
        bad.map(|finding| (finding.code, finding.severity, finding.remedy.unwrap()))
            .collect()
    }

    #[test]
    fn each_planted_fault_is_found_and_its_remedy_repairs_it() {
        use Severity::{Critical, Info, Warning};
        for (plant, code, severity) in [
            ("DROP TRIGGER audit_logs_no_update", Triggers, Critical),
            (
                "DROP TRIGGER audit_logs_no_delete; CREATE TRIGGER audit_logs_no_delete BEFORE DELETE ON audit_logs BEGIN SELECT 1; END",
                Triggers,
                Critical,
            ),
            (
                "DROP TRIGGER audit_logs_no_replace; CREATE TRIGGER audit_logs_no_replace BEFORE INSERT ON audit_logs WHEN 0 BEGIN SELECT RAISE(ABORT, 'x'); END",
                Triggers,
                Critical,
            ),
            (
                "CREATE TRIGGER swallow BEFORE INSERT ON audit_logs BEGIN SELECT RAISE(IGNORE); END",
                OtherTriggers,
                Critical,
            ),
            (
                "CREATE TRIGGER \"a \"\"note\"\"\" AFTER INSERT ON audit_logs BEGIN SELECT 1; END",
                OtherTriggers,
                Warning,
            ),
            (
                "CREATE TRIGGER \"x AFTER y\" BEFORE INSERT ON audit_logs BEGIN SELECT RAISE(IGNORE); END",
                OtherTriggers,
                Critical,
            ),
            (
                "CREATE TRIGGER 'x' AFTER INSERT ON audit_logs BEGIN SELECT ' BEFORE '; END",
                OtherTriggers,
                Warning,
            ),
            (
                "DROP TRIGGER audit_logs_no_update; CREATE TRIGGER AUDIT_LOGS_NO_UPDATE AFTER UPDATE ON audit_logs BEGIN SELECT 1; END",
                Triggers,
                Critical,
            ),
            ("DROP INDEX audit_logs_time", Indexes, Warning),
            (
                "DROP INDEX audit_logs_time; CREATE INDEX audit_logs_time ON audit_logs (action)",
                Indexes,
                Warning,
            ),
            ("CREATE INDEX extra ON audit_logs (action)", Indexes, Info),
            (
                "CREATE UNIQUE INDEX only_once ON audit_logs (request_id)",
                Indexes,
                Critical,
            ),
            ("CREATE VIEW recent AS SELECT * FROM Audit_Logs", Dependents, Info),
            (
                "CREATE TABLE x (a); CREATE TRIGGER forges AFTER INSERT ON x BEGIN INSERT INTO audit_logs (action) VALUES ('x'); END",
                Dependents,
                Info,
            ),
            (
                "CREATE TABLE points (id BLOB, at BIGINT, FOREIGN KEY (id, at) REFERENCES audit_logs (id, created_at))",
                Dependents,
                Info,
            ),
        ] {
            let mut conn = migrated();
            assert_eq!(found(&mut conn), [], "sound");
            conn.batch_execute(plant).unwrap();
            let differences = found(&mut conn);
            assert_eq!(differences.len(), 1, "{plant}: {differences:?}");
            assert_eq!((differences[0].0, differences[0].1), (code, severity), "{plant}");
            conn.batch_execute(&differences[0].2).unwrap();
            assert_eq!(found(&mut conn), [], "{plant}");
        }
    }

    #[test]
    fn a_name_with_a_line_break_is_no_part_of_the_remedy() {
        let mut conn = migrated();
        conn.batch_execute(
            "CREATE TABLE important (a); CREATE VIEW \"v\nDROP TABLE important; --\" AS SELECT * FROM audit_logs",
        )
        .unwrap();
        let differences = found(&mut conn);
        assert!(
            differences[0].2.contains("view v\\u{a}DROP TABLE important"),
            "{differences:?}"
        );
        // Comments alone are no statement.
        conn.batch_execute(&format!("{}\nSELECT 1 FROM important", differences[0].2))
            .unwrap();
        let mut allowed = Allowed::new(&AllowList::parse("view v\\u{a}DROP TABLE important; --").unwrap());
        let findings = examine(&mut conn, &mut allowed).unwrap();
        assert!(
            findings.iter().all(|finding| finding.severity == Severity::Ok),
            "{findings:#?}"
        );
    }

    #[test]
    fn a_table_that_was_altered_is_found() {
        for (alter, severity) in [
            (
                "ALTER TABLE audit_logs ADD COLUMN session_id TEXT",
                Severity::Warning,
            ),
            (
                "ALTER TABLE audit_logs RENAME COLUMN writer_seq TO seq",
                Severity::Critical,
            ),
            (
                "ALTER TABLE audit_logs DROP COLUMN user_agent",
                Severity::Critical,
            ),
        ] {
            let mut conn = migrated();
            conn.batch_execute(alter).unwrap();
            let differences = found(&mut conn);
            assert_eq!(
                (differences[0].0, differences[0].1),
                (Tables, severity),
                "{alter}"
            );
        }
    }

    #[test]
    fn an_allowed_view_is_listed_and_an_entry_of_the_future_is_found() {
        let mut conn = migrated();
        conn.batch_execute("CREATE VIEW recent AS SELECT * FROM audit_logs")
            .unwrap();
        let mut allowed = Allowed::new(&AllowList::parse("view recent").unwrap());
        let findings = examine(&mut conn, &mut allowed).unwrap();
        assert!(
            findings.iter().all(|finding| finding.severity == Severity::Ok),
            "{findings:#?}"
        );
        assert!(allowed.findings()[0].found.contains("CREATE VIEW recent"));
        assert_eq!(future(&mut conn).unwrap().severity, Severity::Ok);
        conn.batch_execute("INSERT INTO audit_logs (created_at, action) VALUES (4000000000000000, 'x')")
            .unwrap();
        assert_eq!(future(&mut conn).unwrap().severity, Severity::Warning);
    }
}
