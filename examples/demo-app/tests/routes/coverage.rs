//! The test that fails when a route forgets its entry, or an action is in no test.

use audit_http::testing::RouteCoverage;
use axum::Router;
use axum::http::header;
use db_services::audit::actions::ADMIN_MERGE_SKILLS;
use db_services::audit::testing::{Coverage, capture};
use db_services::audit::{Action, AuditEntry, count};
use db_services::client::Database;
use demo_app::actions::{DEMO_SEED, OWN, USUAL};
use demo_app::{Store, router};
use tokio_util::task::TaskTracker;

use crate::world::{form, password};

#[tokio::test(flavor = "multi_thread")]
async fn each_route_that_changes_something_leaves_an_entry_and_each_action_is_written() {
    let database = Database::from_url("sqlite::memory:").unwrap();
    let app = router(Store::open(database.clone()).await.unwrap(), TaskTracker::new());
    let declared: Vec<Action> = [OWN, USUAL].concat();
    let mut actions = Coverage::of(&declared).known_gap(DEMO_SEED, "inserted in its transaction");
    let mut routes = RouteCoverage::new().known_gap(
        "POST /skills/merge",
        "inserted in its transaction, which is counted below",
    );

    for _ in 0..5 {
        let request = form("/sign-in", "", "name=bob&password=wrong");
        actions.add(&capture(call(&app, request)).await);
    }
    let carol = signed_in(&app, &mut routes, &mut actions, "carol").await;
    let rows = async || count(&mut database.connection().await.unwrap()).await.unwrap();
    let before = rows().await;
    let merge = "from=postgres&into=postgresql";
    let merged = routes
        .check(app.clone(), form("/skills/merge", &carol, merge))
        .await;
    assert_eq!((merged.output.status().as_u16(), rows().await), (303, before + 1));

    let alice = signed_in(&app, &mut routes, &mut actions, "alice").await;
    let key = routes
        .check(app.clone(), form("/api-keys", &alice, "name=ci"))
        .await;
    actions.add(&key);
    let revoke = format!(
        "/api-keys/{}/revoke",
        key.entries()[0].resource_id.as_deref().unwrap()
    );
    let changes = [
        (&alice, "/skills", "name=Go&level=1"),
        (&alice, "/skills/rust", "name=Rust&level=5"),
        (&alice, "/skills/rust/delete", ""),
        (&alice, &revoke, ""),
        (&carol, "/skills/postgresql/delete", ""),
        (&carol, "/settings", "name=Acme&webhook_url=&webhook_secret="),
        (&alice, "/sign-out", ""),
    ];
    for (who, path, fields) in changes {
        let done = routes.check(app.clone(), form(path, who, fields)).await;
        actions.add(&done);
    }
    // The refusal of a merge is captured. The requests after it change nothing, and write the remaining actions.
    let refused = capture(call(&app, form("/skills/merge", &alice, merge))).await;
    refused.assert_one(&AuditEntry::new(ADMIN_MERGE_SKILLS));
    actions.add(&refused);
    for path in ["/skills.json", "/trail"] {
        let mut request = form(path, &carol, "");
        *request.method_mut() = axum::http::Method::GET;
        actions.add(&routes.check(app.clone(), request).await);
    }
    actions.add(&capture(call(&app, form("/skills", &carol, "no form"))).await);

    routes.assert_complete();
    actions.assert_complete();
}

async fn call(app: &Router, request: axum::extract::Request) -> axum::response::Response {
    use tower::ServiceExt;
    app.clone().oneshot(request).await.unwrap()
}

/// Signs in, and returns the cookie.
async fn signed_in(app: &Router, routes: &mut RouteCoverage, actions: &mut Coverage, name: &str) -> String {
    let fields = format!("name={name}&password={}", password(name).replace(' ', "+"));
    let answer = routes.check(app.clone(), form("/sign-in", "", &fields)).await;
    actions.add(&answer);
    let cookie = answer.output.headers()[header::SET_COOKIE].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}
