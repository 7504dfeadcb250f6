//! Malformed and oversized input of `auditlog write`, and rows that `auditlog list` must survive.

use std::io::Write;
use std::process::ChildStdin;

use crate::fixture::{CliFixture, output_of};
use serde_json::Value;
use serde_json::value::RawValue;

const MIB: usize = 1 << 20;

/// The limit of the command's memory in MiB: far below the size of its input.
const MAX_MEMORY: u64 = 128;

/// Runs `auditlog write -` on the input. Returns its output, and its peak memory in MiB.
fn run_with_peak_memory(
    cli: &CliFixture,
    feed: impl FnOnce(&mut ChildStdin),
) -> ((i32, String, String), Option<u64>) {
    let mut child = cli.spawn(&["write", "-"]);
    let mut input = child.stdin.take().unwrap();
    feed(&mut input);
    // The command waits for more input: it has read all but the content of the pipe.
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak = peak.map(|kib| kib.trim().parse::<u64>().unwrap() / 1024);
    assert_eq!(peak.is_some(), cfg!(target_os = "linux"));
    drop(input);
    (output_of(child.wait_with_output().unwrap()), peak)
}

fn write_line(input: &mut ChildStdin, line: &str) {
    writeln!(input, "{line}").unwrap();
}

fn actions(cli: &CliFixture) -> Vec<String> {
    let mut actions: Vec<_> = cli
        .rows()
        .iter()
        .map(|row| row["action"].as_str().unwrap().to_owned())
        .collect();
    actions.sort();
    actions
}

#[test]
fn lines_of_a_hundred_mebibytes_are_skipped_without_buffering() {
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        let ((code, out, err), peak) = run_with_peak_memory(&cli, |input| {
            write_line(input, r#"{"action":"first"}"#);
            // A string without an end, and a number.
            for filler in [b'x', b'1'] {
                write!(
                    input,
                    "{{\"action\":\"long\",\"metadata\":{{\"x\":{}",
                    if filler == b'x' { "\"" } else { "" }
                )
                .unwrap();
                (0..100).for_each(|_| input.write_all(&[filler; MIB]).unwrap());
                write_line(input, "");
                write_line(input, r#"{"action":"neighbour"}"#);
            }
            // The last line has no newline.
            (0..100).for_each(|_| input.write_all(&[b'['; MIB]).unwrap());
        });
        assert_eq!(
            (code, out.as_str()),
            (1, "wrote 3 entries, 0 already stored, 3 lines rejected\n")
        );
        let lines: Vec<_> = err.lines().filter(|line| !line.starts_with("created ")).collect();
        let expected = [2, 4, 6].map(|number| format!("line:{number}: longer than 16 MiB"));
        assert_eq!(lines, expected);
        assert!(peak.is_none_or(|peak| peak < MAX_MEMORY), "{peak:?} MiB");
        assert_eq!(actions(&cli), ["first", "neighbour", "neighbour"]);
    }
}

#[test]
fn many_long_lines_are_not_buffered_together() {
    let cli = CliFixture::new();
    let text = "x".repeat(4 * MIB);
    let ((code, out, _), peak) = run_with_peak_memory(&cli, |input| {
        for n in 0..48 {
            write_line(
                input,
                &format!(r#"{{"action":"long","resource_id":"{n}","metadata":{{"text":"{text}"}}}}"#),
            );
        }
    });
    assert_eq!(
        (code, out.as_str()),
        (0, "wrote 48 entries, 0 already stored, 0 lines rejected\n")
    );
    assert!(peak.is_none_or(|peak| peak < MAX_MEMORY), "{peak:?} MiB");
}

#[test]
fn each_invalid_line_is_reported_and_valid_ones_between_are_written() {
    let bad: Vec<(Vec<u8>, &str)> = vec![
        (
            b"{\"action\":\"\xC3\x28\"}".to_vec(),
            "invalid unicode code point",
        ),
        (
            b"{\"action\":\"x\",\"metadata\":{\"\xFF\":1}}".to_vec(),
            "invalid unicode code point",
        ),
        (
            br#"{"action":"x","action":"y"}"#.to_vec(),
            "duplicate field `action`",
        ),
        (
            br#"{"action":"x","metadata":{"n":NaN}}"#.to_vec(),
            "expected value",
        ),
        (b"{\"action\":\"x\0\"}".to_vec(), "control character"),
        (b"\0".to_vec(), "expected value"),
        (br#"{"action":"x"}{"action":"y"}"#.to_vec(), "trailing characters"),
        (br#"[{"action":"x"}]"#.to_vec(), "invalid type"),
        (b"{\"action\":".to_vec(), "EOF"),
        (
            format!(r#"{{"action":"x","metadata":{}}}"#, "{\"d\":".repeat(100_000)).into(),
            "expected value",
        ),
    ];
    let mut input = Vec::new();
    for (line, _) in &bad {
        input.extend_from_slice(line);
        input.extend_from_slice(b"\n{\"action\":\"good\"}\n");
    }
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        let (code, out, err) = cli.run_with_input(&["write", "-"], &input);
        assert_eq!(code, 1, "{err}");
        assert_eq!(out, "wrote 10 entries, 0 already stored, 10 lines rejected\n");
        let lines: Vec<_> = err.lines().collect();
        assert_eq!(lines.len(), bad.len(), "{err}");
        for (nth, (line, (_, reason))) in lines.into_iter().zip(&bad).enumerate() {
            assert!(
                line.starts_with(&format!("line:{}: ", 2 * nth + 1)) && line.contains(reason),
                "{reason}: {line}"
            );
        }
        assert_eq!(cli.rows().len(), bad.len());
    }
}

#[test]
fn json_that_serde_json_refuses_is_made_safe_and_kept() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let input = [
        r#"{"action":"\ud800"}"#.to_owned(),
        r#"{"action":"surrogate","metadata":{"deep":["\udc00\ud800"]}}"#.to_owned(),
        r#"{"action":"large","metadata":{"n":1E400}}"#.to_owned(),
        r#"{"action":"exact","metadata":{"n":0.1000000000000000055}}"#.to_owned(),
        format!(r#"{{"action":"deep","metadata":{{"d":{}}}}}"#, nested(128)),
        format!(r#"{{"action":"deeper","metadata":{{"d":{}}}}}"#, nested(100_000)),
    ]
    .join("\n");
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        let (code, out, err) = cli.run_with_input(&["write", "-"], input.as_bytes());
        assert_eq!((code, &*err), (0, ""), "{out}");
        let (_, listed, _) = cli.run(&["list", "--json"]);
        assert_eq!(listed.lines().count(), 6);
        let large = if cli.postgres.is_some() {
            format!("1{}", "0".repeat(400))
        } else {
            "1E400".to_owned()
        };
        for part in [
            "\"action\":\"\u{FFFD}\"",
            &large,
            "0.1000000000000000055",
            "nested deeper than 127 levels",
        ] {
            assert!(listed.contains(part), "{part}: {listed}");
        }
        assert!(listed.contains("[\"\u{FFFD}\"]"), "{listed}");
    }
}

#[test]
fn oversized_values_are_truncated_and_written() {
    let members: Vec<String> = (0..100_000).map(|n| format!("\"k{n}\":{n}")).collect();
    let input = [
        format!(
            r#"{{"action":"big","metadata":{{"text":"{}"}}}}"#,
            "x".repeat(MIB)
        ),
        format!(r#"{{"action":"many","metadata":{{{}}}}}"#, members.join(",")),
        r#"{"action":"nul \u0000","actor_id":"\u0000","metadata":{"k\u0000":{"d\u0000":"v\u0000"}}}"#
            .to_owned(),
        r#"{"action":"twice","metadata":{"k":"first","k":"last"}}"#.to_owned(),
        format!(r#"{{"action":"{}"}}"#, "x".repeat(MIB)),
    ]
    .join("\n");
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        let (code, out, err) = cli.run_with_input(&["write", "-"], input.as_bytes());
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let rows = cli.rows();
        assert_eq!(rows.len(), 5);
        let of = |action: &str| {
            rows.iter()
                .find(|row| row["action"].as_str().unwrap().starts_with(action))
                .unwrap()
        };
        let cut = |action| &of(action)["metadata"]["_audit"]["cut"];
        assert_eq!(cut("big")["metadata"]["bytes"], MIB + r#"{"text":""}"#.len());
        assert!(cut("many")["metadata"]["members_left_out"].as_u64().unwrap() > 90_000);
        assert_eq!(cut("xxx")["action"]["bytes"], MIB);
        assert_eq!(of("nul")["actor_id"], "\u{FFFD}");
        assert_eq!(
            of("nul")["metadata"],
            serde_json::json!({"k\u{FFFD}": {"d\u{FFFD}": "v\u{FFFD}"}})
        );
        // As in jsonb, and in JSON parsers elsewhere.
        assert_eq!(of("twice")["metadata"], serde_json::json!({"k": "last"}));
    }
}

/// Runs `list` in both formats and checks that every line of the second is JSON. Returns the JSON lines.
fn listed(cli: &CliFixture, rows: usize) -> String {
    let (code, out, err) = cli.run(&["list", "-n", "1000"]);
    assert_eq!(
        (code, err.as_str(), out.lines().count()),
        (0, "", rows + 1),
        "{out}"
    );
    assert!(!out.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
    let (code, out, err) = cli.run(&["list", "--json", "-n", "1000"]);
    assert_eq!((code, err.as_str(), out.lines().count()), (0, "", rows));
    for line in out.lines() {
        // As text, because a `Value` cannot represent every number and depth.
        serde_json::from_str::<&RawValue>(line).unwrap();
    }
    out
}

#[test]
fn any_row_of_postgresql_is_listed() {
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    cli.execute(
        r#"INSERT INTO audit_logs (action, metadata) VALUES
             ('huge number', '{"n":1E400}'), ('long number', ('{"n":' || repeat('9', 100000) || '}')::jsonb),
             ('deep', ('{"d":' || repeat('[', 6000) || repeat(']', 6000) || '}')::jsonb),
             ('big', jsonb_build_object('t', repeat('x', 1048576))),
             ('many', (SELECT jsonb_object_agg('k' || n, n) FROM generate_series(1, 100000) n)),
             ('scalar', '"\n"'), ('null', 'null'), ('none', NULL), (E'moves\x1b[2J\r\n', '{"a":"\u001b[2J"}');
           INSERT INTO audit_logs (action, created_at) VALUES ('end', 'infinity'), ('begin', '-infinity')"#,
    );
    let json = listed(&cli, 11);
    assert!(json.contains(&format!("{{\"n\": 1{}}}", "0".repeat(400))) && json.contains(&"[".repeat(6_000)));
}

#[test]
fn any_row_of_sqlite_is_listed() {
    let cli = CliFixture::new();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let texts = [
        r#"'{"n":1E400}'"#,
        r#"'{"a":"\ud800"}'"#,
        r#"'{"k":1,"k":2}'"#,
        "'{\"a\":\n1,\r\n\"b\":2}'",
        "' {\"a\":1}\n'",
        "''",
        "'no json'",
        "'{'",
        "42",
        "x'fffe00'",
        "CAST(x'7b22ff223a317d' AS TEXT)",
        "CAST(x'00' AS TEXT)",
        "NULL",
    ];
    for text in texts {
        cli.execute_sqlite(&format!(
            "INSERT INTO audit_logs (action, metadata) VALUES ('x', {text})"
        ));
    }
    let deep = |depth: usize| format!("'{}{}'", "[".repeat(depth), "]".repeat(depth));
    for text in [deep(10_000), deep(100_000), format!("'\"{}\"'", "x".repeat(MIB))] {
        cli.execute_sqlite(&format!(
            "INSERT INTO audit_logs (action, metadata) VALUES ('x', {text})"
        ));
    }
    cli.execute_sqlite("INSERT INTO audit_logs (action, actor_id, created_at, ip_address) VALUES (x'ff', x'00ff', 9223372036854775807, x'ff'), \
         (CAST(x'1b5b324a' AS TEXT), 7, -9223372036854775808, 'unknown')",
    );
    let json = listed(&cli, texts.len() + 5);
    assert!(json.contains(r#""metadata":{"n":1E400}"#) && json.contains(r#""metadata":{"a":"\ud800"}"#));
    assert!(json.contains(r#""metadata":"no json""#) && json.contains(&"[".repeat(100_000)));
    let plain = json
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    assert!(
        plain
            .into_iter()
            .any(|row| row["metadata"] == serde_json::json!({"a": 1, "b": 2}))
    );
}
