//! The checked-in description of the catalog is what the migrations make, on each version of PostgreSQL.

use std::path::Path;

use audit_ops::doctor::describe;
use db_services::client::Database;
use db_test::Server;

use crate::attacks::fixture::connect;

const CHECKED_IN: &str = "crates/audit-ops/src/doctor/postgres/comparison/expected.txt";

/// Names that occur nowhere in the migrations, so that each can be replaced by a placeholder.
const ROLES: [&str; 4] = ["writer", "reader", "auditor", "maintainer"];

async fn described() -> String {
    let server = Server::start(&[]).unwrap_or_else(|error| panic!("{error}"));
    let admin = connect(&server.url("postgres")).await;
    let mut setup = "CREATE ROLE xx_owner LOGIN PASSWORD 'pw'; CREATE DATABASE described".to_owned();
    for role in ROLES {
        setup.push_str(&format!("; CREATE ROLE xx_{role}"));
    }
    for statement in setup.split("; ") {
        admin.batch_execute(statement).await.unwrap();
    }
    let admin = connect(&server.url("described")).await;
    let mut setup =
        "CREATE SCHEMA xx_schema AUTHORIZATION xx_owner; ALTER ROLE xx_owner SET search_path = xx_schema"
            .to_owned();
    for role in ROLES {
        setup.push_str(&format!(
            "; ALTER DATABASE described SET audit.{role}_role = 'xx_{role}'"
        ));
    }
    admin.batch_execute(&setup).await.unwrap();
    let database = Database::from_url(&server.url_as("xx_owner", "pw", "described")).unwrap();
    database.migrate().await.unwrap();
    // A month that has ended has look-up indexes; the open ones must not be described instead of it.
    let owner = connect(&server.url_as("xx_owner", "pw", "described")).await;
    owner
        .batch_execute(
            "SELECT audit_logs_ensure_partitions('2001-01-01', '2001-01-01'); SELECT audit_logs_index_closed_months()",
        )
        .await
        .unwrap();
    describe(&database).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_description_of_the_catalog_is_what_the_migrations_make() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(CHECKED_IN);
    let described = described().await;
    if std::env::var_os("UPDATE_CATALOG").is_some() {
        std::fs::write(&path, &described).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap();
    let differs = described
        .lines()
        .zip(checked_in.lines())
        .find(|(new, old)| new != old);
    assert!(
        described == checked_in,
        "{CHECKED_IN} is not what the migrations make; after a change of the migrations run `just catalog`. \
         The first difference: {differs:#?}"
    );
}
