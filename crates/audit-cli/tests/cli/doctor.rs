//! `auditlog doctor`: its exit code and its formats.

use crate::fixture::CliFixture;

#[test]
fn the_exit_code_of_doctor_is_its_verdict() {
    use std::os::unix::fs::PermissionsExt;

    let cli = CliFixture::new();
    assert_eq!(cli.run(&["doctor"]).0, 3, "there is no file");
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let mode = |mode| {
        let path = cli.dir.path().join("audit.db");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (bits, code) in [(0o600, 0), (0o644, 2), (0o666, 1)] {
        mode(bits);
        let (found, out, err) = cli.run(&["doctor"]);
        assert_eq!(found, code, "{bits:o}: {out}{err}");
        let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split('\t').collect()).collect();
        assert!(lines.iter().all(|line| line.len() == 5), "{out}");
        assert_eq!(lines[0], ["result", "code", "found", "remedy", "controls"]);
        assert_eq!(
            lines[1][0],
            ["ok", "critical", "warning"][code as usize],
            "the worst first: {out}"
        );
    }
    for arguments in [
        &["doctor", "--nonsense"][..],
        &["--database-url", "mysql://u:hush@h/d", "doctor"],
        &[
            "--database-url",
            "postgres://u:hush@127.0.0.1:1/d",
            "doctor",
            "--json",
        ],
        &["doctor", "--markdown", "no/such/directory.md"],
    ] {
        let (code, out, err) = cli.run(arguments);
        assert_eq!(code, 3, "{arguments:?}: {out}{err}");
        assert!(!err.contains("hush"), "{err}");
    }
    assert_eq!(cli.run(&["doctor", "--help"]).0, 0);
    assert_eq!(cli.run(&["list", "--nonsense"]).0, 2, "clap's own code elsewhere");
}

#[test]
fn doctor_prints_json_and_writes_a_report() {
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let (code, out, err) = cli.run(&["doctor", "--json", "--markdown", "report.md"]);
    assert_eq!(code, 1, "as a superuser: {out}{err}");
    let findings: Vec<serde_json::Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let user = findings.iter().find(|finding| finding["code"] == "USER").unwrap();
    assert_eq!(user["severity"], "critical");
    assert!(
        user["found"].as_str().unwrap().contains("is a superuser"),
        "{user}"
    );
    assert!(
        user["remedy"].as_str().unwrap().contains("GRANT audit_writer"),
        "{user}"
    );
    assert!(
        user["controls"]
            .as_array()
            .unwrap()
            .contains(&"NIST AU-9(4)".into()),
        "{user}"
    );
    let update = findings
        .iter()
        .find(|finding| finding["code"] == "ROW_UPDATE")
        .unwrap();
    assert_eq!(
        (&update["severity"], &update["remedy"]),
        (&"ok".into(), &serde_json::Value::Null)
    );
    let report = std::fs::read_to_string(cli.dir.path().join("report.md")).unwrap();
    assert!(
        report.contains("### USER (critical)") && report.contains("| ok | ROW_UPDATE |"),
        "{report}"
    );
}

#[test]
fn doctor_lists_what_its_operator_allows_and_lines_that_allow_nothing() {
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    cli.execute(
        "CREATE VIEW recent AS SELECT * FROM audit_logs; CREATE VIEW other AS SELECT * FROM audit_logs",
    );
    let list = cli.dir.path().join("allow.txt");
    std::fs::write(&list, "# for reports\nview public.recent\nrole nobody\n").unwrap();
    let (_, out, err) = cli.run(&["doctor", "--json", "--allow", "allow.txt"]);
    let findings: Vec<serde_json::Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |code: &str| -> Vec<String> {
        let of = findings.iter().filter(|finding| finding["code"] == code);
        of.map(|finding| format!("{} {}", finding["severity"], finding["found"]))
            .collect()
    };
    assert_eq!(
        of("DEPENDENTS"),
        ["\"warning\" \"the view public.other depends on the trail\""],
        "{out}{err}"
    );
    assert_eq!(
        of("ALLOWED"),
        [
            "\"info\" \"line 3 of the list allows nothing: role nobody\"",
            "\"ok\" \"allowed by the operator: the view public.recent depends on the trail\""
        ],
        "{out}{err}"
    );
    std::fs::write(&list, "view\n").unwrap();
    let (code, out, err) = cli.run(&["doctor", "--allow", "allow.txt"]);
    assert_eq!(code, 3, "{out}{err}");
    assert!(
        err.contains("allow.txt: line 1: expected a kind and a name"),
        "{err}"
    );
}
