//! Members of two tenants.

use serde_json::json;

use crate::world::{metadata, on_both};

#[tokio::test(flavor = "multi_thread")]
async fn a_member_keeps_skills_and_each_change_is_on_record() {
    on_both(async |world| {
        for (name, tenant) in [("alice", "acme"), ("dave", "globex")] {
            let mut browser = world.signed_in(name).await;
            let who = format!("success user:{name} {tenant}");

            let created = browser.post("/skills", &[("name", "<Go>"), ("level", "2")]).await;
            let id = created.rows[0].resource_id.clone().unwrap();
            assert_eq!((created.status, created.location.as_str()), (303, "/skills"));
            assert_eq!(created.entries, [format!("skill.create {who} skill/{id}")]);
            assert_eq!(metadata(&created.rows[0]), json!({"name": "<Go>", "level": 2}));
            let page = browser.get("/skills").await;
            assert!(
                page.body.contains("&lt;Go&gt;") && !page.body.contains("<Go>"),
                "{}",
                page.body
            );
            assert!(page.entries.is_empty());

            let path = format!("/skills/{id}");
            assert_eq!(browser.get(&path).await.status, 200);
            let updated = browser.post(&path, &[("name", "<Go>"), ("level", "3")]).await;
            assert_eq!(updated.entries, [format!("skill.update {who} skill/{id}")]);
            let changes = json!([{"path": "/level", "from": 2, "to": 3}]);
            assert_eq!(metadata(&updated.rows[0]), json!({"changes": changes}));

            let exported = browser.get("/skills.json").await;
            assert!(exported.body.contains("\"level\":3"), "{}", exported.body);
            assert_eq!(exported.entries, [format!("skill.export {who}")]);
            assert!(metadata(&exported.rows[0])["duration_ms"].is_number());

            let deleted = browser.post(&format!("{path}/delete"), &[]).await;
            assert_eq!(deleted.entries, [format!("skill.delete {who} skill/{id}")]);
            assert_eq!(metadata(&deleted.rows[0]), json!({"name": "<Go>", "owner": name}));
            assert_eq!(browser.get(&path).await.status, 404);

            let left = browser.post("/sign-out", &[]).await;
            assert_eq!((left.status, left.location.as_str()), (303, "/sign-in"));
            assert_eq!(left.entries, [format!("auth.logout {who} user/{name}")]);
            assert_eq!(browser.get("/skills").await.location, "/sign-in");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_may_not_do_is_denied_and_on_record() {
    on_both(async |world| {
        let mut bob = world.signed_in("bob").await;
        let merge: &[_] = &[("from", "postgres"), ("into", "postgresql")];
        let settings: &[_] = &[("name", "Bob's"), ("webhook_url", ""), ("webhook_secret", "")];
        let skill: &[_] = &[("name", "Rust"), ("level", "1")];
        let denied = [
            (
                "/skills/rust",
                skill,
                "skill.update denied user:bob acme skill/rust",
            ),
            // The action that it would have been.
            (
                "/skills/rust/delete",
                &[],
                "admin.delete_skill denied user:bob acme skill/rust",
            ),
            (
                "/skills/merge",
                merge,
                "admin.merge_skills denied user:bob acme skill/postgresql",
            ),
            ("/settings", settings, "settings.update denied user:bob acme"),
        ];
        for (path, fields, entry) in denied {
            let answer = bob.post(path, fields).await;
            assert_eq!(answer.status, 403, "{path}");
            assert_eq!(answer.entries, [entry]);
        }
        assert!(bob.get("/settings").await.body.contains("Only an administrator"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_on_record() {
    on_both(async |world| {
        let mut alice = world.signed_in("alice").await;
        let skill = |name, level| [("name", name), ("level", level)];
        let failures: [(&str, &[_], u16, &str, &str); 6] = [
            (
                "/skills/rust",
                &skill("Rust", "6"),
                422,
                "skill.update failure user:alice acme skill/rust",
                "a level",
            ),
            (
                "/skills/rust",
                &skill(" ", "5"),
                422,
                "skill.update failure user:alice acme skill/rust",
                "a name",
            ),
            (
                "/skills/rust",
                &skill("Postgres", "5"),
                422,
                "skill.update failure user:alice acme skill/rust",
                "already",
            ),
            (
                "/skills/none/delete",
                &[],
                404,
                "skill.delete failure user:alice acme skill/none",
                "no such",
            ),
            (
                "/skills/none",
                &skill("x", "5"),
                404,
                "skill.update failure user:alice acme skill/none",
                "no such",
            ),
            (
                "/api-keys/none/revoke",
                &[],
                404,
                "api_key.revoke failure user:alice acme api_key/none",
                "no such",
            ),
        ];
        for (path, fields, status, entry, error) in failures {
            let answer = alice.post(path, fields).await;
            assert_eq!(answer.status, status, "{path}");
            assert_eq!(answer.entries, [entry]);
            assert!(
                metadata(&answer.rows[0])["error"]
                    .as_str()
                    .unwrap()
                    .contains(error),
                "{path}: {error}"
            );
        }
        let twice = alice.post("/skills", &skill("Rust", "1")).await;
        assert_eq!(twice.status, 422);
        assert!(twice.entries[0].starts_with("skill.create failure user:alice acme skill/"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_nothing_of_another_one() {
    on_both(async |world| {
        let mut alice = world.signed_in("alice").await;
        let mut dave = world.signed_in("dave").await;
        // They exist, for their tenants.
        assert!(alice.get("/skills").await.body.contains("Rust"));
        assert_eq!(alice.get("/skills/rust").await.status, 200);
        assert_eq!(dave.get("/skills/cobol").await.status, 200);

        assert_eq!(dave.get("/skills/rust").await.status, 404);
        let skill: &[_] = &[("name", "Rust"), ("level", "1")];
        for (path, fields) in [("/skills/rust", skill), ("/skills/rust/delete", &[])] {
            let answer = dave.post(path, fields).await;
            assert_eq!(answer.status, 404);
            assert!(
                answer.entries[0].contains("failure user:dave globex skill/rust"),
                "{:?}",
                answer.entries
            );
        }
        let (of_acme, of_globex) = (alice.get("/trail").await, dave.get("/trail").await);
        assert_eq!(of_acme.entries, ["trail.read success user:alice acme"]);
        assert_eq!(of_globex.entries, ["trail.read success user:dave globex"]);
        for (page, own, foreign) in [(of_acme, "user alice", "dave"), (of_globex, "user dave", "alice")] {
            assert!(
                page.body.contains(own) && page.body.contains("demo.seed"),
                "{}",
                page.body
            );
            assert!(!page.body.contains(foreign), "{}", page.body);
        }
        for page in ["/skills", "/skills.json", "/api-keys", "/settings"] {
            let (of_acme, of_globex) = (alice.get(page).await.body, dave.get(page).await.body);
            assert!(
                !of_globex.contains("Rust") && !of_globex.contains("Acme"),
                "{page}"
            );
            assert!(
                !of_acme.contains("COBOL") && !of_acme.contains("Globex"),
                "{page}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_characters_that_are_not_seen_is_refused_and_on_record() {
    on_both(async |world| {
        let mut alice = world.signed_in("alice").await;
        for name in ["a\0b", "Rust\u{200b}", "\u{202e}tsuR", "a\nb"] {
            let refused = alice.post("/skills", &[("name", name), ("level", "1")]).await;
            assert_eq!(refused.status, 422, "{name:?}");
            assert!(refused.entries[0].starts_with("skill.create failure user:alice acme"));
        }
    })
    .await;
}
