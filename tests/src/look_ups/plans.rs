//! The plans of look-ups, at a size at which the planner has a choice.

use crate::support::TestDb;

/// 20,000 rows in an ended month with its indexes, and as many in the open one. Tenant t1 has half of them, an actor of
/// another tenant a tenth.
async fn with_plans() -> TestDb {
    let db = TestDb::postgres().await;
    db.sql(
        "SELECT audit_logs_ensure_partitions('2001-02-01', '2001-02-01'); \
         INSERT INTO audit_logs (created_at, action, tenant_id, actor_id, resource_type, resource_id, request_id, user_agent) \
         SELECT s + n * interval '1 second', 'x', CASE n % 2 WHEN 0 THEN 't1' ELSE 't' || n % 50 END, \
                CASE WHEN n % 10 = 3 THEN 'frequent' ELSE 'actor' || n % 5000 END, 'thing', 'thing' || n % 5000, 'request' || n, repeat('browser ', 20) \
         FROM generate_series(1, 20000) n, (VALUES ('2001-02-03Z'::timestamptz), (now() - interval '1 day')) AS v (s); \
         SELECT audit_logs_index_closed_months(); ANALYZE audit_logs; \
         CREATE FUNCTION test_plan(who text, condition text) RETURNS text LANGUAGE plpgsql AS $$ \
         DECLARE line text; whole text := ''; BEGIN \
         PERFORM set_config('audit.tenant_id', 't1', true); EXECUTE format('SET LOCAL ROLE %I', who); SET LOCAL jit = off; SET LOCAL random_page_cost = 1.1; \
         FOR line IN EXECUTE 'EXPLAIN SELECT * FROM audit_logs WHERE ' || condition || ' ORDER BY created_at DESC LIMIT 50' \
         LOOP whole := whole || line || E'\\n'; END LOOP; RESET ROLE; RETURN whole; END $$",
    )
    .await
    .unwrap();
    db
}

#[tokio::test]
async fn every_look_up_uses_an_index_condition_on_every_partition() {
    let db = with_plans().await;
    for who in ["audit_auditor", "audit_reader"] {
        for (column, value) in [
            ("actor_id", "actor7"),
            ("actor_id", "nobody"),
            ("resource_id", "thing7"),
            ("request_id", "request777"),
            ("request_id", "nothing"),
        ] {
            let condition =
                format!("{column} = ''{value}'' AND name({column} COLLATE \"C\") = name(''{value}''::text)");
            let plan = db
                .text(&format!("SELECT test_plan('{who}', '{condition}') AS value"))
                .await;
            let name = format!("(name(({column})::text) = '{value}'::name");
            assert!(
                plan.lines()
                    .any(|line| line.contains("Index Cond") && line.contains(&name)),
                "the open month, {who} {condition}: {plan}"
            );
            let ended = format!("audit_logs_2001_02_by_{}", column.trim_end_matches("_id"));
            assert!(
                plan.contains(&ended),
                "the ended month, {who} {condition}: {plan}"
            );
        }
    }
}

/// Without the tenant in the index, each row of the actor would be read and refused: 9.3 s for three million.
#[tokio::test]
async fn a_reader_reads_no_row_of_another_tenants_frequent_actor() {
    let db = with_plans().await;
    let condition = "actor_id = ''frequent'' AND name(actor_id COLLATE \"C\") = name(''frequent''::text)";
    let plan = db
        .text(&format!(
            "SELECT test_plan('audit_reader', '{condition}') AS value"
        ))
        .await;
    let ended = plan
        .lines()
        .position(|line| line.contains("audit_logs_2001_02"))
        .unwrap();
    let conditions: String = plan.lines().skip(ended).take(4).collect();
    assert!(conditions.contains("tenant_id"), "{plan}");
}

#[tokio::test]
async fn a_page_across_tenants_and_a_timeline_are_read_in_the_order_of_the_index() {
    let db = with_plans().await;
    for (who, condition) in [
        ("audit_auditor", "true"),
        ("audit_auditor", "created_at < now()"),
        ("audit_reader", "true"),
        (
            "audit_auditor",
            "tenant_id = ''t1'' AND name(tenant_id COLLATE \"C\") = name(''t1''::text)",
        ),
    ] {
        let plan = db
            .text(&format!("SELECT test_plan('{who}', '{condition}') AS value"))
            .await;
        assert!(
            plan.contains("_time") && !plan.contains("Seq Scan on audit_logs_2"),
            "{who} {condition}: {plan}"
        );
        assert!(!plan.contains("Sort  ("), "{who} {condition}: {plan}");
    }
}

#[tokio::test]
async fn a_row_of_any_length_is_stored_in_a_partition_that_is_written_to() {
    let db = TestDb::postgres().await;
    // Random, so that compression does not make it short.
    db.sql(
        "INSERT INTO audit_logs (action, tenant_id, actor_id, resource_id, request_id) SELECT 'x', v, v, v, v \
         FROM (SELECT string_agg(md5(n::text), '') AS v FROM generate_series(1, 2000) n) AS long",
    )
    .await
    .unwrap();
    assert_eq!(db.count().await, 1);
    // Tenants are distinguished by their whole names, although the index has 63 bytes of each.
    let long = "x".repeat(70);
    db.sql(&format!(
        "INSERT INTO audit_logs (action, tenant_id) VALUES ('a', '{long}1'), ('b', '{long}2')"
    ))
    .await
    .unwrap();
    let seen = db_services::audit::for_tenant(&db.database, &format!("{long}2"), async |conn| {
        db_services::audit::latest(conn, 10).await
    })
    .await;
    let actions: Vec<String> = seen.unwrap().into_iter().map(|row| row.action).collect();
    assert_eq!(actions, ["b"]);
}
