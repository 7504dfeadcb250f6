//! Moving rows out of the default partition into a partition of their month, and attacks on the exception
//! that this needs.

use audit_ops::partitions;

use crate::retention::sql_on_new_connection;
use crate::support::TestDb;

/// A row in the default partition, with metadata that compares equal to other metadata.
async fn with_default_partition_row() -> TestDb {
    let db = TestDb::postgres().await;
    db.sql(
        "INSERT INTO audit_logs (created_at, action, metadata) VALUES ('2019-02-15', 'evidence', '{\"n\": 1.0}')",
    )
    .await
    .unwrap();
    assert_eq!(partition_of(&db).await, "audit_logs_default");
    db
}

async fn partition_of(db: &TestDb) -> String {
    db.text("SELECT string_agg(tableoid::regclass::text, ', ') AS value FROM audit_logs WHERE action = 'evidence'")
        .await
}

async fn move_all(db: &TestDb) -> u64 {
    let mut conn = db.connection().await;
    let mut moved = 0;
    for month in partitions::default_partition_months(&mut conn).await.unwrap() {
        moved += partitions::move_month(&mut conn, &month, partitions::MAX_PARTITIONS)
            .await
            .unwrap();
    }
    moved
}

#[tokio::test]
async fn rows_move_from_the_default_partition_to_their_months_unchanged() {
    let db = with_default_partition_row().await;
    db.sql(
        "INSERT INTO audit_logs (created_at, action, actor_id, tenant_id, ip_address, metadata, recorded_at, writer_id, writer_seq) \
         SELECT '2019-03-01'::timestamptz + n * interval '1 hour', 'many', 'a' || n, 't', '::1', '{\"n\":1E400}', '2019-04-01', gen_random_uuid(), n \
         FROM generate_series(0, 2000) n; \
         INSERT INTO audit_logs (created_at, action) VALUES ('0044-03-15 BC', 'ides'), ('4713-01-01 BC', 'first'), \
         ('294276-12-31 23:59:59.999999Z', 'last'), ('infinity', 'never'), ('-infinity', 'always'), ('294276-11-30', 'late')",
    )
    .await
    .unwrap();
    let rows =
        "SELECT md5(string_agg(row_to_json(a)::text, '' ORDER BY created_at, id)) AS value FROM audit_logs a";
    let before = db.text(rows).await;
    let months = partitions::default_partition_months(&mut db.connection().await)
        .await
        .unwrap();
    let months: Vec<_> = months
        .iter()
        .map(|month| (month.month.as_deref(), month.row_count))
        .collect();
    let expected = [
        (Some("4713-01 BC"), 1),
        (Some("0044-03 BC"), 1),
        (Some("2019-02"), 1),
        (Some("2019-03"), 744),
        (Some("2019-04"), 720),
        (Some("2019-05"), 537),
        (Some("294276-11"), 1),
        (None, 3),
    ];
    assert_eq!(months, expected);
    assert_eq!(move_all(&db).await, 2_001 + 4);
    assert_eq!(db.text(rows).await, before, "no row has changed");
    assert_eq!(partition_of(&db).await, "audit_logs_2019_02");
    assert_eq!(
        db.text("SELECT string_agg(action, ' ' ORDER BY created_at) AS value FROM audit_logs_default")
            .await,
        "always last never"
    );
    assert_eq!(
        db.text("SELECT tableoid::regclass::text AS value FROM audit_logs WHERE action = 'ides'")
            .await,
        "audit_logs_0044_03_bc"
    );
    assert_eq!(move_all(&db).await, 0, "no row is left to move");
    // Later rows of the month go to its partition.
    db.sql("INSERT INTO audit_logs (created_at, action) VALUES ('2019-02-16', 'evidence')")
        .await
        .unwrap();
    assert_eq!(partition_of(&db).await, "audit_logs_2019_02, audit_logs_2019_02");
    for sql in [
        "DELETE FROM audit_logs_2019_02",
        "UPDATE audit_logs_2019_02 SET action = 'x'",
        "TRUNCATE audit_logs_2019_02",
    ] {
        for mode in ["origin", "replica"] {
            let error = db
                .sql(&format!("SET session_replication_role = {mode}; {sql}"))
                .await
                .unwrap_err();
            assert!(error.contains("append-only"), "{sql}: {error}");
        }
    }
}

/// It has the same indexes, triggers, columns and privileges.
#[tokio::test]
async fn a_partition_with_moved_rows_equals_any_other() {
    let db = with_default_partition_row().await;
    assert_eq!(move_all(&db).await, 1);
    db.sql("SELECT audit_logs_ensure_partitions('2019-03-01', '2019-03-01')")
        .await
        .unwrap();
    let definition = |part: &str| {
        format!(
            "SELECT concat_ws('; ', \
             (SELECT string_agg(regexp_replace(pg_get_indexdef(indexrelid), '^.* USING', ''), ', ' ORDER BY pg_get_indexdef(indexrelid)) FROM pg_index WHERE indrelid = '{part}'::regclass), \
             (SELECT string_agg(concat_ws(' ', tgname, tgenabled, tgtype), ', ' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = '{part}'::regclass), \
             (SELECT string_agg(concat_ws(' ', attname, atttypid::regtype, attnotnull, attstorage), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '{part}'::regclass AND attnum > 0), \
             (SELECT concat_ws(' ', relrowsecurity, relacl) FROM pg_class WHERE oid = '{part}'::regclass)) AS value"
        )
    };
    assert_eq!(
        db.text(&definition("audit_logs_2019_02")).await,
        db.text(&definition("audit_logs_2019_03")).await
    );
}

/// Attacks on the exception of the triggers as owner and superuser, who has all privileges.
#[tokio::test]
async fn the_exception_for_moved_rows_cannot_be_used_to_remove_a_row() {
    let decoy = "CREATE TABLE audit_logs_moving (LIKE audit_logs INCLUDING DEFAULTS);";
    let copy = "INSERT INTO audit_logs_moving SELECT * FROM audit_logs_default;";
    let delete = "DELETE FROM audit_logs_default;";
    let without_a_copy = [
        // No copy.
        delete.to_owned(),
        "DELETE FROM audit_logs;".to_owned(),
        format!("{decoy} {delete}"),
        // A copy that is equal but not identical: the number 1.0 has become 1.
        format!("{decoy} {copy} UPDATE audit_logs_moving SET metadata = '{{\"n\": 1}}'; {delete}"),
        format!(
            "{decoy} {copy} UPDATE audit_logs_moving SET recorded_at = recorded_at + interval '1 microsecond'; {delete}"
        ),
        format!("{decoy} {copy} UPDATE audit_logs_moving SET actor_id = ''; {delete}"),
        // Not a table.
        format!("CREATE VIEW audit_logs_moving AS SELECT * FROM audit_logs_default; {delete}"),
        format!("CREATE TEMP TABLE audit_logs_moving (LIKE audit_logs); {copy} {delete}"),
        // Not owned by the owner.
        format!("{decoy} {copy} ALTER TABLE audit_logs_moving OWNER TO audit_writer; {delete}"),
        // Operators of the attacker, which match better and consider all rows equal.
        format!(
            "{decoy} {copy} UPDATE audit_logs_moving SET actor_id = 'x'; CREATE SCHEMA evil; \
             CREATE FUNCTION evil.same(audit_logs_moving, record) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true;END'; \
             CREATE FUNCTION evil.same(audit_logs, record) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN true;END'; \
             CREATE OPERATOR evil.*= (LEFTARG = audit_logs_moving, RIGHTARG = record, FUNCTION = evil.same); \
             CREATE OPERATOR evil.*= (LEFTARG = audit_logs, RIGHTARG = record, FUNCTION = evil.same); \
             SET search_path = evil, public, pg_catalog; {delete}"
        ),
    ];
    let never_in_the_trail = [
        // An identical copy.
        format!("{decoy} {copy} {delete}"),
        format!("{decoy} {copy} DELETE FROM audit_logs;"),
        format!("{decoy} {copy} {delete} DROP TABLE audit_logs_moving;"),
        format!("{decoy} {copy} {delete} SET CONSTRAINTS ALL IMMEDIATE;"),
        format!("{decoy} {copy} SET session_replication_role = replica; {delete}"),
        format!("{decoy} {copy} {delete} ALTER TABLE audit_logs_moving RENAME TO audit_logs_2019_02;"),
        // Attached after a change.
        format!(
            "{decoy} {copy} {delete} UPDATE audit_logs_moving SET actor_id = 'alice'; \
             ALTER TABLE audit_logs ATTACH PARTITION audit_logs_moving FOR VALUES FROM ('2019-02-01') TO ('2019-03-01');"
        ),
    ];
    let without_a_copy = without_a_copy.map(|attack| (attack, false));
    let db = with_default_partition_row().await;
    for (attack, later) in without_a_copy
        .into_iter()
        .chain(never_in_the_trail.map(|attack| (attack, true)))
    {
        let rows = db
            .text("SELECT string_agg(a::text, '') AS value FROM audit_logs a")
            .await;
        // In one transaction, and with a transaction for each statement.
        for transaction in [
            format!("BEGIN; {attack} COMMIT;"),
            format!("BEGIN; {} COMMIT;", attack.replace("; ", "; COMMIT; BEGIN; ")),
        ] {
            let error = sql_on_new_connection(&db, &transaction)
                .await
                .expect_err(&transaction);
            assert!(error.contains("append-only"), "{transaction}: {error}");
            // The first trigger refuses immediately, the second at the commit.
            assert_eq!(error.contains("was not moved"), later, "{transaction}: {error}");
            // Clean up what the attack may have left.
            for left in [
                "VIEW audit_logs_moving",
                "TABLE audit_logs_moving CASCADE",
                "TABLE audit_logs_2019_02",
                "SCHEMA evil CASCADE",
            ] {
                let _ = sql_on_new_connection(&db, &format!("DROP {left}")).await;
            }
        }
        assert_eq!(
            db.text("SELECT string_agg(a::text, '') AS value FROM audit_logs a")
                .await,
            rows,
            "{attack}"
        );
        assert_eq!(partition_of(&db).await, "audit_logs_default", "{attack}");
    }
}

#[tokio::test]
async fn no_row_moves_when_the_partition_cannot_be_created() {
    let db = with_default_partition_row().await;
    // The name is taken.
    db.sql("CREATE TABLE audit_logs_2019_02 (x int)").await.unwrap();
    let mut conn = db.connection().await;
    let months = partitions::default_partition_months(&mut conn).await.unwrap();
    let error = partitions::move_month(&mut conn, &months[0], partitions::MAX_PARTITIONS)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("already exists"), "{error}");
    assert_eq!(partition_of(&db).await, "audit_logs_default");
    for invalid in ["NULL", "'2019-02-02'", "'infinity'"] {
        assert!(
            db.sql(&format!("SELECT audit_logs_move_month({invalid})"))
                .await
                .is_err(),
            "{invalid}"
        );
    }
    db.sql("DROP TABLE audit_logs_2019_02").await.unwrap();
    assert_eq!(
        partitions::move_month(&mut conn, &months[0], partitions::MAX_PARTITIONS)
            .await
            .unwrap(),
        1
    );
}

/// The entry waits for the default partition, and its month has a partition when it continues.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_waits_for_a_move_is_stored_in_the_new_partition() {
    use db_services::audit::{AuditEntry, Delivery};
    use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
    let db = with_default_partition_row().await;
    let (writer, _guard) = db.writer();
    assert_eq!(writer.write(AuditEntry::new("before")).await, Delivery::Committed);
    let mut mover = AsyncPgConnection::establish(&db.url).await.unwrap();
    mover
        .batch_execute("BEGIN; SELECT audit_logs_move_month('2019-02-01')")
        .await
        .unwrap();
    let late = AuditEntry::new("late").created_at("2019-02-20T00:00:00Z".parse().unwrap());
    let receipt = writer.write(late);
    crate::support::wait_for("the entry to wait", async || {
        let waiting = "SELECT count(*)::text AS value FROM pg_locks WHERE relation = 'audit_logs_default'::regclass AND NOT granted";
        db.text(waiting).await != "0"
    })
    .await;
    mover.batch_execute("COMMIT").await.unwrap();
    assert_eq!(receipt.await, Delivery::Committed);
    assert_eq!(
        db.text("SELECT tableoid::regclass::text AS value FROM audit_logs WHERE action = 'late'")
            .await,
        "audit_logs_2019_02"
    );
}
