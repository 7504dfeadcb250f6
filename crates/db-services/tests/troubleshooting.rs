//! docs/troubleshooting.md explains every log line of the writer and its spool, and every reason for which an
//! entry is dropped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use db_services::audit::DropReason;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The string literal that comes next in a source: continued lines joined, each placeholder as `…`.
fn next_literal(source: &str) -> String {
    let text = &source[source.find('"').expect("a literal follows") + 1..];
    let (mut literal, mut chars) = (String::new(), text.chars().peekable());
    while let Some(char) = chars.next() {
        match char {
            '"' => break,
            '\\' => match chars.next() {
                Some('\n') => while chars.next_if(|next| next.is_whitespace()).is_some() {},
                Some(escaped) => literal.push(escaped),
                None => break,
            },
            '{' => {
                while chars.next().is_some_and(|next| next != '}') {}
                literal.push('…');
            }
            other => literal.push(other),
        }
    }
    // Two that follow each other are one part that differs.
    literal.replace("……", "…")
}

/// The texts after each occurrence of a macro.
fn literals(source: &str, macro_call: &str) -> Vec<String> {
    source
        .match_indices(macro_call)
        .map(|(at, found)| next_literal(&source[at + found.len()..]))
        .collect()
}

fn log_lines() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&repository().join("crates/db-services/src/audit"), &mut files);
    let (mut lines, mut without_text) = (BTreeSet::new(), 0);
    for file in files.iter().filter(|file| !file.ends_with("_tests.rs")) {
        let source = read(file);
        for level in ["log::error!(", "log::warn!("] {
            for line in literals(&source, level) {
                without_text += usize::from(line == "…");
                lines.insert(line);
            }
        }
    }
    // The spool's notices are written by their `Display`, once with each level. Any other line has a text of its own.
    lines.remove("…");
    assert_eq!(without_text, 2, "the lines that log a notice of the spool");
    let notices = read(&repository().join("crates/audit-core/src/spool/notice.rs"));
    lines.extend(literals(&notices, "write!("));
    lines
}

#[test]
fn the_page_explains_every_log_line() {
    let page = read(&repository().join("docs/troubleshooting.md"));
    let headings: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .collect();
    let lines = log_lines();
    assert!(lines.len() > 30, "the sources were searched: {lines:#?}");
    let missing: Vec<&String> = lines
        .iter()
        .filter(|line| !headings.contains(line.as_str()))
        .collect();
    assert!(missing.is_empty(), "not on the page: {missing:#?}");
    let stale: Vec<&&str> = headings
        .iter()
        .filter(|heading| !lines.contains(**heading))
        .collect();
    assert!(stale.is_empty(), "on the page and logged nowhere: {stale:#?}");
}

#[test]
fn the_page_explains_every_reason_for_a_drop() {
    let page = read(&repository().join("docs/troubleshooting.md"));
    for label in DropReason::LABELS {
        assert!(page.contains(&format!("| `{label}` |")), "{label}");
    }
}
