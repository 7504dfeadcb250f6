//! `auditlog verify`.

use crate::fixture::{CliFixture, MISSING_WRITER};

#[test]
fn missing_entries_end_with_exit_code_1() {
    let cli = CliFixture::with_missing_entries();
    let (code, out, err) = cli.run(&["verify", "writers"]);
    assert!(
        code == 1 && out.contains("missing") && err.contains("numbers 2-3"),
        "{out}{err}"
    );
    let (_, out, _) = cli.run(&["verify", "writers", "--json"]);
    let account: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&account["verdict"], &account["missing"]),
        (&"missing".into(), &2.into())
    );

    let record = r#"{"ranges": [[2, 3]], "count": 2}"#;
    cli.execute_sqlite(&format!(
        "INSERT INTO audit_logs (action, writer_id, metadata) \
         VALUES ('audit.entries_duplicate', {MISSING_WRITER}, '{record}')"
    ));
    let (code, out, err) = cli.run(&["verify", "writers"]);
    assert!(
        code == 0 && out.contains("\tcomplete\t2\t0\t0\t0\t2\t0\t0") && err.is_empty(),
        "{out}{err}"
    );
}

#[test]
fn the_bound_of_an_open_writer_is_explained() {
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    cli.execute_sqlite(
        "INSERT INTO audit_logs (action, writer_id, metadata) \
         VALUES ('audit.writer_started', x'0123456789abcdef0123456789abcdef', '{\"queue_capacity\": 700}')",
    );
    let (code, out, err) = cli.run(&["verify", "writers"]);
    assert!(code == 0 && out.contains("at most 700 accepted"), "{out}{err}");
    assert!(
        err.contains("Not included, and not bounded: entries that a full queue dropped"),
        "{err}"
    );
}
