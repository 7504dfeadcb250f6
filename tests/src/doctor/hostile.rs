//! Any user who may create an object chooses its name. A remedy must not run what the name contains.

use audit_ops::doctor::{Code, Options, Severity};

use super::fixture::DoctorFixture;

/// Outside of quotes, each of these runs a statement.
const NAMES: [&str; 5] = [
    "x\nCREATE TABLE evil (); --",
    "x */; CREATE TABLE evil (); /*",
    "$do$; CREATE TABLE evil (); DO $do$ BEGIN END",
    "\u{202e}'; CREATE TABLE evil (); --",
    "x\\'; CREATE TABLE evil (); --",
];

#[tokio::test]
async fn no_remedy_runs_what_a_name_contains() {
    for name in NAMES {
        let fixture = DoctorFixture::with(&["auditor"]).await.few_months().await;
        let login = fixture.app.clone();
        let quoted = format!("\"{name}\"");
        let found = async || {
            let mut findings = fixture.findings_of(&login, &Options::default()).await;
            findings.retain(|finding| finding.severity > Severity::Ok);
            findings
        };
        let sound = found().await;
        let mut planted = sound.clone();
        for plant in [
            "CREATE VIEW $name AS SELECT * FROM audit_logs",
            "ALTER TABLE audit_logs ADD COLUMN $name text",
            "ALTER TABLE audit_legal_holds ADD CONSTRAINT $name CHECK (true)",
            "CREATE INDEX \"i$name\" ON audit_logs (action)",
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
             CREATE TRIGGER $name BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION f()",
            "CREATE POLICY $name ON audit_logs",
            "CREATE RULE $name AS ON INSERT TO audit_roles DO ALSO NOTHING",
            "CREATE PUBLICATION $name FOR TABLE audit_logs",
            "CREATE TABLE \"audit_logs_$name\" ()",
            "CREATE SCHEMA $name; CREATE FUNCTION $name.$name() RETURNS bigint LANGUAGE sql RETURN (SELECT count(*) FROM audit_logs)",
            // The last one, because it holds a lock.
            "BEGIN; LOCK TABLE audit_logs IN ACCESS SHARE MODE; PREPARE TRANSACTION $literal",
        ] {
            // The longer forms first.
            let sql = plant.replace("\"i$name\"", &format!("\"i{name}\""));
            let sql = sql.replace("_$name\"", &format!("_{name}\""));
            let sql = sql.replace("$literal", &format!("'{}'", name.replace('\'', "''")));
            fixture.admin(&sql.replace("$name", &quoted)).await;
            let before = std::mem::replace(&mut planted, found().await);
            assert!(planted.iter().any(|finding| !before.contains(finding)), "{sql}");
        }
        let (locks, others): (Vec<_>, Vec<_>) = planted
            .iter()
            .filter(|finding| !sound.contains(finding))
            .partition(|finding| finding.code == Code::PreparedTransactions);
        let new: Vec<_> = locks.into_iter().chain(others).collect();
        for finding in &new {
            assert!(!finding.found.contains(['\n', '\u{202e}']), "{finding:?}");
            let remedy = finding.remedy.as_deref().unwrap();
            assert!(!remedy.contains('\u{202e}'), "{finding:?}");
            fixture
                .remedy(remedy)
                .await
                .unwrap_or_else(|error| panic!("{remedy}: {error}"));
        }
        assert_eq!(
            fixture
                .text("SELECT coalesce(to_regclass('evil')::text, 'none')")
                .await,
            "none",
            "{name:?}"
        );
        assert_eq!(found().await, sound, "{name:?}");
    }
}
