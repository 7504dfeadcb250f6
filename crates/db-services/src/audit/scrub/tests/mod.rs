//! The built-in rules on secrets in real formats, on look-alikes, and on arbitrary JSON.
//!
//! Secrets are put together here, so that no scanner objects to the file.

mod look_alikes;
mod members;
mod properties;
mod texts;
mod values;
mod work;

use std::cell::Cell;

use db_schema::NewAuditLog;
use serde_json::{Value, json};

use super::*;
use crate::audit::{Changes, Metadata};

thread_local! {
    /// The bytes that this thread has looked at.
    pub(super) static WORK: Cell<usize> = const { Cell::new(0) };
}

/// `length` characters of an alphabet, the same ones each time.
fn random(alphabet: &str, length: usize) -> String {
    let letters: Vec<char> = alphabet.chars().collect();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ length as u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        letters[usize::try_from(state % letters.len() as u64).unwrap()]
    };
    (0..length).map(|_| next()).collect()
}

const ALPHANUMERIC: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const HEX: &str = "0123456789abcdef";
const BASE64URL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Secrets as their issuers make them.
fn secrets() -> Vec<String> {
    let alnum = |prefix: &str, length| format!("{prefix}{}", random(ALPHANUMERIC, length));
    let hex = |prefix: &str, length| format!("{prefix}{}", random(HEX, length));
    let base64 = |prefix: &str, length: usize| format!("{prefix}{}x", random(BASE64URL, length - 1));
    let jwt = format!(
        "{}.{}.{}",
        base64("eyJ", 33),
        base64("eyJ", 70),
        random(BASE64URL, 43)
    );
    let pem = |label: &str| {
        let body: Vec<String> = (0..6).map(|_| random(ALPHANUMERIC, 64)).collect();
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----",
            body.join("\n")
        )
    };
    vec![
        format!("AKIA{}", random(UPPER, 16)),
        format!("ASIA{}", random(UPPER, 16)),
        alnum("ghp_", 36),
        alnum("gho_", 36),
        alnum("ghs_", 36),
        format!("{}_{}", alnum("github_pat_", 22), random(ALPHANUMERIC, 59)),
        base64("glpat-", 20),
        base64("glrt-", 20),
        format!(
            "xoxb-{}-{}-{}",
            random("0123456789", 12),
            random("0123456789", 12),
            random(ALPHANUMERIC, 24)
        ),
        format!("xapp-1-A0{}-{}", random("0123456789", 10), random(HEX, 64)),
        alnum("sk_live_", 24),
        alnum("rk_test_", 24),
        alnum("whsec_", 32),
        base64("sk-ant-api03-", 95),
        base64("sk-proj-", 120),
        format!(
            "sk-{}T3BlbkFJ{}",
            random(ALPHANUMERIC, 20),
            random(ALPHANUMERIC, 20)
        ),
        base64("AIza", 35),
        base64("GOCSPX-", 28),
        base64("ya29.a0", 120),
        alnum("npm_", 36),
        base64("pypi-AgEIcHlwaS5vcmc", 150),
        base64("dckr_pat_", 27),
        hex("dop_v1_", 64),
        hex("shpat_", 32),
        format!(
            "SG.{}.{}",
            random(BASE64URL, 21) + "a",
            random(BASE64URL, 42) + "b"
        ),
        base64("tskey-auth-", 40),
        base64("hvs.", 90),
        alnum("dp.pt.", 43),
        alnum("hf_", 34),
        base64("sq0atp-", 22),
        alnum("lin_api_", 40),
        format!("PMAK-{}-{}", random(HEX, 24), random(HEX, 34)),
        hex("rubygems_", 48),
        hex("pul-", 40),
        hex("dapi", 32),
        base64("glsa_", 41),
        format!(
            "AGE-SECRET-KEY-1{}",
            random("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)
        ),
        jwt,
        pem("PRIVATE KEY"),
        pem("RSA PRIVATE KEY"),
        pem("OPENSSH PRIVATE KEY"),
        pem("ENCRYPTED PRIVATE KEY"),
        pem("PGP PRIVATE KEY BLOCK"),
        "4111 1111 1111 1111".to_owned(),
        "5555555555554444".to_owned(),
        "3782-822463-10005".to_owned(),
        "6011111111111117".to_owned(),
        "30569309025904".to_owned(),
        "3530111333300000".to_owned(),
        "6200000000000005".to_owned(),
        "4000 0000 0000 0000 006".to_owned(),
    ]
}

/// The metadata as it is stored.
fn stored(metadata: &Value) -> Value {
    let entry = AuditEntry::new("x").metadata(metadata.clone());
    serde_json::from_str(NewAuditLog::from(entry).metadata.as_str()).unwrap()
}

/// A text as it is stored, as a member of the metadata and as a column.
fn stored_text(text: &str) -> String {
    let row = NewAuditLog::from(AuditEntry::new("x").resource("x", text).detail("note", text));
    let note: Value = serde_json::from_str(row.metadata.as_str()).unwrap();
    let (note, column) = (
        note["note"].as_str().unwrap().to_owned(),
        row.resource_id.unwrap(),
    );
    assert_eq!(note, column.as_str());
    note
}
