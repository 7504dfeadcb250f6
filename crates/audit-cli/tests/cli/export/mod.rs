//! `auditlog export`.

mod files;
mod positions;
mod readers;

use std::io::Read;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::fixture::CliFixture;

/// A trail with 1,285 real events, imported with the command.
pub(crate) fn with_events(cli: CliFixture) -> CliFixture {
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let records = unzip(include_bytes!("../../../../../tests/data/cloudtrail.ndjson.gz"));
    let records = String::from_utf8(records).unwrap();
    let log = format!(
        "{{\"Records\":[{}]}}",
        records.lines().collect::<Vec<_>>().join(",")
    );
    std::fs::write(cli.dir.path().join("log.json"), log).unwrap();
    let (code, out, err) = cli.run(&["import", "cloudtrail", "log.json"]);
    assert!(
        code == 0 && out.starts_with("imported 1,285 events,"),
        "{out}{err}"
    );
    cli
}

/// Standard error without the note on open transactions: those of other tests on the server are open for a moment.
pub(crate) fn without_open_transactions(err: &str) -> String {
    err.lines()
        .filter(|line| !line.contains(" open: their entries"))
        .collect()
}

pub(crate) fn unzip(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes)
        .read_to_end(&mut content)
        .unwrap();
    content
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The lines of an export, as values.
pub(crate) fn values(lines: &[u8]) -> Vec<Value> {
    let lines = std::str::from_utf8(lines).unwrap().lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The manifest of a file, after comparing it with the file.
pub(crate) fn checked_manifest(file: &Path) -> Value {
    let manifest = std::fs::read(format!("{}.manifest.json", file.display())).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let content = std::fs::read(file).unwrap();
    assert_eq!(manifest["file"], file.file_name().unwrap().to_str().unwrap());
    assert_eq!(manifest["file_bytes"], content.len());
    assert_eq!(manifest["file_sha256"], sha256(&content));
    let lines = match manifest["compression"].as_str() {
        Some("gzip") => unzip(&content),
        Some("zstd") => zstd::decode_all(&content[..]).unwrap(),
        _ => content,
    };
    assert_eq!(manifest["bytes"], lines.len());
    assert_eq!(manifest["sha256"], sha256(&lines));
    if manifest["lines"] == "ndjson" {
        assert_eq!(manifest["rows"], values(&lines).len());
    }
    manifest
}

/// The names of the files in the directory that belong to an export.
pub(crate) fn files_of(cli: &CliFixture, beginning: &str) -> Vec<String> {
    let entries = std::fs::read_dir(&cli.dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(beginning)).collect();
    names.sort();
    names
}
