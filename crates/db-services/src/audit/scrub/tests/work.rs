//! The work grows with the length of a text, and not with its square.

use super::super::members::scrub_json;
use super::*;

/// The most bytes that are looked at for each byte of a text.
const MAX_WORK: usize = 16;

fn work_of<T>(run: impl FnOnce() -> T) -> usize {
    WORK.set(0);
    std::hint::black_box(run());
    WORK.get()
}

#[test]
fn no_byte_of_a_text_is_looked_at_again_and_again() {
    let all = ScrubRules::new().compile_for_tests();
    let none = Shape::ALL
        .into_iter()
        .fold(ScrubRules::new(), ScrubRules::without);
    let none = none.compile_for_tests();
    for part in [
        "token=",
        "token: \"",
        "token:\\\"",
        "token\\\":\\\"",
        "token=\\",
        "keykey",
        "key_",
        "eyJ-",
        "eyJ.",
        "Bearer ",
        "Bearer eyJ",
        "://a:b",
        "://a:b@",
        "-----BEGIN RSA PRIVATE KEY",
        "-----BEGIN PRIVATE KEY-----\n",
        "ghp_",
        "4111 ",
        "4111-1111-1111-1111 ",
        "password",
        "AKIA",
        "hooks.slack.com/",
        "\\",
        "\"",
        "\n4",
        "SG.",
        "5555555555554444,",
        "glpat-",
        "[scrubbed",
        "[scrubbed: key] 1",
        "<token>",
        "Cookie: a\n",
        "user[password]=",
        "Basic dTpw",
    ] {
        let text = part.repeat(200_000 / part.len());
        let json = serde_json::to_string(&json!({"note": text, "token": text, (text.clone()): 1})).unwrap();
        for scrubber in [&all, &none] {
            let work = work_of(|| text::scrub_text(scrubber, &text));
            assert!(work <= MAX_WORK * text.len(), "{part:?}: {}", work / text.len());
            let work = work_of(|| scrub_json(scrubber, &json, &|_| false));
            assert!(
                work <= MAX_WORK * json.len(),
                "{part:?} in JSON: {}",
                work / json.len()
            );
        }
    }
}

#[test]
fn no_member_of_a_document_is_looked_at_again_and_again() {
    let list: Vec<u64> = vec![5_555_555_555_554_444; 20_000];
    let key = format!("ghp_{}", random(ALPHANUMERIC, 36));
    let members: serde_json::Map<_, _> = (0..10_000)
        .map(|nth| {
            (
                format!("{key}{nth} password"),
                json!({"name": "token", "value": nth}),
            )
        })
        .collect();
    let nested = (0..60).fold(
        json!(1),
        |nested, _| json!({"changes": [{"from": nested, "path": "/password", "pad": "x".repeat(10_000)}]}),
    );
    let scrubber = ScrubRules::new().compile_for_tests();
    for value in [json!({"list": list}), json!({"members": members}), nested] {
        let json = value.to_string();
        let work = work_of(|| scrub_json(&scrubber, &json, &|_| false));
        assert!(work > 0 && work <= MAX_WORK * json.len(), "{}", work / json.len());
    }
}
