//! A trail works in a schema of any name, and several trails share a database and a server without sharing rights.

use audit_ops::archive::{self, Trust};
use audit_ops::retention::{self, RetentionPolicy};
use audit_ops::{holds, partitions};
use db_services::audit::{AuditEntry, Delivery, for_tenant, insert, latest};
use db_services::client::Database;
use db_test::Server;
use tempfile::TempDir;

use crate::attacks::fixture::{connect, text};
use crate::support::{TIMEOUT, TestDb, has_no_migration, writer_to};

const NAMES: [&str; 10] = [
    "Audit",
    "my audit",
    "a.b",
    "\"",
    "a\"b",
    "100%s %I %L",
    "select",
    "pröbe 😀",
    "schema@",
    "a_name_as_long_as_postgresql_permits_names_to_be_with_its_63_byt",
];

fn name_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Uses every function of a trail.
async fn use_all(database: &Database, dir: &TempDir) {
    let mut conn = database.connection().await.unwrap();
    let (writer, guard) = writer_to(database.clone()).start().unwrap();
    assert_eq!(
        writer.write(AuditEntry::new("written")).await,
        Delivery::Committed
    );
    guard.shutdown(TIMEOUT).await;
    let old: chrono::DateTime<chrono::Utc> = "2019-02-15T00:00:00Z".parse().unwrap();
    for action in ["old", "older"] {
        let entry = AuditEntry::new(action).created_at(old).tenant("acme");
        insert(&mut conn, &entry).await.unwrap();
    }
    let months = partitions::default_partition_months(&mut conn).await.unwrap();
    assert_eq!(
        partitions::move_month(&mut conn, &months[0], partitions::MAX_PARTITIONS)
            .await
            .unwrap(),
        2
    );
    partitions::ensure(
        &mut conn,
        old,
        old + chrono::Days::new(80),
        partitions::MAX_PARTITIONS,
        |_, _| {},
    )
    .await
    .unwrap();
    let scope = holds::HoldScope {
        tenant_id: Some("acme".to_owned()),
        ..holds::HoldScope::default()
    };
    assert_eq!(holds::coverage(&mut conn, &scope).await.unwrap().row_count, 2);
    let hold = holds::add(&mut conn, &scope, "case").await.unwrap();
    let policy = RetentionPolicy {
        trust_clock: true,
        ..RetentionPolicy::keep(13)
    };
    let verdict = async |conn: &mut _| {
        let plan = retention::plan(conn, &policy).await.unwrap();
        let planned = plan
            .into_iter()
            .find(|month| month.month.as_deref() == Some("2019-02"))
            .unwrap();
        (planned.verdict.as_str(), planned)
    };
    assert_eq!(verdict(&mut conn).await.0, "held");
    holds::release(&mut conn, hold, "over").await.unwrap();
    let (word, month) = verdict(&mut conn).await;
    assert_eq!(word, "drop");
    let archived = archive::write(&mut conn, &month, dir.path(), &mut |_| {})
        .await
        .unwrap();
    retention::drop_month(&mut conn, &month.name, &policy, Some(&archived))
        .await
        .unwrap();
    let report = archive::restore(&mut conn, &archived, &Trust::Ledger, &mut |_| {})
        .await
        .unwrap();
    assert_eq!(report.inserted, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_may_have_nearly_any_name_and_others_are_refused() {
    for name in NAMES {
        let db = TestDb::empty_postgres();
        let schema = quoted(name);
        let database = name_of(&db.url);
        db.sql(&format!(
            "CREATE SCHEMA {schema}; ALTER DATABASE \"{database}\" SET search_path = {schema}"
        ))
        .await
        .unwrap();
        let elsewhere = Database::from_url(&db.url).unwrap();
        elsewhere
            .migrate()
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let client = connect(&db.url).await;
        let of_public = "SELECT count(*)::text FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a \
                         WHERE proname LIKE 'audit!_%' ESCAPE '!' AND grantee = 0 AND prorettype <> 'trigger'::regtype AND prokind = 'f'";
        assert_eq!(text(&client, of_public).await, ["0"], "{name}");
        use_all(&elsewhere, &TempDir::new().unwrap()).await;
        let rows = for_tenant(&elsewhere, "acme", async |conn| latest(conn, 10).await);
        assert_eq!(rows.await.unwrap().len(), 2, "{name}");
        client
            .batch_execute("SELECT audit_logs_index_closed_months()")
            .await
            .unwrap();
        drop(client);
        while !has_no_migration(&elsewhere).await {
            elsewhere
                .revert_migration_with_evidence()
                .await
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    for name in ["it's", "dol$lar", "back\\slash", "@schema@"] {
        let db = TestDb::empty_postgres();
        let schema = quoted(name);
        let database = name_of(&db.url);
        db.sql(&format!(
            "CREATE SCHEMA {schema}; ALTER DATABASE \"{database}\" SET search_path = {schema}"
        ))
        .await
        .unwrap();
        let error = Database::from_url(&db.url)
            .unwrap()
            .migrate()
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("cannot hold the trail") && error.contains(name),
            "{name}: {error}"
        );
    }
    let db = TestDb::empty_postgres();
    let database = name_of(&db.url);
    db.sql(&format!(
        "ALTER DATABASE \"{database}\" SET search_path = missing"
    ))
    .await
    .unwrap();
    let error = Database::from_url(&db.url)
        .unwrap()
        .migrate()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("schema"), "{error}");
}

/// An owner with a schema, roles and logins of its own.
struct Trail {
    owner: String,
    logins: Vec<(&'static str, String)>,
}

const KINDS: [&str; 4] = ["writer", "reader", "auditor", "maintainer"];

async fn trail(server: &Server, database: &str, prefix: &str, schema: &str) -> Trail {
    let admin = connect(&server.url(database)).await;
    let schema = quoted(schema);
    let mut sql = format!(
        "CREATE ROLE {prefix}_owner LOGIN CREATEROLE PASSWORD 'pw'; CREATE SCHEMA {schema} AUTHORIZATION {prefix}_owner; \
         ALTER ROLE {prefix}_owner SET search_path = {schema};"
    );
    for kind in KINDS {
        sql += &format!("ALTER ROLE {prefix}_owner SET audit.{kind}_role = '{prefix}_{kind}';");
    }
    admin.batch_execute(&sql).await.unwrap();
    let owner = server.url_as(&format!("{prefix}_owner"), "pw", database);
    Database::from_url(&owner).unwrap().migrate().await.unwrap();
    let mut logins = Vec::new();
    for kind in KINDS {
        let login = format!("{prefix}_{kind}_login");
        admin
            .batch_execute(&format!(
                "CREATE ROLE {login} LOGIN PASSWORD 'pw' IN ROLE {prefix}_{kind}; ALTER ROLE {login} SET search_path = {schema}"
            ))
            .await
            .unwrap();
        logins.push((kind, server.url_as(&login, "pw", database)));
    }
    Trail { owner, logins }
}

/// A statement for each kind of login, which it may run in its own trail, and nobody in another one.
const STATEMENTS: [(&str, &str); 4] = [
    ("writer", "INSERT INTO {}.audit_logs (action) VALUES ('forged')"),
    ("reader", "SELECT FROM {}.audit_logs"),
    ("auditor", "SELECT {}.audit_logs_lines(now(), now())"),
    ("maintainer", "SELECT {}.audit_logs_drop_month('none', 13, 'x')"),
];

#[tokio::test(flavor = "multi_thread")]
async fn trails_of_a_database_and_of_a_server_share_no_rights() {
    let server = Server::start(&[]).unwrap();
    let admin = connect(&server.url("postgres")).await;
    admin.batch_execute("CREATE DATABASE one").await.unwrap();
    admin.batch_execute("CREATE DATABASE two").await.unwrap();
    let names = ["audit", "Audit", "audit"];
    let trails = [
        trail(&server, "one", "first", names[0]).await,
        trail(&server, "one", "second", names[1]).await,
        trail(&server, "two", "third", names[2]).await,
    ];
    for trail in &trails {
        use_all(
            &Database::from_url(&trail.owner).unwrap(),
            &TempDir::new().unwrap(),
        )
        .await;
    }
    for (own, trail) in trails.iter().enumerate() {
        for (kind, url) in &trail.logins {
            let client = connect(url).await;
            let (_, allowed) = STATEMENTS.iter().find(|(of, _)| of == kind).unwrap();
            let outcome = client
                .batch_execute(&allowed.replace("{}", &quoted(names[own])))
                .await;
            match outcome {
                Ok(()) => {}
                Err(error) => assert_eq!(error.code().unwrap().code(), "UA002", "{kind}: {error:?}"),
            }
            // The other trail of the same database. A schema that a login may not use refuses it before.
            if own == 2 {
                continue;
            }
            for (_, statement) in STATEMENTS {
                let sql = statement.replace("{}", &quoted(names[1 - own]));
                let refused = client.batch_execute(&sql).await.unwrap_err();
                assert_eq!(refused.code().unwrap().code(), "42501", "{own} {kind}: {sql}");
            }
        }
    }
    // A right on the schema alone gives none on what is in it.
    let plain = "CREATE ROLE plain LOGIN PASSWORD 'pw'; GRANT USAGE ON SCHEMA audit, \"Audit\" TO plain";
    connect(&server.url("one"))
        .await
        .batch_execute(plain)
        .await
        .unwrap();
    let plain = connect(&server.url_as("plain", "pw", "one")).await;
    for name in &names[..2] {
        for (_, statement) in STATEMENTS {
            let refused = plain
                .batch_execute(&statement.replace("{}", &quoted(name)))
                .await
                .unwrap_err();
            assert_eq!(refused.code().unwrap().code(), "42501", "{name}: {statement}");
        }
    }
    // The login of one database connects to another unless that is revoked, as the guide says.
    let writer = |database| server.url_as("first_writer_login", "pw", database);
    connect(&writer("two"))
        .await
        .batch_execute("SELECT 1")
        .await
        .unwrap();
    admin
        .batch_execute("REVOKE CONNECT ON DATABASE two FROM PUBLIC")
        .await
        .unwrap();
    let refused = tokio_postgres::connect(&writer("two"), tokio_postgres::NoTls).await;
    assert!(refused.is_err(), "CONNECT is revoked");
    // Since PostgreSQL 16 an owner grants only roles that it has created.
    let version: i32 = text(&admin, "SELECT current_setting('server_version_num')").await[0]
        .parse()
        .unwrap();
    if version >= 160_000 {
        let owner = connect(&trails[0].owner).await;
        let refused = owner
            .batch_execute("GRANT second_auditor TO first_owner")
            .await
            .unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501");
    }
}
