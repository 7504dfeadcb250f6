//! The four roles: how they are created and dropped, and that a writer needs only its own.

use db_services::audit::spool::{Quarantine, ReplayScope};
use db_services::audit::{
    AuditEntry, Delivery, Durability, Verdict, for_tenant, insert, latest, latest_with_records,
    verify_writers,
};
use db_services::client::Database;
use db_test::Server;
use tempfile::TempDir;

use crate::attacks::fixture::{connect, text};
use crate::spool::fast_retry;
use crate::support::{TIMEOUT, numbered, wait_for, writer_to};

fn server() -> Server {
    Server::start(&[]).unwrap_or_else(|error| panic!("{error}"))
}

fn database(url: &str) -> Database {
    Database::from_url(url).unwrap()
}

/// Runs statements on a database of the server as its superuser.
async fn admin(server: &Server, name: &str, sql: &str) {
    connect(&server.url(name))
        .await
        .batch_execute(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// The roles of the cluster whose names have this prefix.
async fn roles(server: &Server, prefix: &str) -> Vec<String> {
    let sql = format!("SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, '{prefix}') ORDER BY 1");
    text(&connect(&server.url("postgres")).await, &sql).await
}

const ROLES: [&str; 4] = [
    "audit_auditor",
    "audit_maintainer",
    "audit_reader",
    "audit_writer",
];

/// Reverts the newest migrations down to the one before the roles.
async fn revert_roles(database: &Database) {
    while !database.revert_migration().await.unwrap().ends_with("000003") {}
}

#[tokio::test]
async fn databases_of_a_cluster_share_the_roles_and_drop_only_unused_ones() {
    let server = server();
    let (one, other) = (server.migrated().unwrap(), server.migrated().unwrap());
    assert_eq!(roles(&server, "audit_").await, ROLES);
    admin(
        &server,
        "postgres",
        "CREATE ROLE app LOGIN PASSWORD 'pw' IN ROLE audit_writer",
    )
    .await;
    let name = other.rsplit_once('/').unwrap().1;
    let app = database(&server.url_as("app", "pw", name));
    insert(&mut app.connection().await.unwrap(), &AuditEntry::new("x"))
        .await
        .unwrap();

    revert_roles(&database(&one)).await;
    assert_eq!(
        roles(&server, "audit_").await,
        ROLES,
        "the other database uses them"
    );
    insert(&mut app.connection().await.unwrap(), &AuditEntry::new("y"))
        .await
        .unwrap();

    revert_roles(&database(&other)).await;
    assert_eq!(
        roles(&server, "audit_").await,
        ["audit_writer"],
        "the role with a member remains"
    );
    assert!(
        insert(&mut app.connection().await.unwrap(), &AuditEntry::new("z"))
            .await
            .is_err()
    );
    admin(&server, "postgres", "REVOKE audit_writer FROM app").await;
    database(&other).migrate().await.unwrap();
    revert_roles(&database(&other)).await;
    assert_eq!(roles(&server, "audit_").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_a_cluster_can_be_migrated_and_reverted_concurrently() {
    let server = server();
    let mut shops = Vec::new();
    for name in ["one", "two", "three", "four"] {
        admin(&server, "postgres", &format!("CREATE DATABASE {name}")).await;
        shops.push(database(&server.url(name)));
    }
    let [one, two, three, four] = &shops[..] else {
        panic!("four of them")
    };
    for database in &shops[..2] {
        database.migrate().await.unwrap();
        revert_roles(database).await;
    }
    assert_eq!(roles(&server, "audit_").await, [""; 0]);
    // All of them create the roles, then two drop them while the others begin to use them.
    for _ in 0..5 {
        let (a, b) = tokio::join!(one.migrate(), two.migrate());
        // The roles, and the retention, the look-ups and the feed, which depend on them.
        assert_eq!((a.unwrap().len(), b.unwrap().len()), (4, 4));
        let (_, _, c, d) = tokio::join!(
            revert_roles(one),
            revert_roles(two),
            three.migrate(),
            four.migrate()
        );
        c.unwrap();
        d.unwrap();
        for shop in ["three", "four"] {
            admin(
                &server,
                shop,
                "GRANT audit_writer TO postgres; REVOKE audit_writer FROM postgres",
            )
            .await;
        }
        revert_roles(three).await;
        revert_roles(four).await;
        assert_eq!(roles(&server, "audit_").await, [""; 0]);
    }
}

#[tokio::test]
async fn an_owner_without_createrole_gets_a_hint_and_uses_existing_roles() {
    let server = server();
    admin(
        &server,
        "postgres",
        "CREATE ROLE plain LOGIN PASSWORD 'pw'; CREATE ROLE audit_reader",
    )
    .await;
    admin(&server, "postgres", "CREATE DATABASE plain OWNER plain").await;
    admin(&server, "plain", "GRANT CREATE ON SCHEMA public TO plain").await;
    let plain = database(&server.url_as("plain", "pw", "plain"));
    let error = plain.migrate().await.unwrap_err().to_string();
    let missing = "CREATE ROLE audit_writer NOLOGIN; CREATE ROLE audit_auditor NOLOGIN; CREATE ROLE audit_maintainer NOLOGIN;";
    assert!(
        error.contains(missing) && error.contains("plain may not create"),
        "{error}"
    );
    admin(&server, "postgres", missing).await;
    assert_ne!(plain.migrate().await.unwrap().len(), 0);
    revert_roles(&plain).await;
    assert_eq!(
        roles(&server, "audit_").await,
        ROLES,
        "roles that existed before remain"
    );
}

#[tokio::test]
async fn names_of_roles_can_be_chosen_and_changed() {
    let server = server();
    admin(&server, "postgres", "CREATE DATABASE shop").await;
    let settings = "-c%20audit.writer_role%3DShop-Writer%20-c%20audit.reader_role%3Dshop_reader";
    let shop = database(&format!("{}?options={settings}", server.url("shop")));
    shop.migrate().await.unwrap();
    assert_eq!(
        roles(&server, "audit_").await,
        ["audit_auditor", "audit_maintainer"]
    );
    admin(
        &server,
        "shop",
        "ALTER ROLE \"Shop-Writer\" RENAME TO shop_w; ALTER ROLE shop_reader RENAME TO \"Shop R\"",
    )
    .await;
    admin(
        &server,
        "shop",
        "CREATE ROLE app LOGIN PASSWORD 'pw' IN ROLE shop_w, \"Shop R\"",
    )
    .await;
    let app = database(&server.url_as("app", "pw", "shop"));
    insert(
        &mut app.connection().await.unwrap(),
        &AuditEntry::new("x").tenant("acme"),
    )
    .await
    .unwrap();
    let rows = for_tenant(&app, "acme", async |conn| latest(conn, 9).await)
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    admin(&server, "shop", "REVOKE shop_w, \"Shop R\" FROM app").await;
    revert_roles(&shop).await;
    assert_eq!(
        roles(&server, "shop_").await.len() + roles(&server, "Shop").await.len(),
        0
    );
}

#[tokio::test]
async fn unsuitable_roles_are_rejected() {
    let server = server();
    admin(&server, "postgres", "CREATE ROLE almighty BYPASSRLS").await;
    for (settings, expected) in [
        (
            "-c%20audit.reader_role%3Dalmighty",
            "almighty is a superuser or has BYPASSRLS",
        ),
        (
            "-c%20audit.reader_role%3Daudit_writer",
            "audit_writer cannot have two parts",
        ),
    ] {
        admin(&server, "postgres", "DROP DATABASE IF EXISTS shop").await;
        admin(&server, "postgres", "CREATE DATABASE shop").await;
        let shop = database(&format!("{}?options={settings}", server.url("shop")));
        let error = shop.migrate().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// ALTER DEFAULT PRIVILEGES grants privileges on objects that are created later, before or after the migration.
#[tokio::test]
async fn default_privileges_are_revoked_on_tables_of_the_trail() {
    let server = server();
    let url = server.migrated().unwrap();
    let name = url.rsplit_once('/').unwrap().1;
    revert_roles(&database(&url)).await;
    let everybody = "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC";
    admin(&server, name, everybody).await;
    let rights = "SELECT relname::text FROM pg_class, aclexplode(relacl) WHERE relname LIKE 'audit\\_%' AND grantee = 0";
    let client = connect(&url).await;
    assert!(
        text(&client, rights).await.contains(&"audit_logs".to_owned()),
        "the default privileges apply"
    );
    database(&url).migrate().await.unwrap();
    assert_eq!(text(&client, rights).await, [""; 0]);
    client.batch_execute("CREATE TABLE audit_other ()").await.unwrap();
    client
        .batch_execute("SELECT audit_logs_ensure_partitions('2041-01-01', '2041-12-01')")
        .await
        .unwrap();
    let found = text(&client, rights).await;
    assert!(
        !found.is_empty() && found.iter().all(|table| table == "audit_other"),
        "{found:?}"
    );
}

/// A writer that may create functions in the table's schema, like applications that migrate their own tables,
/// creates functions that match better than built-in ones.
#[tokio::test]
async fn the_owners_functions_call_no_functions_of_other_users() {
    let server = server();
    let url = server.migrated().unwrap();
    let name = url.rsplit_once('/').unwrap().1;
    admin(
        &server,
        name,
        "CREATE ROLE app LOGIN PASSWORD 'pw'; GRANT CREATE ON SCHEMA public TO app",
    )
    .await;
    let app = connect(&server.url_as("app", "pw", name)).await;
    app.batch_execute(
        "CREATE FUNCTION public.format(text, name, name, regclass) RETURNS text LANGUAGE sql
             AS $$ SELECT 'ALTER ROLE app SUPERUSER; CREATE TABLE public.' || $3 || ' (LIKE public.audit_logs)' $$;
         CREATE FUNCTION public.set_bit(bytea, integer, integer) RETURNS bytea LANGUAGE plpgsql
             AS $$ BEGIN ALTER ROLE app SUPERUSER; RETURN pg_catalog.set_bit($1, $2::bigint, $3); END $$",
    )
    .await
    .unwrap();
    let owner = connect(&url).await;
    let month = |ahead: u8| {
        format!(
            "SELECT audit_logs_create_upcoming_partition(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '{ahead} months')"
        )
    };
    // The migration has created them.
    owner
        .batch_execute(
            "DO $$ DECLARE part regclass; BEGIN
                 FOR part IN SELECT partition FROM audit_logs_months() WHERE from_time > now() + interval '2 months' LOOP
                     EXECUTE format('DROP TABLE %s', part);
                 END LOOP;
             END $$",
        )
        .await
        .unwrap();
    let row = "INSERT INTO audit_logs (action) VALUES ('x')";
    let reached = async || {
        text(
            &owner,
            "SELECT rolsuper::text FROM pg_roles WHERE rolname = 'app'",
        )
        .await[0]
            .clone()
    };

    admin(&server, name, "GRANT audit_writer TO app").await;
    app.batch_execute(&month(20)).await.unwrap();
    assert_eq!(reached().await, "false", "through creating a partition");
    owner.batch_execute(row).await.unwrap();
    assert_eq!(reached().await, "false", "through the default of the id");

    // Proof that it is an attack: with the table's schema in the search_path, and with a body that is not bound, it
    // succeeds.
    owner
        .batch_execute(
            "ALTER FUNCTION audit_logs_create_partition(timestamp) SET search_path = pg_catalog, public, pg_temp;
             CREATE OR REPLACE FUNCTION audit_uuid_v7() RETURNS uuid LANGUAGE sql
                 AS $$ SELECT encode(set_bit(uuid_send(gen_random_uuid()), 52, 1), 'hex')::uuid $$",
        )
        .await
        .unwrap();
    app.batch_execute(&month(21)).await.unwrap();
    assert_eq!(reached().await, "true", "through creating a partition");
    admin(&server, name, "ALTER ROLE app NOSUPERUSER").await;
    owner.batch_execute(row).await.unwrap();
    assert_eq!(reached().await, "true", "through the default of the id");
}

/// `audit_qualify_functions` runs with the rights of whoever migrates, a superuser perhaps.
#[tokio::test]
async fn a_migration_leaves_the_functions_of_others_alone() {
    let server = server();
    let url = server.migrated().unwrap();
    let name = url.rsplit_once('/').unwrap().1;
    admin(
        &server,
        name,
        "CREATE ROLE app LOGIN PASSWORD 'pw'; GRANT CREATE ON SCHEMA public TO app",
    )
    .await;
    let app = connect(&server.url_as("app", "pw", name)).await;
    let create = "SET check_function_bodies = off;
        CREATE FUNCTION audit_mine() RETURNS text LANGUAGE sql AS $$ SELECT '@schema@' $$";
    app.batch_execute(create).await.unwrap();
    let owner = connect(&url).await;
    let body = "SELECT prosrc FROM pg_proc WHERE proname = 'audit_mine'";
    owner
        .batch_execute("SELECT audit_qualify_functions()")
        .await
        .unwrap();
    assert_eq!(text(&owner, body).await, [" SELECT '@schema@' "]);
    // The owner's own it does complete.
    admin(&server, name, "ALTER FUNCTION audit_mine() OWNER TO postgres").await;
    owner
        .batch_execute("SELECT audit_qualify_functions()")
        .await
        .unwrap();
    assert_eq!(text(&owner, body).await, [" SELECT 'public' "]);
}

/// A database with a login that is a member of `audit_writer` and of nothing else.
async fn with_writer_login(server: &Server) -> (String, Database) {
    let url = server.migrated().unwrap();
    let name = url.rsplit_once('/').unwrap().1.to_owned();
    admin(
        server,
        "postgres",
        "CREATE ROLE app LOGIN PASSWORD 'pw' IN ROLE audit_writer",
    )
    .await;
    let app = database(&server.url_as("app", "pw", &name));
    assert!(
        latest_with_records(&mut app.connection().await.unwrap(), 1)
            .await
            .is_err(),
        "it may not read"
    );
    let error = for_tenant(&app, "acme", async |conn| latest_with_records(conn, 1).await)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("GRANT audit_reader") && !error.contains("pw"),
        "{error}"
    );
    (name, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn fire_and_forget_needs_only_the_role_audit_writer() {
    let server = server();
    let (name, app) = with_writer_login(&server).await;
    let (writer, guard) = writer_to(app).start().unwrap();
    for entry in numbered(5_000) {
        drop(writer.write(entry));
    }
    // Without a default partition, the partition of an upcoming month is created for its first row.
    let at = chrono::Utc::now() + chrono::Days::new(600);
    let month = at.format("audit_logs_%Y_%m").to_string();
    admin(&server, &name, &format!("DROP TABLE audit_logs_default, {month}")).await;
    let early = AuditEntry::new("early").created_at(at);
    assert_eq!(writer.write(early).await, Delivery::Committed);
    let report = guard.shutdown(TIMEOUT).await;
    assert_eq!((report.committed, report.lost), (5_001, 0));
    let owner = database(&server.url(&name));
    let accounts = verify_writers(&mut owner.connection().await.unwrap())
        .await
        .unwrap();
    assert_eq!(
        (accounts[0].verdict, accounts[0].stored),
        (Verdict::Complete, 5_001)
    );
    let partition = "SELECT tableoid::regclass::text FROM audit_logs WHERE action = 'early'";
    assert_eq!(text(&connect(&server.url(&name)).await, partition).await, [month]);
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_and_quarantine_need_only_the_role_audit_writer() {
    let server = server();
    let (name, app) = with_writer_login(&server).await;
    let dir = TempDir::new().unwrap();
    let spill = Durability::Spill(dir.path().into());
    let (writer, guard) = writer_to(app.clone())
        .durability(spill)
        .retry(fast_retry())
        .start()
        .unwrap();
    assert!(writer.write_all(numbered(10)).await.is_durable());

    // An outage while entries are written, whose answers may be lost.
    for entry in numbered(2_000) {
        drop(writer.write(entry));
    }
    server.stop_immediate().unwrap();
    assert_eq!(
        writer.write(AuditEntry::new("meanwhile")).await,
        Delivery::Spooled
    );
    server.start_again().unwrap();
    let admin_url = server.url(&name);
    let count = async |what: &str| {
        let sql = format!("SELECT count(*)::text FROM audit_logs WHERE {what}");
        text(&connect(&admin_url).await, &sql).await[0]
            .parse::<usize>()
            .unwrap()
    };
    wait_for("the replay", async || count("action = 'meanwhile'").await == 1).await;

    // A rejected row is found by inserting rows and rolling back.
    admin(
        &server,
        &name,
        "ALTER TABLE audit_logs ADD CONSTRAINT polite CHECK (action <> 'rude.word')",
    )
    .await;
    drop(writer.write_all(["kind.word", "rude.word"].map(AuditEntry::new)));
    let quarantined = || Quarantine::open(dir.path()).unwrap().list().unwrap().len();
    wait_for("the quarantine", async || {
        count("action = 'kind.word'").await == 1 && quarantined() == 1
    })
    .await;

    // A missing privilege is a misconfiguration: nothing is lost until it is granted.
    admin(&server, &name, "REVOKE audit_writer FROM app").await;
    assert_eq!(writer.write(AuditEntry::new("outside")).await, Delivery::Spooled);
    assert_eq!(count("action = 'outside'").await, 0);
    admin(
        &server,
        &name,
        "GRANT audit_writer TO app; ALTER TABLE audit_logs DROP CONSTRAINT polite",
    )
    .await;
    wait_for("the replay", async || count("action = 'outside'").await == 1).await;
    // Entries that failed before may be committed after it.
    wait_for("the other entries", async || {
        count("action = 'test.write'").await >= 2_010
    })
    .await;

    let report = guard.shutdown(TIMEOUT).await;
    assert_eq!(report.lost, 0, "{report:?}");
    assert_eq!(count("action = 'test.write'").await, 2_010, "each once");
    let mut quarantine = Quarantine::open(dir.path()).unwrap();
    assert_eq!(
        quarantine
            .retry(&app, ReplayScope::SameDatabase)
            .await
            .unwrap()
            .stored,
        1
    );
    assert_eq!(count("action LIKE '%.word'").await, 2);
}
