//! Good set-ups, in which the doctor finds nothing.

use std::process::{Command, Stdio};

use audit_ops::doctor::{Options, Severity};
use db_services::client::Database;
use db_test::Server;

use super::fixture::{findings, without_server_faults};
use crate::attacks::fixture::connect;

/// A server, and a database that its superuser has created.
async fn server() -> Server {
    let server = Server::start(&[("autovacuum", "off")]).unwrap_or_else(|error| panic!("{error}"));
    // The default since PostgreSQL 15.
    let schema = "REVOKE CREATE ON SCHEMA public FROM PUBLIC";
    for database in ["postgres", "template1"] {
        connect(&server.url(database))
            .await
            .batch_execute(schema)
            .await
            .unwrap();
    }
    server
}

async fn run(server: &Server, login: Option<&str>, database: &str, statements: &[&str]) {
    let url = match login {
        Some(login) => server.url_as(login, "pw", database),
        None => server.url(database),
    };
    let client = connect(&url).await;
    for statement in statements {
        let done = client.batch_execute(statement).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

async fn migrate(url: &str) {
    Database::from_url(url).unwrap().migrate().await.unwrap();
}

/// The findings of the application and of an auditor, other than of the server that does not flush to the disk.
async fn assert_nothing_is_found(url: &str) {
    let mut found: Vec<String> = findings(url, &Options::default())
        .await
        .iter()
        .filter(|finding| finding.severity >= Severity::Warning)
        .map(|finding| {
            format!(
                "{} {}: {}",
                finding.code.as_str(),
                finding.severity.as_str(),
                finding.found
            )
        })
        .collect();
    found = without_server_faults(found);
    assert_eq!(found, [""; 0]);
}

#[tokio::test]
async fn nothing_is_found_where_a_superuser_is_the_owner() {
    let server = server().await;
    migrate(&server.url("postgres")).await;
    run(
        &server,
        None,
        "postgres",
        &[
            "CREATE ROLE app LOGIN PASSWORD 'pw'",
            "GRANT audit_writer, audit_reader TO app",
            "CREATE ROLE alice LOGIN PASSWORD 'pw'",
            "GRANT audit_auditor TO alice",
        ],
    )
    .await;
    for login in ["app", "alice"] {
        assert_nothing_is_found(&server.url_as(login, "pw", "postgres")).await;
    }
}

/// As a provider sets it up: nobody is a superuser, and an administrator creates the owner.
#[tokio::test]
async fn nothing_is_found_without_a_superuser() {
    let server = server().await;
    run(
        &server,
        None,
        "postgres",
        &["CREATE ROLE administrator LOGIN CREATEROLE CREATEDB PASSWORD 'pw'"],
    )
    .await;
    for (owner, rights, prepared) in [
        ("creates", "CREATEROLE", false),
        ("is_given", "NOCREATEROLE", true),
    ] {
        let database = format!("db_{owner}");
        let create = format!("CREATE ROLE {owner} LOGIN {rights} PASSWORD 'pw'");
        // Since PostgreSQL 16 the administrator needs the role to name it as an owner.
        let member = format!("GRANT {owner} TO administrator");
        let create_database = format!("CREATE DATABASE {database} OWNER {owner}");
        let leave = format!("REVOKE {owner} FROM administrator");
        run(
            &server,
            Some("administrator"),
            "postgres",
            &[&create, &member, &create_database, &leave],
        )
        .await;
        let schema = format!("ALTER DATABASE {database} SET audit.writer_role = '{owner}_writer'");
        let settings: Vec<String> = ["reader", "auditor", "maintainer"]
            .iter()
            .map(|part| format!("ALTER DATABASE {database} SET audit.{part}_role = '{owner}_{part}'"))
            .chain([schema])
            .collect();
        run(
            &server,
            None,
            "postgres",
            &settings.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .await;
        if prepared {
            for part in ["writer", "reader", "auditor", "maintainer"] {
                run(
                    &server,
                    Some("administrator"),
                    "postgres",
                    &[&format!("CREATE ROLE {owner}_{part} NOLOGIN")],
                )
                .await;
            }
        }
        // The schema public belongs to the database's owner since PostgreSQL 15 only.
        run(
            &server,
            None,
            &database,
            &[&format!("GRANT CREATE ON SCHEMA public TO {owner}")],
        )
        .await;
        migrate(&server.url_as(owner, "pw", &database)).await;
        let granter = if prepared { "administrator" } else { owner };
        run(
            &server,
            Some(granter),
            &database,
            &[
                &format!("CREATE ROLE {owner}_app LOGIN PASSWORD 'pw'"),
                &format!("GRANT {owner}_writer TO {owner}_app"),
            ],
        )
        .await;
        assert_nothing_is_found(&server.url_as(&format!("{owner}_app"), "pw", &database)).await;
    }
}

#[tokio::test]
async fn nothing_is_found_with_roles_that_were_renamed_in_a_schema_of_its_own() {
    let server = server().await;
    run(
        &server,
        None,
        "postgres",
        &[
            "CREATE ROLE shop_owner LOGIN CREATEROLE PASSWORD 'pw'",
            "CREATE SCHEMA shop_trail AUTHORIZATION shop_owner",
        ],
    )
    .await;
    let options = "options=-c%20search_path%3Dshop_trail%20-c%20audit.writer_role%3DShop%5C%20Writer";
    let owner = format!("{}?{options}", server.url_as("shop_owner", "pw", "postgres"));
    migrate(&owner).await;
    run(
        &server,
        None,
        "postgres",
        &[
            "ALTER ROLE audit_auditor RENAME TO \"Shop \"\"Auditor\"\"\"",
            "ALTER ROLE shop_owner RENAME TO \"Shop Owner\"",
            "CREATE ROLE app LOGIN PASSWORD 'pw'",
            "GRANT \"Shop Writer\" TO app",
            "ALTER ROLE app SET search_path = shop_trail",
        ],
    )
    .await;
    assert_nothing_is_found(&server.url_as("app", "pw", "postgres")).await;
}

/// A dump has the objects, their rights and the settings of the functions, but neither roles nor statistics.
#[tokio::test]
async fn nothing_is_found_after_a_dump_was_restored() {
    let server = server().await;
    run(
        &server,
        None,
        "postgres",
        &[
            "CREATE ROLE trail_owner LOGIN CREATEROLE PASSWORD 'pw'",
            "CREATE DATABASE first",
            "CREATE DATABASE second",
        ],
    )
    .await;
    for database in ["first", "second"] {
        run(
            &server,
            None,
            database,
            &["GRANT CREATE ON SCHEMA public TO trail_owner"],
        )
        .await;
    }
    migrate(&server.url_as("trail_owner", "pw", "first")).await;
    run(
        &server,
        None,
        "first",
        &[
            "INSERT INTO audit_logs (action) VALUES ('x')",
            "CREATE ROLE alice LOGIN PASSWORD 'pw'",
            "GRANT audit_auditor TO alice",
        ],
    )
    .await;
    assert_nothing_is_found(&server.url_as("alice", "pw", "first")).await;
    let Some(dump) = dump(&server.url("first")) else {
        // The program in PATH is of an older version than this server.
        return;
    };
    restore(&server.url("second"), &dump);
    assert_nothing_is_found(&server.url_as("alice", "pw", "second")).await;
}

/// Migrations put the quoted name into the functions; the comparison must know it in each of its forms.
#[tokio::test]
async fn nothing_is_found_in_a_schema_whose_name_must_be_quoted() {
    for (owner, schema) in [
        ("shop_owner", "\"Shop \"\"Trail\"\"\""),
        ("Owner", "\"audit. %I\""),
    ] {
        let server = server().await;
        run(
            &server,
            None,
            "postgres",
            &[
                &format!("CREATE ROLE \"{owner}\" LOGIN CREATEROLE PASSWORD 'pw'"),
                &format!("CREATE SCHEMA {schema} AUTHORIZATION \"{owner}\""),
                &format!("ALTER DATABASE postgres SET search_path = {schema}"),
            ],
        )
        .await;
        migrate(&server.url_as(owner, "pw", "postgres")).await;
        run(
            &server,
            None,
            "postgres",
            &[
                "CREATE ROLE app LOGIN PASSWORD 'pw'",
                "GRANT audit_writer, audit_reader TO app",
                "CREATE ROLE alice LOGIN PASSWORD 'pw'",
                "GRANT audit_auditor TO alice",
                "INSERT INTO audit_logs (tenant_id, action) VALUES ('acme', 'x')",
            ],
        )
        .await;
        for login in ["app", "alice"] {
            assert_nothing_is_found(&server.url_as(login, "pw", "postgres")).await;
        }
    }
}

fn dump(url: &str) -> Option<Vec<u8>> {
    let output = Command::new("pg_dump").arg(url).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() || error.contains("server version mismatch"),
        "{error}"
    );
    output.status.success().then_some(output.stdout)
}

fn restore(url: &str, dump: &[u8]) {
    use std::io::Write;
    let mut psql = Command::new("psql")
        .args(["-q", "-v", "ON_ERROR_STOP=1", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    psql.stdin.take().unwrap().write_all(dump).unwrap();
    let output = psql.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
