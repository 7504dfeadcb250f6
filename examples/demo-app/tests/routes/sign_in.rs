//! Sign-in, and the lock-out.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::Method;
use db_services::client::Connection;
use demo_app::MAX_FAILURES;
use diesel::sql_query;
use diesel_async::RunQueryDsl;
use futures_util::future::join_all;

use crate::process::Count;
use crate::world::{World, on_both, password};

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sign_in_is_on_record_with_the_account_and_without_an_actor() {
    on_both(async |world| {
        let mut browser = world.browser();
        let wrong = browser.sign_in("alice", "wrong").await;
        assert_eq!(wrong.status, 401);
        assert_eq!(
            wrong.entries,
            ["auth.login_failed failure anonymous acme user/alice"]
        );
        // The name may be a password in the wrong field.
        let unknown = browser.sign_in("correct horse", "x").await;
        assert_eq!(unknown.status, 401);
        assert_eq!(unknown.entries, ["auth.login_failed failure anonymous -"]);
        assert!(!format!("{:?}", unknown.rows).contains("horse"));
        assert_eq!(
            wrong.body, unknown.body,
            "the answers do not tell who has an account"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_in_a_row_lock_the_account() {
    on_both(async |world| {
        let mut browser = world.browser();
        for _ in 1..MAX_FAILURES {
            let answer = browser.sign_in("alice", "wrong").await;
            assert_eq!(
                answer.entries,
                ["auth.login_failed failure anonymous acme user/alice"]
            );
        }
        let last = browser.sign_in("alice", "wrong").await;
        let expected = [
            "auth.login_failed failure anonymous acme user/alice",
            "auth.locked_out success anonymous acme user/alice",
        ];
        assert_eq!(last.entries, expected);
        for given in ["wrong", password("alice")] {
            let refused = browser.sign_in("alice", given).await;
            assert_eq!(refused.status, 401);
            assert_eq!(
                refused.entries,
                ["auth.login_failed denied anonymous acme user/alice"]
            );
        }
        assert_eq!(browser.get("/skills").await.location, "/sign-in");
        // Others are not locked out.
        world.signed_in("bob").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_in_between_resets_the_count() {
    on_both(async |world| {
        for _ in 0..2 {
            let mut browser = world.browser();
            for _ in 1..MAX_FAILURES {
                assert_eq!(browser.sign_in("alice", "wrong").await.entries.len(), 1);
            }
            world.signed_in("alice").await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_at_the_same_time_do_not_evade_the_lock() {
    on_both(async |world| {
        let attempts = world
            .at_once(20, "/sign-in", &[("name", "alice"), ("password", "wrong")])
            .await;
        let count = |entry: &str| attempts.iter().filter(|shown| *shown == entry).count();
        let counted = count("auth.login_failed failure anonymous acme user/alice");
        assert_eq!(counted, MAX_FAILURES as usize, "{attempts:?}");
        assert_eq!(
            count("auth.login_failed denied anonymous acme user/alice"),
            20 - counted
        );
        assert_eq!(count("auth.locked_out success anonymous acme user/alice"), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sign_in_ends_the_session_that_it_replaces() {
    on_both(async |world| {
        let mut alice = world.signed_in("alice").await;
        let mut old = world.browser().with("cookie", alice.cookie());
        assert_eq!(old.get("/skills").await.location, "", "the session is valid");
        let again = alice.sign_in("bob", password("bob")).await;
        let expected = [
            "auth.logout success user:alice acme user/alice",
            "auth.login success user:bob acme user/bob",
        ];
        assert_eq!(again.entries, expected);
        assert_eq!(old.get("/skills").await.location, "/sign-in");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_at_an_account_does_not_name_whoever_is_signed_in() {
    on_both(async |world| {
        let mut alice = world.signed_in("alice").await;
        let key = alice.new_api_key().await;
        let program = world.browser().with("authorization", format!("Bearer {key}"));
        for mut visitor in [alice, program] {
            // The visitor is known: a request of its own has an actor.
            let known = visitor.get("/skills.json").await.entries;
            assert!(
                known[0].contains("alice acme"),
                "the visitor is not known: {known:?}"
            );
            // Dave is another tenant's.
            let attempt = visitor.sign_in("dave", "wrong").await;
            assert_eq!(
                attempt.entries,
                ["auth.login_failed failure anonymous globex user/dave"]
            );
        }
        for _ in 3..MAX_FAILURES {
            world.browser().sign_in("dave", "wrong").await;
        }
        let last = world.signed_in("alice").await.sign_in("dave", "wrong").await;
        let expected = [
            "auth.login_failed failure anonymous globex user/dave",
            "auth.locked_out success anonymous globex user/dave",
        ];
        assert_eq!(last.entries, expected);
        let refused = world.signed_in("alice").await.sign_in("dave", "wrong").await;
        assert_eq!(
            refused.entries,
            ["auth.login_failed denied anonymous globex user/dave"]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_requests_that_end_a_session_at_once_ends_it() {
    on_both(async |world| {
        // They may come one after the other: so several times.
        for _ in 0..10 {
            let alice = world.signed_in("alice").await;
            let sent = (0..6).map(|_| async {
                let mut browser = world.browser().with("cookie", alice.cookie());
                browser
                    .exchange(Method::POST, "/sign-out", String::new(), "r")
                    .await
            });
            join_all(sent).await;
            let entries = world.new_entries().await;
            let ended = "auth.logout success user:alice acme user/alice";
            assert_eq!(entries.len(), 6);
            assert_eq!(
                entries.iter().filter(|entry| *entry == ended).count(),
                1,
                "{entries:?}"
            );
        }
    })
    .await;
}

async fn run(world: &World, sql: &str) -> i64 {
    match world.database.connection().await.unwrap() {
        Connection::Postgres(mut conn) => sql_query(sql).get_result::<Count>(&mut conn).await.unwrap().count,
        Connection::Sqlite(mut conn) => sql_query(sql).get_result::<Count>(&mut conn).await.unwrap().count,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_and_a_lock_end_with_their_time() {
    on_both(async |world| {
        let mut alice = world.signed_in("alice").await;
        assert_eq!(alice.get("/skills").await.status, 200);
        run(
            world,
            "UPDATE sessions SET expires_at = 1 RETURNING expires_at AS count",
        )
        .await;
        assert_eq!(alice.get("/skills").await.location, "/sign-in");

        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        for _ in 0..MAX_FAILURES {
            world.browser().sign_in("bob", "wrong").await;
        }
        let until = run(
            world,
            "SELECT locked_until AS count FROM users WHERE name = 'bob'",
        )
        .await;
        let locked_for = until - i64::try_from(since).unwrap();
        // Longer by the time that the attempts took.
        assert!((15 * 60..30 * 60).contains(&locked_for), "{locked_for}");
        assert_eq!(world.browser().sign_in("bob", password("bob")).await.status, 401);
        let over = "UPDATE users SET locked_until = 1 WHERE name = 'bob' RETURNING locked_until AS count";
        run(world, over).await;
        world.signed_in("bob").await;
    })
    .await;
}
