//! An administrator, and programs with API keys.

use db_services::client::Connection;
use db_test::wait_for;
use diesel::sql_query;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use serde_json::json;

use crate::browser::Answer;
use crate::process::Count;
use crate::world::{World, metadata, on_both};

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_merges_skills_in_one_transaction() {
    on_both(async |world| {
        let mut carol = world.signed_in("carol").await;
        let merged = carol
            .post("/skills/merge", &[("from", "postgresql"), ("into", "postgres")])
            .await;
        assert_eq!((merged.status, merged.location.as_str()), (303, "/skills"));
        assert_eq!(
            merged.entries,
            ["admin.merge_skills success user:carol acme skill/postgres"]
        );
        assert!(
            merged.rows[0].writer_id.is_none(),
            "inserted with the change, and not by the writer"
        );
        let changes = json!([{"path": "/level", "from": 3, "to": 5}]);
        let expected = json!({"merged": "postgresql", "merged_name": "PostgreSQL", "changes": changes});
        assert_eq!(metadata(&merged.rows[0]), expected);
        assert_eq!(carol.get("/skills/postgresql").await.status, 404);

        // A merge that fails leaves both skills, and an entry of the failure alone.
        for (from, into, status) in [
            ("rust", "none", 404),
            ("none", "rust", 404),
            ("rust", "rust", 422),
            ("rust", "cobol", 404),
        ] {
            let failed = carol
                .post("/skills/merge", &[("from", from), ("into", into)])
                .await;
            assert_eq!(failed.status, status);
            assert_eq!(
                failed.entries,
                [format!("admin.merge_skills failure user:carol acme skill/{into}")]
            );
            assert_eq!(carol.get("/skills/rust").await.status, 200);
        }
    })
    .await;
}

/// Sends a form while a change of a skill is not committed yet. SQLite has one writer at a time: it needs no test.
async fn during_a_change(world: &World, path: &str, fields: &[(&str, &str)]) -> Option<Answer> {
    let mut carol = world.signed_in("carol").await;
    let Connection::Postgres(mut other) = world.database.connection().await.unwrap() else {
        return None;
    };
    let change = "BEGIN; UPDATE skills SET name = 'Changed', level = 5 WHERE id = 'rust'";
    other.batch_execute(change).await.unwrap();
    let commit = async {
        let waiting = "SELECT COUNT(*) AS count FROM pg_locks WHERE NOT granted";
        wait_for("a request that waits for the change", async || {
            let waiting: Count = sql_query(waiting).get_result(&mut other).await.unwrap();
            waiting.count > 0
        })
        .await;
        other.batch_execute("COMMIT").await.unwrap();
    };
    let (answer, ()) = tokio::join!(carol.post(path, fields), commit);
    assert_eq!(answer.status, 303);
    Some(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_waits_for_a_change_that_is_under_way() {
    on_both(async |world| {
        let fields = [("from", "postgres"), ("into", "rust")];
        if let Some(merged) = during_a_change(world, "/skills/merge", &fields).await {
            let expected = json!({"merged": "postgres", "merged_name": "Postgres", "changes": []});
            assert_eq!(metadata(&merged.rows[0]), expected);
            let skills = world.signed_in("carol").await.get("/skills.json").await.body;
            assert!(skills.contains(r#""name":"Changed","level":5"#), "{skills}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entry_of_a_deletion_has_the_row_that_was_deleted() {
    on_both(async |world| {
        if let Some(deleted) = during_a_change(world, "/skills/rust/delete", &[]).await {
            let expected = json!({"name": "Changed", "owner": "alice"});
            assert_eq!(metadata(&deleted.rows[0]), expected);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_deletes_and_changes_the_skills_of_others() {
    on_both(async |world| {
        let mut carol = world.signed_in("carol").await;
        let updated = carol
            .post("/skills/rust", &[("name", "Rust"), ("level", "5")])
            .await;
        assert_eq!(
            updated.entries,
            ["skill.update success user:carol acme skill/rust"]
        );
        let deleted = carol.post("/skills/rust/delete", &[]).await;
        assert_eq!(
            deleted.entries,
            ["admin.delete_skill success user:carol acme skill/rust"]
        );
        assert_eq!(
            metadata(&deleted.rows[0]),
            json!({"name": "Rust", "owner": "alice"})
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_recorded_without_the_secret() {
    on_both(async |world| {
        let mut carol = world.signed_in("carol").await;
        let fields = |name, secret| {
            [
                ("name", name),
                ("webhook_url", "https://example.org/hook"),
                ("webhook_secret", secret),
            ]
        };
        let saved = carol.post("/settings", &fields("Acme Ltd", "open sesame")).await;
        assert_eq!((saved.status, saved.location.as_str()), (303, "/settings"));
        assert_eq!(
            saved.entries,
            ["settings.update success user:carol acme tenant/acme"]
        );
        let expected = json!({"changes": [
            {"path": "/name", "from": "Acme", "to": "Acme Ltd"},
            {"path": "/webhook_secret", "from": "***", "to": "***"},
            {"path": "/webhook_url", "from": "", "to": "https://example.org/hook"},
        ]});
        assert_eq!(metadata(&saved.rows[0]), expected);
        let page = carol.get("/settings").await.body;
        assert!(
            page.contains("Acme Ltd") && !page.contains("open sesame"),
            "{page}"
        );

        let kept = carol.post("/settings", &fields("Acme", "")).await;
        let expected = json!({"changes": [{"path": "/name", "from": "Acme Ltd", "to": "Acme"}]});
        assert_eq!(metadata(&kept.rows[0]), expected);
        let failed = carol.post("/settings", &fields("", "")).await;
        assert_eq!(failed.status, 422);
        assert_eq!(
            failed.entries,
            ["settings.update failure user:carol acme tenant/acme"]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_exports_until_it_is_revoked_and_is_nowhere_in_the_trail() {
    on_both(async |world| {
        let mut alice = world.signed_in("alice").await;
        let created = alice.post("/api-keys", &[("name", "nightly")]).await;
        let id = created.rows[0].resource_id.clone().unwrap();
        assert_eq!(
            created.entries,
            [format!("api_key.create success user:alice acme api_key/{id}")]
        );
        let key = created
            .body
            .split("id=\"key\">")
            .nth(1)
            .unwrap()
            .split('<')
            .next()
            .unwrap()
            .to_owned();
        assert_eq!(key.len(), 32);
        assert!(
            !alice.get("/api-keys").await.body.contains(&key),
            "it is shown once"
        );

        let mut program = world.browser().with("authorization", format!("Bearer {key}"));
        let exported = program.get("/skills.json").await;
        assert_eq!(exported.status, 200);
        assert_eq!(
            exported.entries,
            [format!("skill.export success api_key:{id}/alice acme")]
        );
        assert!(exported.body.contains("Rust") && !exported.body.contains("COBOL"));
        let refused = program.post("/skills/rust/delete", &[]).await;
        assert_eq!(refused.status, 403);
        assert_eq!(
            refused.entries,
            [format!("skill.delete denied api_key:{id}/alice acme skill/rust")]
        );

        let revoke = format!("/api-keys/{id}/revoke");
        let denied = world.signed_in("bob").await.post(&revoke, &[]).await;
        assert_eq!(denied.status, 403);
        assert_eq!(
            denied.entries,
            [format!("api_key.revoke denied user:bob acme api_key/{id}")]
        );
        let foreign = world.signed_in("dave").await.post(&revoke, &[]).await;
        assert_eq!(
            foreign.entries,
            [format!("api_key.revoke failure user:dave globex api_key/{id}")]
        );
        let revoked = alice.post(&revoke, &[]).await;
        assert_eq!(
            revoked.entries,
            [format!("api_key.revoke success user:alice acme api_key/{id}")]
        );
        let refused = program.get("/skills.json").await;
        assert_eq!(refused.status, 403);
        assert_eq!(refused.entries, ["request.reject denied anonymous -"]);

        let mut conn = world.database.connection().await.unwrap();
        let trail = db_services::audit::latest_with_records(&mut conn, 10_000)
            .await
            .unwrap();
        assert!(!format!("{trail:?}").contains(&key));
    })
    .await;
}
