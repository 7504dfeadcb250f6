//! `auditlog hash`.

use crate::fixture::{CliFixture, output_of};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// HMAC-SHA-256 of `alice@example.org` with [`KEY`], by `openssl dgst -sha256 -hmac`.
const DIGEST: &str = "hmac-sha256:3c4b2380463bfa993aab26f6640e5e02b47b9ba79fabd5dc8bd9f9a033048184";

/// The same of the empty value.
const EMPTY: &str = "hmac-sha256:796cd3078af14636753d26b3b5555422ff55a3e261cf847b48e95371b9bd0aa2";

fn hash(key: Option<&str>, value: &str, input: &[u8]) -> (i32, String, String) {
    use std::io::Write;
    use std::process::Stdio;
    let cli = CliFixture::new();
    let mut command = cli.command(&["hash", value]);
    if let Some(key) = key {
        command.env("AUDIT_HASH_KEY", key);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command without a key does not read it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let ended = output_of(child.wait_with_output().unwrap());
    assert_eq!(cli.dir.path().read_dir().unwrap().count(), 0, "it leaves no file");
    ended
}

#[test]
fn a_value_has_the_digest_that_an_entry_has() {
    let (code, out, err) = hash(Some(KEY), "alice@example.org", b"");
    assert_eq!((code, &*out, &*err), (0, &*format!("{DIGEST}\n"), ""));
}

#[test]
fn each_line_of_standard_input_gets_its_digest() {
    let input = b"alice@example.org\nalice@example.org\r\n\nalice@example.org";
    let (code, out, err) = hash(Some(KEY), "-", input);
    assert_eq!((code, &*err), (0, ""));
    assert_eq!(out.lines().collect::<Vec<_>>(), [DIGEST, DIGEST, EMPTY, DIGEST]);
    assert_eq!(hash(Some(KEY), "-", b"").1, "");
}

#[test]
fn without_a_key_there_is_no_digest() {
    for key in [None, Some("")] {
        for value in ["alice", "-"] {
            let (code, out, err) = hash(key, value, b"");
            assert_eq!((code, &*out), (3, ""), "{key:?} {value}");
            assert!(err.contains("no hash key is set: set AUDIT_HASH_KEY"), "{err}");
        }
    }
}

#[test]
fn a_short_key_is_refused_and_not_printed() {
    let key = "kumquat-jam";
    let (code, out, err) = hash(Some(key), "alice", b"");
    assert_eq!((code, &*out), (3, ""));
    assert!(
        err.contains("auditlog: the hash key is shorter than 16 bytes") && !err.contains(key),
        "{err}"
    );
}

#[test]
fn a_line_of_any_length_takes_bounded_memory() {
    let mut input = b"alice@example.org\n".to_vec();
    input.resize(input.len() + (17 << 20), b'x');
    let (code, out, err) = hash(Some(KEY), "-", &input);
    assert_eq!((code, &*out), (3, &*format!("{DIGEST}\n")));
    assert!(err.contains("longer than 16 MiB"), "{err}");
}

#[cfg(unix)]
#[test]
fn bytes_that_are_no_unicode_have_a_digest() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let cli = CliFixture::new();
    let mut command = cli.command(&["hash"]);
    command
        .arg(OsStr::from_bytes(b"caf\xe9"))
        .env("AUDIT_HASH_KEY", KEY);
    let (code, out, err) = output_of(command.output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert_eq!(out, hash(Some(KEY), "-", b"caf\xe9\n").1);
}
