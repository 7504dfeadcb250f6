//! Does the command survive whatever stands in its input, or in the table?
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::process::{ChildStdin, Stdio};

use serde_json::Value;
use serde_json::value::RawValue;
use support::{Place, both, execute, on_sqlite, told};

const MIB: usize = 1 << 20;

/// What a program's memory may grow to while it reads, in MiB: far below what it is given.
const MEMORY: u64 = 128;

/// Feeds `auditlog write -`; gives what it said, and the most memory it held by then, in MiB.
fn fed(place: &Place, feed: impl FnOnce(&mut ChildStdin)) -> ((i32, String, String), Option<u64>) {
    let mut child = place
        .command(&["write", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    feed(&mut input);
    // It waits for more, and has read all but what fits the pipe.
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak = peak.map(|kib| kib.trim().parse::<u64>().unwrap() / 1024);
    assert_eq!(peak.is_some(), cfg!(target_os = "linux"));
    drop(input);
    (told(child.wait_with_output().unwrap()), peak)
}

fn say(input: &mut ChildStdin, line: &str) {
    writeln!(input, "{line}").unwrap();
}

fn actions(place: &Place) -> Vec<String> {
    let mut actions: Vec<_> = place
        .rows()
        .iter()
        .map(|row| row["action"].as_str().unwrap().to_owned())
        .collect();
    actions.sort();
    actions
}

#[test]
fn lines_of_a_hundred_mebibytes_cost_no_memory_and_no_neighbour() {
    for place in both() {
        assert_eq!(place.run(&["migrate"]).0, 0);
        let ((code, out, err), peak) = fed(&place, |input| {
            say(input, r#"{"action":"first"}"#);
            // A text without an end, and a number.
            for filler in [b'x', b'1'] {
                write!(
                    input,
                    "{{\"action\":\"long\",\"metadata\":{{\"x\":{}",
                    if filler == b'x' { "\"" } else { "" }
                )
                .unwrap();
                (0..100).for_each(|_| input.write_all(&[filler; MIB]).unwrap());
                say(input, "");
                say(input, r#"{"action":"neighbour"}"#);
            }
            // The last line has no end either.
            (0..100).for_each(|_| input.write_all(&[b'['; MIB]).unwrap());
        });
        assert_eq!(
            (code, out.as_str()),
            (1, "wrote 3 entries, 0 were there already, 3 lines were bad\n")
        );
        let lines: Vec<_> = err.lines().filter(|line| !line.starts_with("created ")).collect();
        let said = [2, 4, 6].map(|number| format!("line:{number}: longer than 16 MiB"));
        assert_eq!(lines, said);
        assert!(peak.is_none_or(|peak| peak < MEMORY), "{peak:?} MiB");
        assert_eq!(actions(&place), ["first", "neighbour", "neighbour"]);
    }
}

#[test]
fn many_long_lines_are_not_gathered() {
    let place = Place::new();
    let text = "x".repeat(4 * MIB);
    let ((code, out, _), peak) = fed(&place, |input| {
        for n in 0..48 {
            say(
                input,
                &format!(r#"{{"action":"long","resource_id":"{n}","metadata":{{"text":"{text}"}}}}"#),
            );
        }
    });
    assert_eq!(
        (code, out.as_str()),
        (0, "wrote 48 entries, 0 were there already, 0 lines were bad\n")
    );
    assert!(peak.is_none_or(|peak| peak < MEMORY), "{peak:?} MiB");
}

#[test]
fn bad_lines_are_named_each_and_good_ones_between_them_are_written() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let bad: Vec<(Vec<u8>, &str)> = vec![
        (
            b"{\"action\":\"\xC3\x28\"}".to_vec(),
            "invalid unicode code point",
        ),
        (
            b"{\"action\":\"x\",\"metadata\":{\"\xFF\":1}}".to_vec(),
            "invalid unicode code point",
        ),
        (br#"{"action":"\ud800"}"#.to_vec(), "unexpected end of hex escape"),
        (
            br#"{"action":"x","metadata":{"deep":["\udc00\ud800"]}}"#.to_vec(),
            "lone leading surrogate",
        ),
        (
            br#"{"action":"x","metadata":{"n":1E400}}"#.to_vec(),
            "number out of range",
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
            format!(r#"{{"action":"x","metadata":{{"d":{}}}}}"#, nested(128)).into(),
            "recursion limit",
        ),
        (
            format!(r#"{{"action":"x","metadata":{{"d":{}}}}}"#, nested(100_000)).into(),
            "recursion limit",
        ),
        (
            format!(r#"{{"action":"x","metadata":{}}}"#, "{\"d\":".repeat(100_000)).into(),
            "recursion limit",
        ),
    ];
    let mut input = Vec::new();
    for (line, _) in &bad {
        input.extend_from_slice(line);
        input.extend_from_slice(b"\n{\"action\":\"good\"}\n");
    }
    for place in both() {
        assert_eq!(place.run(&["migrate"]).0, 0);
        let (code, out, err) = place.run_with_input(&["write", "-"], &input);
        assert_eq!(code, 1, "{err}");
        assert_eq!(out, "wrote 15 entries, 0 were there already, 15 lines were bad\n");
        let lines: Vec<_> = err.lines().collect();
        assert_eq!(lines.len(), bad.len(), "{err}");
        for (nth, (line, (_, reason))) in lines.into_iter().zip(&bad).enumerate() {
            assert!(
                line.starts_with(&format!("line:{}: ", 2 * nth + 1)) && line.contains(reason),
                "{reason}: {line}"
            );
        }
        assert_eq!(place.rows().len(), bad.len());
    }
}

#[test]
fn lines_that_are_only_too_much_are_cut_and_written() {
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
    for place in both() {
        assert_eq!(place.run(&["migrate"]).0, 0);
        let (code, out, err) = place.run_with_input(&["write", "-"], input.as_bytes());
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let rows = place.rows();
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

/// Lists in both forms; every line of the second must be JSON. Gives that.
fn listed(place: &Place, rows: usize) -> String {
    let (code, out, err) = place.run(&["list", "-n", "1000"]);
    assert_eq!(
        (code, err.as_str(), out.lines().count()),
        (0, "", rows + 1),
        "{out}"
    );
    assert!(!out.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
    let (code, out, err) = place.run(&["list", "--json", "-n", "1000"]);
    assert_eq!((code, err.as_str(), out.lines().count()), (0, "", rows));
    for line in out.lines() {
        // Kept as text: it may hold numbers and depths that no value of ours can.
        serde_json::from_str::<&RawValue>(line).unwrap();
    }
    out
}

#[test]
fn whatever_is_in_postgresql_is_listed() {
    let place = Place::on_postgres();
    assert_eq!(place.run(&["migrate"]).0, 0);
    execute(
        place.postgres.as_ref().unwrap(),
        r#"INSERT INTO audit_logs (action, metadata) VALUES
             ('huge number', '{"n":1E400}'), ('long number', ('{"n":' || repeat('9', 100000) || '}')::jsonb),
             ('deep', ('{"d":' || repeat('[', 6000) || repeat(']', 6000) || '}')::jsonb),
             ('big', jsonb_build_object('t', repeat('x', 1048576))),
             ('many', (SELECT jsonb_object_agg('k' || n, n) FROM generate_series(1, 100000) n)),
             ('scalar', '"\n"'), ('null', 'null'), ('none', NULL), (E'moves\x1b[2J\r\n', '{"a":"\u001b[2J"}');
           INSERT INTO audit_logs (action, created_at) VALUES ('end', 'infinity'), ('begin', '-infinity')"#,
    );
    let json = listed(&place, 11);
    assert!(json.contains(&format!("{{\"n\": 1{}}}", "0".repeat(400))) && json.contains(&"[".repeat(6_000)));
}

#[test]
fn whatever_is_in_sqlite_is_listed() {
    let place = Place::new();
    assert_eq!(place.run(&["migrate"]).0, 0);
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
        on_sqlite(
            &place,
            &format!("INSERT INTO audit_logs (action, metadata) VALUES ('x', {text})"),
        );
    }
    let deep = |depth: usize| format!("'{}{}'", "[".repeat(depth), "]".repeat(depth));
    for text in [deep(10_000), deep(100_000), format!("'\"{}\"'", "x".repeat(MIB))] {
        on_sqlite(
            &place,
            &format!("INSERT INTO audit_logs (action, metadata) VALUES ('x', {text})"),
        );
    }
    on_sqlite(
        &place,
        "INSERT INTO audit_logs (action, actor_id, created_at, ip_address) VALUES (x'ff', x'00ff', 9223372036854775807, x'ff'), \
         (CAST(x'1b5b324a' AS TEXT), 7, -9223372036854775808, 'unknown')",
    );
    let json = listed(&place, texts.len() + 5);
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
