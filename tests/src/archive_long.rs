//! Rows of any size and depth are archived, dropped and restored unchanged.

use audit_ops::OpsError;
use audit_ops::archive::{self, Trust};
use audit_ops::retention::{self, RetentionPolicy};
use tempfile::TempDir;

use crate::archive::write;
use crate::attacks::fixture::{connect, text};
use crate::retention::rule;
use crate::support::TestDb;

/// A month of rows that are inserted by these statements, and keep nothing back from being dropped.
async fn month_of(rows: &[&str]) -> TestDb {
    let db = TestDb::postgres().await;
    db.sql("SELECT audit_logs_ensure_partitions('2019-02-01', '2019-02-01')")
        .await
        .unwrap();
    for row in rows {
        db.sql(row).await.unwrap();
    }
    db
}

const PARTITION: &str = "audit_logs_2019_02";

fn trusting() -> RetentionPolicy {
    RetentionPolicy {
        trust_clock: true,
        ..rule()
    }
}

/// A digest of all columns of all rows, computed in another way than the trail's.
const EVERYTHING: &str = "SELECT string_agg(concat_ws('|', id, created_at, recorded_at, tenant_id, md5(actor_id), action, md5(user_agent), \
     md5(metadata::text), md5(resource_id), tx_id), ',' ORDER BY id) FROM audit_logs";

#[tokio::test(flavor = "multi_thread")]
async fn long_and_deep_values_are_restored_unchanged() {
    let db = month_of(&[
        "INSERT INTO audit_logs (created_at, action, actor_id) VALUES ('2019-02-02', 'control characters', repeat(E'\\x01', 3000000))",
        "INSERT INTO audit_logs (created_at, action, user_agent, resource_id) \
         VALUES ('2019-02-03', 'characters of one to four bytes', repeat('xé€😀', 40000), repeat(E'\\\\\"', 32769))",
        "INSERT INTO audit_logs (created_at, action, metadata) \
         SELECT '2019-02-04', 'a megabyte', jsonb_build_object('x', string_agg(md5(n::text), '')) FROM generate_series(1, 32768) n",
        "INSERT INTO audit_logs (created_at, action, metadata) VALUES ('2019-02-05', 'digits', '[1e100000, 1e-16000, 1.10]')",
        "INSERT INTO audit_logs (created_at, action, metadata) VALUES \
         ('2019-02-06', 'markers', '{\"_long\": [\"metadata\"]}'), ('2019-02-06', 'x\",\"_long\":[\"action\"]}', '[\"_piece\"]')",
        // At the limits of a line, a value and a piece.
        "INSERT INTO audit_logs (created_at, action, actor_id) SELECT '2019-02-07', 'limit', repeat('y', n) \
         FROM unnest(ARRAY[16383, 16384, 16385, 65535, 65536, 65537, 131071, 131072, 131073]) n",
        "INSERT INTO audit_logs (created_at, action) VALUES ('2019-02-08', 'short')",
    ])
    .await;
    // As deep as this server takes it in a statement.
    let deepest = "DO $$ DECLARE depth int := 20000; BEGIN
             LOOP
                 BEGIN
                     INSERT INTO audit_logs (created_at, action, metadata)
                         VALUES ('2019-02-09', 'deep', (repeat('[', depth) || repeat(']', depth))::jsonb);
                     EXIT;
                 EXCEPTION WHEN statement_too_complex THEN
                     depth := depth * 9 / 10;
                 END;
             END LOOP;
         END $$";
    db.sql(deepest).await.unwrap();
    let client = connect(&db.url).await;
    let depth = "SELECT length(metadata::text)::text FROM audit_logs WHERE action = 'deep'";
    assert!(text(&client, depth).await[0].parse::<u32>().unwrap() > 10_000);
    let before = text(&client, EVERYTHING).await;

    let dir = TempDir::new().unwrap();
    let archived = write(&db, PARTITION, dir.path()).await.unwrap();
    assert_eq!(archived.manifest.rows, 17);
    let mut conn = db.connection().await;
    retention::drop_month(&mut conn, PARTITION, &trusting(), Some(&archived))
        .await
        .unwrap();
    assert_eq!(db.count().await, 0);
    let archived = archive::check(&archived.manifest_path).unwrap();
    for (inserted, stored) in [(17, 0), (0, 17)] {
        let report = archive::restore(&mut conn, &archived, &Trust::Ledger, &mut |_| {})
            .await
            .unwrap();
        assert_eq!(
            (report.inserted, report.already_stored, report.unreadable),
            (inserted, stored, 0)
        );
        assert_eq!(text(&client, EVERYTHING).await, before);
    }
    let ledger = retention::ledger(&mut conn).await.unwrap();
    let again = "SELECT encode(digest, 'hex') FROM audit_logs_digest('2019-02-01Z', '2019-03-01Z')";
    assert_eq!(text(&client, again).await, [ledger[0].digest.clone()]);
}

/// Long JSON is put together in the server when it is restored, with less stack than it was inserted with.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_long_and_too_deep_is_archived_and_dropped_only_on_request() {
    let row = |depth: usize| {
        format!(
            "INSERT INTO audit_logs (created_at, action, metadata) VALUES ('2019-02-02', 'x', \
                 jsonb_build_array(repeat('x', 70000), (repeat('[', {depth}) || repeat(']', {depth}))::jsonb))"
        )
    };
    let db = month_of(&[&row(5_990)]).await;
    let dir = TempDir::new().unwrap();
    let archived = write(&db, PARTITION, dir.path()).await.unwrap();
    let mut conn = db.connection().await;
    retention::drop_month(&mut conn, PARTITION, &trusting(), Some(&archived))
        .await
        .unwrap();
    let report = archive::restore(&mut conn, &archived, &Trust::Ledger, &mut |_| {}).await;
    assert_eq!(report.unwrap().inserted, 1);

    db.sql(&row(6_100)).await.unwrap();
    let id = db
        .text("SELECT id::text AS value FROM audit_logs ORDER BY id DESC LIMIT 1")
        .await;
    let archived = write(&db, PARTITION, dir.path()).await.unwrap();
    let drop = async |policy: RetentionPolicy| {
        let mut conn = db.connection().await;
        retention::drop_month(&mut conn, PARTITION, &policy, Some(&archived)).await
    };
    let error = drop(trusting()).await.unwrap_err().to_string();
    assert!(
        error.contains(&id) && error.contains("--drop-unreadable"),
        "{error}"
    );
    let policy = RetentionPolicy {
        drop_unreadable: true,
        ..trusting()
    };
    drop(policy).await.unwrap();
    let ledger = retention::ledger(&mut conn).await.unwrap();
    assert_eq!(
        ledger.last().unwrap().overrides,
        ["trust_clock", "drop_unreadable"]
    );
    // Its value is in the archive. The other row is restored.
    let lines = std::process::Command::new("gzip")
        .arg("-dc")
        .arg(&archived.path)
        .output();
    let lines = String::from_utf8(lines.unwrap().stdout).unwrap();
    let pieces = lines.lines().filter(|line| line.starts_with("{\"_piece\":"));
    assert_eq!(
        pieces.map(|line| line.matches('[').count()).sum::<usize>(),
        5_991 + 6_101
    );
    let archived = archive::check(&archived.manifest_path).unwrap();
    let report = archive::restore(&mut conn, &archived, &Trust::Ledger, &mut |_| {})
        .await
        .unwrap();
    assert_eq!((report.inserted, report.unreadable), (1, 1));
}

/// A piece ends with a character, also if that is the last one and begins before the limit.
#[tokio::test(flavor = "multi_thread")]
async fn no_piece_is_empty_wherever_a_character_is_cut() {
    let db = month_of(&["INSERT INTO audit_logs (created_at, action, user_agent) \
         SELECT '2019-02-02', 'x', repeat('x', pad) || repeat(letter, (65536 * times - pad) / octet_length(letter) + more) || tail \
         FROM unnest(ARRAY['x', 'é', '漢', '😀']) letter, generate_series(0, 3) pad, generate_series(1, 2) times, \
              generate_series(0, 1) more, unnest(ARRAY['', 'x', 'é']) tail"])
    .await;
    let client = connect(&db.url).await;
    let lines = "SELECT count(*) FILTER (WHERE line = '{\"_piece\":\"\"}') || ' of ' || (count(*) > 400) \
         FROM audit_logs_lines('2019-02-01Z', '2019-03-01Z') line";
    assert_eq!(text(&client, lines).await, ["0 of true"]);
    let before = text(&client, EVERYTHING).await;
    let dir = TempDir::new().unwrap();
    let archived = write(&db, PARTITION, dir.path()).await.unwrap();
    assert_eq!(archived.manifest.rows, 192);
    let mut conn = db.connection().await;
    retention::drop_month(&mut conn, PARTITION, &trusting(), Some(&archived))
        .await
        .unwrap();
    archive::restore(&mut conn, &archived, &Trust::Ledger, &mut |_| {})
        .await
        .unwrap();
    assert_eq!(text(&client, EVERYTHING).await, before);
}

/// Rows of every kind: short, long, deep, and long with deep metadata.
const KINDS: &[&str] = &[
    "INSERT INTO audit_logs (created_at, action) VALUES ('2019-02-02', 'short')",
    "INSERT INTO audit_logs (created_at, action, actor_id) VALUES ('2019-02-03', 'long', repeat('x', 70000))",
    "INSERT INTO audit_logs (created_at, action, metadata) VALUES ('2019-02-04', 'deep', (repeat('[', 600) || repeat(']', 600))::jsonb)",
    "INSERT INTO audit_logs (created_at, action, metadata, actor_id) \
     VALUES ('2019-02-05', 'both', (repeat('[', 600) || repeat(']', 600))::jsonb, repeat('x', 70000))",
];

/// The way of docs/changing-the-row.md.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_restored_after_a_column_was_added() {
    let db = month_of(KINDS).await;
    let dir = TempDir::new().unwrap();
    let archived = write(&db, PARTITION, dir.path()).await.unwrap();
    let mut conn = db.connection().await;
    retention::drop_month(&mut conn, PARTITION, &trusting(), Some(&archived))
        .await
        .unwrap();
    let restore = async || {
        let mut conn = db.connection().await;
        let report = archive::restore(&mut conn, &archived, &Trust::Ledger, &mut |_| {}).await;
        report.map(|report| (report.inserted, report.already_stored))
    };
    let message = |error: OpsError| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    };
    db.sql("ALTER TABLE audit_logs ADD COLUMN must int NOT NULL DEFAULT 1")
        .await
        .unwrap();
    let error = message(restore().await.unwrap_err());
    assert!(
        error.contains("lack the column must") && error.contains("DROP NOT NULL"),
        "{error}"
    );
    db.sql("ALTER TABLE audit_logs DROP COLUMN must; ALTER TABLE audit_logs ADD COLUMN extra text")
        .await
        .unwrap();
    assert_eq!(restore().await.unwrap(), (4, 0));
    assert_eq!(restore().await.unwrap(), (0, 4));
    let again = write(&db, PARTITION, dir.path()).await.unwrap();
    assert_ne!(
        again.manifest.digest, archived.manifest.digest,
        "its lines have the column"
    );
    // A value of a column that the table lacks would be lost.
    let other = month_of(&[]).await;
    let accept = Trust::Operator("test".to_owned());
    let error = archive::restore(&mut other.connection().await, &again, &accept, &mut |_| {}).await;
    let error = message(error.unwrap_err());
    assert!(error.contains("the column extra, which the table"), "{error}");
    assert_eq!(other.count().await, 0);
}

/// A row of any kind that differs is a conflict, in whichever column.
#[tokio::test(flavor = "multi_thread")]
async fn a_different_row_of_any_kind_is_a_conflict() {
    let dir = TempDir::new().unwrap();
    let db = month_of(KINDS).await;
    let archived = write(&db, PARTITION, dir.path()).await.unwrap();
    let copy = "SELECT string_agg(format('INSERT INTO audit_logs (id, created_at, recorded_at, tx_id, action, outcome, actor_id, metadata) \
         VALUES (%L, %L, %L, %L, %L, %L, %L, %L)', id, created_at, recorded_at, tx_id, action, outcome, actor_id, metadata), ';') AS value FROM audit_logs";
    let rows = db.text(copy).await;
    let accept = Trust::Operator("test".to_owned());
    for (from, to) in [
        ("'short'", "'forged'"),
        ("'long'", "'forged'"),
        ("'deep'", "'forged'"),
        ("'both'", "'forged'"),
        ("[[]]", "[[1]]"),
        ("xxx'", "xxy'"),
    ] {
        let other = month_of(&[]).await;
        let forged = rows.replacen(from, to, 1);
        assert_ne!(forged, rows, "{from}");
        other.sql(&forged).await.unwrap();
        let restored = archive::restore(&mut other.connection().await, &archived, &accept, &mut |_| {}).await;
        let error = restored.unwrap_err().to_string();
        assert!(error.starts_with("1 archived rows conflict"), "{from}: {error}");
    }
    let other = month_of(&[&rows]).await;
    let same = archive::restore(&mut other.connection().await, &archived, &accept, &mut |_| {}).await;
    assert_eq!(same.unwrap().already_stored, 4);
}

/// A different row under the same key is noticed, also if only its long value differs.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_value_that_differs_is_a_conflict() {
    let id = "00000000-0000-7000-8000-000000000001";
    let row = |value: &str| {
        format!(
            "INSERT INTO audit_logs (id, created_at, recorded_at, tx_id, action, actor_id) VALUES ('{id}', '2019-02-02', '2019-02-02', 1, 'x', repeat('{value}', 100000))"
        )
    };
    let db = month_of(&[&row("a")]).await;
    let dir = TempDir::new().unwrap();
    let archived = write(&db, PARTITION, dir.path()).await.unwrap();
    let other = month_of(&[&row("b")]).await;
    let accept = Trust::Operator("test".to_owned());
    let error = archive::restore(&mut other.connection().await, &archived, &accept, &mut |_| {})
        .await
        .unwrap_err();
    assert!(error.to_string().contains("conflict"), "{error}");
    let kept = "SELECT left(actor_id, 3) AS value FROM audit_logs";
    assert_eq!(other.text(kept).await, "bbb");
}

/// The text of this value has more than the gigabyte that PostgreSQL permits.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_no_archive_can_have_is_named_and_dropped_only_on_request() {
    let db = month_of(&[
        "INSERT INTO audit_logs (created_at, action, metadata) SELECT '2019-02-02', 'huge', jsonb_agg(1e131000::numeric) FROM generate_series(1, 9000)",
        "INSERT INTO audit_logs (created_at, action) VALUES ('2019-02-03', 'x')",
    ])
    .await;
    let id = db
        .text("SELECT id::text AS value FROM audit_logs WHERE action = 'huge'")
        .await;
    let dir = TempDir::new().unwrap();
    let archived = write(&db, PARTITION, dir.path()).await.unwrap();
    assert_eq!(archived.manifest.rows, 2);
    let mut conn = db.connection().await;
    let error = retention::drop_month(&mut conn, PARTITION, &trusting(), Some(&archived))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&id) && error.contains("--drop-unreadable"),
        "{error}"
    );
    assert_eq!(db.count().await, 2);
    let policy = RetentionPolicy {
        drop_unreadable: true,
        ..trusting()
    };
    retention::drop_month(&mut conn, PARTITION, &policy, Some(&archived))
        .await
        .unwrap();
    let ledger = retention::ledger(&mut conn).await.unwrap();
    assert_eq!(ledger[0].overrides, ["trust_clock", "drop_unreadable"]);
    let report = archive::restore(&mut conn, &archived, &Trust::Ledger, &mut |_| {})
        .await
        .unwrap();
    assert_eq!((report.inserted, report.unreadable), (1, 1));
}
