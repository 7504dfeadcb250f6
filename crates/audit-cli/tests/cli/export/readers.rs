//! What other programs read from an export.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{checked_manifest, unzip, values, with_events, without_open_transactions};
use crate::fixture::CliFixture;
use crate::matrix::{Session, server};

/// The records of CSV, by the names of the columns.
fn records(csv: &[u8]) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(csv);
    reader.deserialize().map(|record| record.unwrap()).collect()
}

/// A cell without the apostrophe before it.
fn value_of(cell: &str) -> &str {
    cell.strip_prefix('\'').unwrap_or(cell)
}

/// A member of a JSON line as the text of its cell.
fn text_of(name: &str, value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if name != "metadata" => text.clone(),
        other => other.to_string(),
    }
}

/// Compares each cell with the member of the JSON line.
fn assert_same(json: &[Value], csv: &[BTreeMap<String, String>]) {
    assert_eq!(json.len(), csv.len());
    for (line, record) in json.iter().zip(csv) {
        let line = line.as_object().unwrap();
        assert_eq!(line.len(), record.len());
        for (name, value) in line {
            let cell = value_of(&record[name]);
            if name == "metadata" && !value.is_null() {
                assert_eq!(&serde_json::from_str::<Value>(cell).unwrap(), value);
            } else {
                assert_eq!(cell, text_of(name, value), "{name}");
            }
        }
    }
}

#[test]
fn readers_of_json_and_csv_find_each_event_with_its_values() {
    for cli in CliFixture::on_both().map(with_events) {
        let mut stored = cli.rows();
        let (code, out, err) = cli.run(&["export", "--no-record"]);
        assert_eq!((code, &*without_open_transactions(&err)), (0, ""));
        let mut exported = values(out.as_bytes());
        let (code, out, err) = cli.run(&["export", "--no-record", "--format", "csv"]);
        assert_eq!((code, &*without_open_transactions(&err)), (0, ""));
        assert_same(&exported, &records(out.as_bytes()));
        let by_id = |row: &Value| row["id"].as_str().unwrap().to_owned();
        stored.sort_by_key(by_id);
        exported.sort_by_key(by_id);
        assert_eq!(exported.len(), 1_285);
        assert_eq!(exported, stored);
    }
}

#[test]
fn an_exported_trail_is_written_into_another_one() {
    let cli = with_events(CliFixture::new());
    assert_eq!(cli.run(&["export", "--out", "trail.ndjson"]).0, 0);
    // The trail that takes a row decides about these.
    const OWN: [&str; 4] = ["recorded_at", "tx_id", "writer_id", "writer_seq"];
    let without = |rows: Vec<Value>| -> Vec<Value> {
        let kept = rows.into_iter().map(|mut row| {
            row.as_object_mut()
                .unwrap()
                .retain(|name, _| !OWN.contains(&name.as_str()));
            row
        });
        kept.collect()
    };
    let lines = std::fs::read(cli.dir.path().join("trail.ndjson")).unwrap();
    let lines: Vec<_> = without(values(&lines)).iter().map(Value::to_string).collect();
    let other = CliFixture::on_postgres();
    assert_eq!(other.run(&["migrate"]).0, 0);
    std::fs::write(other.dir.path().join("trail.ndjson"), lines.join("\n")).unwrap();
    let (code, out, err) = other.run(&["write", "trail.ndjson"]);
    assert!(code == 0 && out.starts_with("wrote 1,285 entries"), "{out}{err}");
    let described = |cli: &CliFixture| {
        let mut rows = without(cli.rows());
        for row in &mut rows {
            // A caller cannot forge what the library adds.
            let metadata = row["metadata"].as_object_mut().unwrap();
            let added = metadata
                .remove("app._audit")
                .or_else(|| metadata.remove("_audit"));
            metadata.extend(added.map(|added| ("_audit".to_owned(), added)));
        }
        rows.sort_by_key(|row| row["id"].as_str().unwrap().to_owned());
        rows
    };
    assert_eq!(described(&other), described(&cli));
}

#[test]
fn cells_that_look_like_formulas_are_harmless_and_every_value_can_be_read() {
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        let hostile = [
            "=cmd|' /C calc'!A0",
            "+1",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\r\n=1",
            "'=1",
            "a,\"b\"\nc",
            "日本語",
        ];
        for text in hostile {
            assert_eq!(
                cli.run(&["write", "--action", "x", &format!("--actor={text}")]).0,
                0
            );
        }
        let (_, json, _) = cli.run(&["export", "--no-record"]);
        let (_, csv, _) = cli.run(&["export", "--no-record", "--format", "csv"]);
        let (json, csv) = (values(json.as_bytes()), records(csv.as_bytes()));
        assert_same(&json, &csv);
        let mut found: Vec<_> = json
            .iter()
            .map(|line| line["actor_id"].as_str().unwrap())
            .collect();
        let mut expected = hostile.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        let harmful = ['=', '+', '-', '@', '\t', '\r', '\n'];
        let cells = csv.iter().flat_map(BTreeMap::values);
        assert_eq!(cells.filter(|cell| cell.starts_with(harmful)).count(), 0);
    }
}

#[test]
fn compressed_files_have_the_same_lines() {
    let cli = with_events(CliFixture::new());
    let export = |arguments: &[&str], file: &str| {
        let (code, _, err) = cli.run(&[&["export", "--no-record", "--out", file], arguments].concat());
        assert_eq!(code, 0, "{err}");
        let path = cli.dir.path().join(file);
        (checked_manifest(&path), std::fs::read(path).unwrap())
    };
    let (plain, lines) = export(&[], "a.ndjson");
    let (gzip, zipped) = export(&["--gzip"], "a.ndjson.gz");
    let (zstd, zstd_lines) = export(&["--zstd"], "a.ndjson.zst");
    assert_eq!(unzip(&zipped), lines);
    assert_eq!(zstd::decode_all(&zstd_lines[..]).unwrap(), lines);
    for manifest in [&gzip, &zstd] {
        assert_eq!(
            (&manifest["rows"], &manifest["sha256"]),
            (&plain["rows"], &plain["sha256"])
        );
        assert!(manifest["file_bytes"].as_u64() < plain["file_bytes"].as_u64());
    }
    assert_eq!(plain["rows"], 1_285);
    let printed = cli
        .command(&["export", "--no-record", "--gzip"])
        .output()
        .unwrap();
    assert_eq!(unzip(&printed.stdout), lines);
}

#[test]
fn large_rows_are_exported_whole() {
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        let lines: String = (0..40)
            .map(|nth| {
                format!(
                    "{{\"action\":\"large\",\"metadata\":{{\"n\":{nth},\"text\":\"{}\"}}}}\n",
                    "x".repeat(60_000)
                )
            })
            .collect();
        assert_eq!(cli.run_with_input(&["write", "-"], lines.as_bytes()).0, 0);
        let (code, out, err) = cli.run(&["export", "--no-record"]);
        assert_eq!(code, 0, "{err}");
        let exported = values(out.as_bytes());
        assert_eq!(exported.len(), 40);
        assert!(out.len() > 40 * 50_000, "{}", out.len());
    }
}

#[test]
fn a_reader_of_one_tenant_exports_its_entries_alone() {
    let url = server().migrated().unwrap();
    Session::open(&url).batch(
        "INSERT INTO audit_logs (action, tenant_id) SELECT 'x', t FROM unnest('{acme,acme,globex}'::text[]) t; \
         DO $$ BEGIN CREATE ROLE tenants_exporter LOGIN PASSWORD 'pw'; EXCEPTION WHEN duplicate_object THEN NULL; END $$; \
         GRANT audit_reader TO tenants_exporter",
    );
    let reader = server().url_as("tenants_exporter", "pw", url.rsplit_once('/').unwrap().1);
    let cli = CliFixture::new();
    let export = |url: &str, tenant: &str| {
        let (code, out, err) = cli.run(&["--database-url", url, "export", "--tenant", tenant]);
        assert_eq!(code, 0, "{err}");
        values(out.as_bytes())
    };
    assert_eq!(export(&url, "globex").len(), 1, "the entry exists");
    let own = export(&reader, "acme");
    assert_eq!(own.len(), 2);
    assert!(own.iter().all(|row| row["tenant_id"] == "acme"));
    let (code, out, err) = cli.run(&[
        "--database-url",
        &reader,
        "export",
        "--tenant",
        "acme",
        "tenant:globex",
    ]);
    assert_eq!((code, &*out), (0, ""), "{err}");
    let (code, out, err) = cli.run(&["--database-url", &reader, "export"]);
    assert_eq!((code, &*out), (0, ""), "{err}");
}
