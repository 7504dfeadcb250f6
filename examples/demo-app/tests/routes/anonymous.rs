//! Nobody is signed in.

use crate::world::on_both;

type Fields = &'static [(&'static str, &'static str)];

/// Each route that changes something, its fields, and the entry of the attempt.
const CHANGES: [(&str, Fields, &str); 8] = [
    ("/sign-out", &[], "auth.logout denied anonymous -"),
    (
        "/skills/rust",
        &[("name", "Rust"), ("level", "1")],
        "skill.update denied anonymous - skill/rust",
    ),
    (
        "/skills/rust/delete",
        &[],
        "skill.delete denied anonymous - skill/rust",
    ),
    (
        "/skills/merge",
        &[("from", "postgres"), ("into", "rust")],
        "admin.merge_skills denied anonymous - skill/rust",
    ),
    (
        "/api-keys/k-1/revoke",
        &[],
        "api_key.revoke denied anonymous - api_key/k-1",
    ),
    (
        "/settings",
        &[("name", "x"), ("webhook_url", ""), ("webhook_secret", "")],
        "settings.update denied anonymous -",
    ),
    // These make an id, which the entry has.
    (
        "/skills",
        &[("name", "Go"), ("level", "1")],
        "skill.create denied anonymous - skill/",
    ),
    (
        "/api-keys",
        &[("name", "ci")],
        "api_key.create denied anonymous - api_key/",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_visitor_changes_nothing_and_each_attempt_is_on_record() {
    on_both(async |world| {
        let mut browser = world.browser();
        for (path, fields, expected) in CHANGES {
            let answer = browser.post(path, fields).await;
            assert_eq!(
                (answer.status, answer.location.as_str()),
                (303, "/sign-in"),
                "{path}"
            );
            let [entry] = &answer.entries[..] else {
                panic!("{path}: {:?}", answer.entries)
            };
            assert!(
                entry == expected || expected.ends_with('/') && entry.starts_with(expected),
                "{path}: {entry}"
            );
        }
        let skills = world.signed_in("carol").await.get("/skills.json").await.body;
        for skill in ["Rust", "Postgres", "PostgreSQL"] {
            assert!(skills.contains(&format!("\"{skill}\"")), "{skills}");
        }
        assert!(!skills.contains("Go"), "{skills}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_visitor_sees_nothing_but_the_sign_in() {
    on_both(async |world| {
        let mut browser = world.browser();
        for path in ["/skills", "/skills/rust", "/api-keys", "/settings"] {
            let answer = browser.get(path).await;
            assert_eq!(
                (answer.status, answer.location.as_str()),
                (303, "/sign-in"),
                "{path}"
            );
            assert!(
                answer.entries.is_empty(),
                "{path}: nothing happens: {:?}",
                answer.entries
            );
        }
        // Reading these is recorded, and so is the refusal.
        for (path, entry) in [
            ("/skills.json", "skill.export denied anonymous -"),
            ("/trail", "trail.read denied anonymous -"),
        ] {
            let answer = browser.get(path).await;
            assert_eq!(
                (answer.status, answer.location.as_str()),
                (303, "/sign-in"),
                "{path}"
            );
            assert_eq!(answer.entries, [entry]);
        }
        for (path, status) in [
            ("/", 303),
            ("/sign-in", 200),
            ("/style.css", 200),
            ("/nowhere", 404),
        ] {
            let answer = browser.get(path).await;
            assert_eq!(answer.status, status, "{path}");
            assert!(answer.entries.is_empty(), "{path}: {:?}", answer.entries);
        }
    })
    .await;
}
