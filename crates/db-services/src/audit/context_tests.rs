use std::net::Ipv4Addr;

use super::*;

fn request() -> AuditContext {
    AuditContext::new()
        .tenant("acme")
        .actor("alice")
        .actor_type("user")
        .on_behalf_of("bob")
        .ip(Ipv4Addr::LOCALHOST)
        .user_agent("curl/8")
        .request_id("r-1")
        .trace_id("t-1")
}

fn filled(mut entry: AuditEntry) -> AuditEntry {
    request().fill(&mut entry);
    entry
}

#[test]
fn an_open_entry_gets_every_value_of_the_context() {
    let entry = request().entry("auth.login");
    let expected = AuditEntry::new("auth.login")
        .tenant("acme")
        .actor("alice")
        .actor_type("user")
        .on_behalf_of("bob")
        .ip(Ipv4Addr::LOCALHOST)
        .user_agent("curl/8")
        .request_id("r-1")
        .trace_id("t-1")
        .created_at(entry.created_at);
    assert_eq!(entry, expected);
}

#[test]
fn an_empty_context_fills_nothing() {
    let entry = AuditContext::new().entry("auth.login");
    assert_eq!(entry, AuditEntry::new("auth.login").created_at(entry.created_at));
}

#[test]
fn values_that_the_entry_sets_win() {
    let own = AuditEntry::new("auth.login")
        .tenant("other")
        .actor("carol")
        .actor_type("service")
        .on_behalf_of("dave")
        .ip(Ipv4Addr::BROADCAST)
        .user_agent("wget")
        .request_id("r-2")
        .trace_id("t-2");
    assert_eq!(filled(own.clone()), own);
}

#[test]
fn another_actor_gets_neither_the_type_nor_the_principal_of_the_context() {
    let entry = filled(AuditEntry::new("job.run").actor("scheduler"));
    assert_eq!((entry.actor_type, entry.on_behalf_of), (None, None));
    assert_eq!(entry.tenant_id.as_deref(), Some("acme"));
}

#[test]
fn an_anonymous_entry_gets_no_actor() {
    let entry = filled(AuditEntry::new("auth.login_failed").actor_type("anonymous"));
    assert_eq!((entry.actor_id, entry.on_behalf_of), (None, None));
}

#[test]
fn the_actor_of_the_context_named_by_the_entry_gets_its_type() {
    let entry = filled(AuditEntry::new("auth.login").actor("alice"));
    assert_eq!(entry.actor_type.as_deref(), Some("user"));
    assert_eq!(entry.on_behalf_of.as_deref(), Some("bob"));
}

#[test]
fn an_unnamed_actor_of_the_context_gives_its_type_to_no_named_one() {
    let mut entry = AuditEntry::new("auth.login").actor("alice");
    AuditContext::new().actor_type("anonymous").fill(&mut entry);
    assert_eq!(entry.actor_type, None);
}

#[test]
fn an_address_that_is_no_address_is_not_replaced() {
    let entry = filled(AuditEntry::new("auth.login").ip_text("unknown"));
    assert_eq!(
        (entry.ip_address, entry.ip_text.as_deref()),
        (None, Some("unknown"))
    );
}

#[test]
fn a_bound_actor_replaces_the_type_and_the_principal_of_the_one_before() {
    let mut context = request();
    context.merge(AuditContext::new().actor("carol"));
    assert_eq!(context.actor_id.as_deref(), Some("carol"));
    assert_eq!((context.actor_type, context.on_behalf_of), (None, None));
    assert_eq!(context.request_id.as_deref(), Some("r-1"));
}

#[test]
fn a_type_that_is_bound_to_the_same_actor_leaves_the_rest() {
    let mut context = request();
    context.merge(AuditContext::new().actor("alice").actor_type("admin"));
    assert_eq!(context.actor_type.as_deref(), Some("admin"));
    assert_eq!(context.on_behalf_of.as_deref(), Some("bob"));
}

#[test]
fn a_type_that_is_bound_without_an_actor_replaces_the_actor() {
    let mut context = request();
    context.merge(AuditContext::new().actor_type("anonymous"));
    assert_eq!(context.actor_type.as_deref(), Some("anonymous"));
    assert_eq!((context.actor_id, context.on_behalf_of), (None, None));
    assert_eq!(context.tenant_id.as_deref(), Some("acme"));
}

#[test]
fn an_actor_that_is_bound_over_a_type_replaces_the_type() {
    let mut context = AuditContext::new().actor_type("anonymous");
    context.merge(AuditContext::new().actor("alice"));
    assert_eq!(
        (context.actor_id.as_deref(), context.actor_type),
        (Some("alice"), None)
    );
}

#[test]
fn the_same_id_with_another_type_is_another_actor() {
    let entry = filled(AuditEntry::new("job.run").actor("alice").actor_type("service"));
    assert_eq!(entry.on_behalf_of, None);
    let same = filled(AuditEntry::new("job.run").actor("alice").actor_type("user"));
    assert_eq!(same.on_behalf_of.as_deref(), Some("bob"));
}

#[test]
fn a_principal_that_is_bound_alone_leaves_the_actor() {
    let mut context = request();
    context.merge(AuditContext::new().on_behalf_of("carol"));
    assert_eq!(context, request().on_behalf_of("carol"));
}

#[test]
fn a_merge_takes_over_each_value_that_is_set() {
    let mut context = AuditContext::new();
    context.merge(request());
    assert_eq!(context, request());
    context.merge(AuditContext::new());
    assert_eq!(context, request());
}

#[test]
fn a_context_ends_with_its_scope() {
    assert_eq!(current(), None);
    assert!(!bind(request()));
    let inside = sync_scope(request(), || {
        let inner = sync_scope(AuditContext::new().actor("job"), current);
        (inner, current())
    });
    assert_eq!(inside, (Some(AuditContext::new().actor("job")), Some(request())));
    assert_eq!(current(), None);
}

#[tokio::test]
async fn a_spawned_task_has_the_context_of_its_spawn_and_what_is_bound_later() {
    let (first, later) = scope(request(), async {
        let (bound, wait) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(carry(async move {
            let first = current();
            wait.await.unwrap();
            (first, current())
        }));
        tokio::task::yield_now().await;
        bind(AuditContext::new().actor("carol"));
        bound.send(()).unwrap();
        task.await.unwrap()
    })
    .await;
    assert_eq!(first, Some(request()));
    assert_eq!(later.unwrap().actor_id.as_deref(), Some("carol"));
}

#[tokio::test]
async fn a_carried_future_keeps_its_context_wherever_it_is_polled() {
    let future = sync_scope(request(), || carry(async { current() }));
    let elsewhere = scope(AuditContext::new().actor("mallory"), future).await;
    assert_eq!(elsewhere, Some(request()));
    let outside = carry(async { current() });
    assert_eq!(scope(request(), outside).await, None);
}
