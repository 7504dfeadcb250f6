//! `auditlog write`.

use crate::fixture::CliFixture;

#[test]
fn an_event_has_the_values_of_all_options() {
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        let arguments = [
            "write",
            "--action",
            "api_key.revoke",
            "--actor",
            "a",
            "--actor-type",
            "user",
            "--on-behalf-of",
            "b",
            "--tenant",
            "t",
            "--outcome",
            "denied",
            "--resource-type",
            "k",
            "--resource-id",
            "1",
            "--ip",
            "10.0.0.1",
            "--user-agent",
            "u",
            "--request-id",
            "r",
            "--trace-id",
            "w",
            "--operation-id",
            "00000000-0000-0000-0000-000000000001",
            "--metadata",
            r#"{"n":1}"#,
            "--created-at",
            "2026-11-01T12:00:00.5Z",
            "--id",
            "00000000-0000-0000-0000-000000000002",
        ];
        assert_eq!(cli.run(&arguments).0, 0);
        assert!(cli.run(&arguments).1.starts_with("already stored"));
        let rows = cli.rows();
        assert_eq!(rows.len(), 1);
        let mut row = rows[0].clone();
        row["recorded_at"].take();
        row["tx_id"].take();
        assert_eq!(
            row,
            serde_json::json!({
                "id": "00000000-0000-0000-0000-000000000002", "created_at": "2026-11-01T12:00:00.500Z", "recorded_at": null,
                "tenant_id": "t", "actor_id": "a", "actor_type": "user", "on_behalf_of": "b", "action": "api_key.revoke",
                "outcome": "denied", "resource_type": "k", "resource_id": "1", "ip_address": "10.0.0.1", "user_agent": "u",
                "request_id": "r", "trace_id": "w", "operation_id": "00000000-0000-0000-0000-000000000001",
                "metadata": {"n": 1}, "writer_id": null, "writer_seq": null, "tx_id": null
            })
        );
    }
}

#[test]
fn invalid_lines_are_reported_and_the_others_are_written() {
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        let mut input = b"\xEF\xBB\xBF{\"action\":\"first\"}\r\n".to_vec();
        input.extend(b"no json\n\n{\"action\":\"x\",\"colour\":1}\n{\"action\":\"\xFF\"}\n");
        input.extend(b"{\"action\":\"lone \\ud800\"}\n");
        input.extend(b"{\"action\":\"");
        input.extend(std::iter::repeat_n(b'x', 17 << 20));
        input.extend(b"\"}\n{\"action\":\"last\",\"ip_address\":\"unknown\"}");
        let (code, out, err) = cli.run_with_input(&["write", "-"], &input);
        assert_eq!(code, 1, "{err}");
        assert_eq!(out, "wrote 3 entries, 0 already stored, 4 lines rejected\n");
        let numbers: Vec<_> = err.lines().map(|line| line.split(':').nth(1).unwrap()).collect();
        assert_eq!(numbers, ["2", "4", "5", "7"], "{err}");
        assert!(
            err.contains("unknown field `colour`") && err.contains("line:7: longer than 16 MiB"),
            "{err}"
        );
        let mut actions: Vec<_> = cli
            .rows()
            .iter()
            .map(|row| row["action"].as_str().unwrap().to_owned())
            .collect();
        actions.sort();
        assert_eq!(actions, ["first", "last", "lone \u{FFFD}"]);
    }
}

#[test]
fn a_rejected_row_is_reported_and_its_batch_is_written() {
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    cli.execute("ALTER TABLE audit_logs ADD CHECK (action <> 'refused')");
    let lines: String = (0..2_500)
        .map(|n| {
            format!(
                "{{\"action\":\"{}\"}}\n",
                if n == 1_234 { "refused" } else { "fine" }
            )
        })
        .collect();
    let file = cli.dir.path().join("events.ndjson");
    std::fs::write(&file, lines).unwrap();
    let (code, out, err) = cli.run(&["write", file.to_str().unwrap()]);
    assert_eq!(code, 1, "{err}");
    assert_eq!(out, "wrote 2,499 entries, 0 already stored, 1 line rejected\n");
    assert!(
        err.contains("events.ndjson:1235: ") && err.contains("check constraint"),
        "{err}"
    );
}

#[test]
fn an_entry_that_a_trigger_drops_is_reported_as_not_stored() {
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        match &cli.postgres {
            Some(_) => cli.execute(
                "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN IF NEW.action = 'skipped' THEN RETURN NULL; END IF; RETURN NEW; END $$; \
                 CREATE TRIGGER skip BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION skip()",
            ),
            None => cli.execute_sqlite(
                "CREATE TRIGGER skip BEFORE INSERT ON audit_logs WHEN NEW.action = 'skipped' \
                 BEGIN SELECT RAISE(IGNORE); END",
            ),
        }
        let (code, out, err) = cli.run(&["write", "--action", "skipped"]);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(
            err.contains("a trigger or rule of audit_logs skipped the row"),
            "{err}"
        );
        let lines = b"{\"action\":\"a\"}\n{\"action\":\"skipped\"}\n{\"action\":\"b\"}\n";
        let (code, out, err) = cli.run_with_input(&["write", "-"], lines);
        assert_eq!(code, 1, "{out}{err}");
        assert!(
            out.contains("wrote 2 entries, 0 already stored, 1 line rejected"),
            "{out}"
        );
        assert!(
            err.contains("line:2: ") && err.contains("skipped the row"),
            "{err}"
        );
        assert_eq!(cli.rows().len(), 2);
    }
}

#[test]
fn an_event_that_differs_from_the_stored_one_changes_nothing() {
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        let line = |action: &str| {
            format!(
                r#"{{"action":"{action}","id":"00000000-0000-0000-0000-000000000001","created_at":"2026-11-01T12:00:00Z"}}"#
            )
        };
        let input = [line("first"), line("second")].join("\n");
        let (code, out, err) = cli.run_with_input(&["write", "-"], input.as_bytes());
        assert_eq!(
            (code, &*out),
            (0, "wrote 1 entry, 1 already stored, 0 lines rejected\n"),
            "{err}"
        );
        assert_eq!(cli.rows()[0]["action"], "first");
    }
    let (_, help, _) = CliFixture::new().run(&["write", "--help"]);
    let words: Vec<_> = help.split_whitespace().collect();
    assert!(
        words.join(" ").contains("The id and the time identify an event"),
        "{help}"
    );
}
