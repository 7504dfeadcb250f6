//! Requests that do not get as far as an action.

use crate::world::{metadata, on_both};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_another_site_has_caused_is_refused() {
    on_both(async |world| {
        let skill: &[_] = &[("name", "Go"), ("level", "1")];
        for site in ["cross-site", "same-site"] {
            let mut browser = world.signed_in("alice").await.with("sec-fetch-site", site);
            let refused = browser.post("/skills", skill).await;
            assert_eq!(refused.status, 403);
            assert_eq!(refused.entries, ["request.reject denied user:alice acme"]);
            assert_eq!(metadata(&refused.rows[0])["path"], "/skills");
            assert_eq!(
                browser.get("/skills").await.status,
                200,
                "a link from elsewhere works"
            );
        }
        let mut browser = world
            .signed_in("alice")
            .await
            .with("sec-fetch-site", "same-origin");
        assert_eq!(browser.post("/skills", skill).await.status, 303);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_cannot_be_read_is_on_record() {
    on_both(async |world| {
        let mut alice = world.signed_in("alice").await;
        for path in [
            "/sign-in",
            "/skills",
            "/skills/rust",
            "/skills/merge",
            "/api-keys",
            "/settings",
        ] {
            let refused = alice.post(path, &[("level", "high")]).await;
            assert_eq!(refused.status, 422, "{path}");
            assert_eq!(refused.entries, ["request.reject failure user:alice acme"]);
            assert_eq!(metadata(&refused.rows[0])["path"], path);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_api_key_is_refused_and_not_recorded_itself() {
    on_both(async |world| {
        let mut program = world.browser().with("authorization", "Bearer 0123456789");
        let refused = program.get("/skills.json").await;
        assert_eq!(refused.status, 403);
        assert_eq!(refused.entries, ["request.reject denied anonymous -"]);
        assert!(!format!("{:?}", refused.rows).contains("0123456789"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_session_is_no_session() {
    on_both(async |world| {
        let mut browser = world.browser().with("cookie", "demo_session=0123456789");
        let refused = browser.post("/skills/rust/delete", &[]).await;
        assert_eq!(refused.location, "/sign-in");
        assert_eq!(refused.entries, ["skill.delete denied anonymous - skill/rust"]);
    })
    .await;
}
