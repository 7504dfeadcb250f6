//! The server on which the attacks run, the attackers, and the outcomes.

use db_services::client::Database;
use db_test::Server;
use futures_util::SinkExt;
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};

use super::list::{ATTACKS, Attack, How};

/// The attackers, with their names in the documentation and their logins. Only the last one is a superuser.
pub const ATTACKERS: [(&str, &str); 7] = [
    ("writer", "attack_writer"),
    ("reader", "attack_reader"),
    ("auditor", "attack_auditor"),
    ("maintainer", "attack_maintainer"),
    ("anyone else", "attack_stranger"),
    ("owner", "attack_owner"),
    ("superuser", "postgres"),
];

/// A server with a database that a user with CREATEROLE has migrated, and with a login for each attacker.
pub struct AttackFixture {
    server: Server,
    pub version: u32,
    /// The partitions that hold a row, each with the row's time.
    filled: Vec<(String, String)>,
    partitions: Vec<String>,
}

impl AttackFixture {
    pub async fn open() -> Self {
        // Autovacuum would add statistics that a reader might see.
        let server = Server::start(&[("autovacuum", "off")]).unwrap_or_else(|error| panic!("{error}"));
        let admin = connect(&server.url("postgres")).await;
        for (_, login) in &ATTACKERS[..6] {
            admin
                .batch_execute(&format!("CREATE ROLE {login} LOGIN PASSWORD 'pw'"))
                .await
                .unwrap();
        }
        admin
            .batch_execute("ALTER ROLE attack_owner CREATEROLE")
            .await
            .unwrap();
        admin
            .batch_execute("CREATE DATABASE attacked OWNER attack_owner")
            .await
            .unwrap();
        let admin = connect(&server.url("attacked")).await;
        // The default since PostgreSQL 15.
        let schema =
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT CREATE ON SCHEMA public TO attack_owner";
        admin.batch_execute(schema).await.unwrap();
        let owner = server.url_as("attack_owner", "pw", "attacked");
        Database::from_url(&owner).unwrap().migrate().await.unwrap();
        for (part, login) in &ATTACKERS[..4] {
            admin
                .batch_execute(&format!("GRANT audit_{part} TO {login}"))
                .await
                .unwrap();
        }
        connect(&owner).await.batch_execute(ROWS).await.unwrap();
        let version = text(&admin, "SELECT current_setting('server_version_num')").await[0]
            .parse()
            .unwrap();
        let filled = text(
            &admin,
            "SELECT tableoid::regclass || '|' || quote_literal(created_at) FROM audit_logs WHERE tableoid <> 'made_by_hand'::regclass",
        );
        let filled = filled
            .await
            .iter()
            .map(|row| row.split_once('|').unwrap())
            .map(|(a, b)| (a.into(), b.into()))
            .collect();
        let partitions = text(
            &admin,
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass AND inhrelid <> 'made_by_hand'::regclass",
        );
        let partitions = partitions.await;
        Self {
            server,
            version,
            filled,
            partitions,
        }
    }

    pub async fn superuser(&self) -> Client {
        connect(&self.server.url("attacked")).await
    }

    pub async fn login(&self, login: &str) -> Client {
        match login {
            "postgres" => self.superuser().await,
            login => connect(&self.server.url_as(login, "pw", "attacked")).await,
        }
    }

    pub async fn rows(&self) -> Vec<String> {
        text(
            &self.superuser().await,
            "SELECT audit_logs::text FROM audit_logs ORDER BY id",
        )
        .await
    }

    /// The attacks that this version of PostgreSQL supports.
    pub fn attacks(&self) -> impl Iterator<Item = &'static Attack> {
        let known = self.version >= 150_000;
        ATTACKS
            .iter()
            .flat_map(|(_, attacks)| *attacks)
            .filter(move |a| known || a.how != How::RowsFrom15)
    }

    /// Tries to copy one line, and rolls it back. On a separate connection, because the driver's connection
    /// is unusable after a refused COPY.
    pub async fn attempt_copy(&self, login: &str, sql: &str) -> String {
        let client = self.login(login).await;
        client.batch_execute("BEGIN").await.unwrap();
        let copied = async {
            let mut sink = Box::pin(client.copy_in(sql).await?);
            let line = if sql.contains("recorded_at") {
                "x\t2020-01-01\n"
            } else {
                "x\n"
            };
            sink.send(line.as_bytes()).await?;
            sink.as_mut().finish().await
        };
        copied.await.map_or_else(|error| refusal(&error), counted)
    }

    /// Tries an attack in the client's open transaction. Returns its outcome, or several if partitions differ.
    pub async fn attempt(&self, client: &Client, attack: &Attack) -> String {
        let statements: Vec<String> = match attack.how {
            How::EachPartition => {
                let with =
                    |(part, at): &(String, String)| attack.sql.replace("$part", part).replace("$at", at);
                self.filled.iter().map(with).collect()
            }
            How::EveryPartition => self
                .partitions
                .iter()
                .map(|part| attack.sql.replace("$part", part))
                .collect(),
            _ => vec![attack.sql.to_owned()],
        };
        let mut outcomes = Vec::new();
        for sql in statements {
            client.batch_execute("SAVEPOINT attack").await.unwrap();
            let tried = run(client, &sql, attack.how).await;
            client
                .batch_execute("ROLLBACK TO attack; RELEASE attack")
                .await
                .unwrap();
            outcomes.push(tried.unwrap_or_else(|error| refusal(&error)));
        }
        outcomes.sort();
        outcomes.dedup();
        outcomes.join(", ")
    }
}

/// Four rows: in the current month, in a new partition, in the default partition and in a manually created
/// one; two of the tenant acme, one of globex, one without a tenant. Most empty partitions are dropped. Also
/// an old month, a dropped month, and a legal hold.
const ROWS: &str = "
    DO $$ DECLARE part regclass; BEGIN
        FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass ORDER BY inhrelid OFFSET 5 LOOP
            EXECUTE format('DROP TABLE %s', part);
        END LOOP;
    END $$;
    SELECT audit_logs_ensure_partitions('2031-05-01', '2031-05-01'), audit_logs_ensure_partitions('2001-01-01', '2001-02-01');
    SELECT audit_logs_drop_month('audit_logs_2001_01', 13, 'evidence', trust_clock => true), audit_hold_add('evidence', 'nobody'), audit_feed_save('evidence', NULL, 'x');
    CREATE TABLE made_by_hand PARTITION OF audit_logs FOR VALUES FROM ('2040-01-01') TO ('2040-02-01');
    INSERT INTO audit_logs (id, created_at, tenant_id, action) VALUES
        ('00000000-0000-7000-8000-000000000000', now(), 'acme', 'evidence'),
        ('00000000-0000-7000-8000-000000000001', '2031-05-05', 'globex', 'evidence'),
        ('00000000-0000-7000-8000-000000000002', '1999-01-01', NULL, 'evidence'),
        ('00000000-0000-7000-8000-000000000003', '2040-01-15', 'acme', 'evidence');
    ANALYZE audit_logs";

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub async fn text(client: &Client, sql: &str) -> Vec<String> {
    client
        .query(sql, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

async fn run(client: &Client, sql: &str, how: How) -> Result<String, Error> {
    let messages = client.simple_query(sql).await?;
    Ok(match (how, messages.last()) {
        (How::Done | How::EveryPartition, _) => "done".to_owned(),
        (_, Some(SimpleQueryMessage::CommandComplete(rows))) => counted(*rows),
        (_, other) => panic!("{sql}: {other:?}"),
    })
}

fn counted(rows: u64) -> String {
    if rows == 1 {
        "1 row".to_owned()
    } else {
        format!("{rows} rows")
    }
}

fn refusal(error: &Error) -> String {
    let Some(error) = error.as_db_error() else {
        panic!("{error}")
    };
    match error.code().code() {
        "42501" => "no right".to_owned(),
        "23505" => "exists".to_owned(),
        "0A000" => "unsupported".to_owned(),
        code => code.to_owned(),
    }
}
