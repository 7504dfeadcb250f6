//! Is the fault found where it lies, on both databases?

use std::time::Duration;

use chrono::DateTime;
use db_test::{Postgres, Server, wait_for};
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::*;
use crate::audit::AuditEntry;
use crate::client::{Connection, Database, Kind, open_sqlite};

/// A migrated database.
struct Place {
    url: String,
    _postgres: Option<Postgres>,
    _dir: Option<TempDir>,
}

const NO_TABLE: &str = "ALTER TABLE audit_logs RENAME TO hidden";
const TABLE: &str = "ALTER TABLE hidden RENAME TO audit_logs";
const NO_COLUMN: &str = "ALTER TABLE audit_logs RENAME COLUMN trace_id TO hidden";

impl Place {
    fn postgres() -> Self {
        let postgres = Postgres::migrated().unwrap();
        Self { url: postgres.url().to_owned(), _postgres: Some(postgres), _dir: None }
    }

    async fn both() -> [Self; 2] {
        let dir = TempDir::new().unwrap();
        let url = format!("sqlite://{}", dir.path().join("audit.db").display());
        Database::from_url(&url).unwrap().migrate().await.unwrap();
        [Self::postgres(), Self { url, _postgres: None, _dir: Some(dir) }]
    }

    fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres")
    }

    fn sqlite(&self) -> SqliteConnection {
        match Database::from_url(&self.url).unwrap().kind() {
            Kind::Sqlite { location, .. } => open_sqlite(location).unwrap(),
            Kind::Postgres { .. } => panic!("not SQLite"),
        }
    }

    async fn sql(&self, sql: &str) {
        match self.is_postgres() {
            true => client(&self.url).await.batch_execute(sql).await.unwrap(),
            false => self.sqlite().batch_execute(sql).unwrap(),
        }
    }

    /// Refuses rows for which a condition on `action` holds.
    async fn refuse(&self, condition: &str) {
        let sql = match self.is_postgres() {
            true => format!("ALTER TABLE audit_logs ADD CONSTRAINT rule CHECK (NOT ({condition}))"),
            false => format!(
                "CREATE TRIGGER rule BEFORE INSERT ON audit_logs WHEN {} BEGIN SELECT RAISE(ABORT, 'rule'); END",
                condition.replace("action", "NEW.action")
            ),
        };
        self.sql(&sql).await;
    }

    async fn stored(&self) -> Vec<String> {
        let mut conn: Connection = Database::from_url(&self.url).unwrap().connection().await.unwrap();
        let rows = crate::audit::latest(&mut conn, 1_000, true).await.unwrap();
        let mut actions: Vec<_> = rows.into_iter().map(|row| row.action).collect();
        actions.sort();
        actions
    }
}

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Either sink.
enum Writes {
    Postgres(Box<PostgresSink>),
    Sqlite(SqliteSink),
}

impl Writes {
    fn to(url: &str) -> Self {
        Self::within(url, Duration::from_secs(60))
    }

    fn within(url: &str, limit: Duration) -> Self {
        match Database::from_url(url).unwrap().kind() {
            Kind::Postgres { route, .. } => {
                Self::Postgres(Box::new(PostgresSink::new((**route).clone(), limit)))
            }
            Kind::Sqlite { location, .. } => Self::Sqlite(SqliteSink::start(location.clone()).unwrap()),
        }
    }

    async fn write(&mut self, rows: &Rows) -> Result<(), SinkError> {
        match self {
            Self::Postgres(sink) => sink.write(Arc::clone(rows), OnRepeat::Fail).await,
            Self::Sqlite(sink) => sink.write(Arc::clone(rows), OnRepeat::Fail).await,
        }
    }

    async fn fault(&mut self, rows: &Rows) -> Fault {
        self.write(rows).await.unwrap_err().fault
    }
}

fn rows<const N: usize>(actions: [&str; N]) -> Rows {
    Arc::new(actions.map(|action| NewAuditLog::from(AuditEntry::new(action))).into())
}

#[tokio::test]
async fn a_refused_row_is_its_own_fault() {
    for place in Place::both().await {
        place.refuse("action LIKE 'rude.%'").await;
        let mut sink = Writes::to(&place.url);
        let error = sink.write(&rows(["polite", "rude.word"])).await.unwrap_err();
        assert_eq!(error.fault, Fault::Row, "before any row went in: {error:?}");
        assert_eq!(error.sqlstate.as_deref(), place.is_postgres().then_some("23514"));
        assert!(error.reason.contains("rule") && !error.reason.contains("rude.word"), "{error:?}");
        sink.write(&rows(["polite"])).await.unwrap();
        assert_eq!(sink.fault(&rows(["rude.word"])).await, Fault::Row);
        assert_eq!(place.stored().await, ["polite"], "the experiment leaves nothing behind");
    }
}

/// A rule that even the harmless row breaks: whose fault it is shows once a row went in.
#[tokio::test]
async fn where_no_row_is_known_to_go_in_it_may_be_the_set_up() {
    for place in Place::both().await {
        place.refuse("action NOT LIKE 'shop.%'").await;
        let mut sink = Writes::to(&place.url);
        assert_eq!(sink.fault(&rows(["rude.word"])).await, Fault::SetUp);
        assert_eq!(sink.fault(&rows(["rude.word", "rude.word"])).await, Fault::SetUp);
        assert_eq!(sink.fault(&rows(["rude.word", "shop.order", "rude.word"])).await, Fault::Row);
        sink.write(&rows(["shop.order"])).await.unwrap();
        assert_eq!(sink.fault(&rows(["rude.word"])).await, Fault::Row);
        assert_eq!(place.stored().await, ["shop.order"]);
    }
}

/// What one lane of a writer has written, the others know to go in.
#[tokio::test]
async fn lanes_share_what_they_know() {
    let place = Place::postgres();
    place.refuse("action NOT LIKE 'shop.%'").await;
    let Writes::Postgres(one) = Writes::to(&place.url) else { panic!("not PostgreSQL") };
    let mut other = Writes::Postgres(Box::new(one.beside()));
    assert_eq!(other.fault(&rows(["rude.word"])).await, Fault::SetUp);
    Writes::Postgres(one).write(&rows(["shop.order"])).await.unwrap();
    assert_eq!(other.fault(&rows(["rude.word"])).await, Fault::Row);
}

#[tokio::test]
async fn what_is_missing_is_the_set_ups_fault() {
    for broken in [NO_TABLE, NO_COLUMN] {
        for place in Place::both().await {
            let (mut used, mut fresh) = (Writes::to(&place.url), Writes::to(&place.url));
            used.write(&rows(["before"])).await.unwrap();
            place.sql(broken).await;
            for sink in [&mut used, &mut fresh] {
                let error = sink.write(&rows(["during"])).await.unwrap_err();
                assert_eq!(error.fault, Fault::SetUp, "{broken}: {error:?}");
                assert!(error.reason.contains("auditlog migrate"), "{error:?}");
            }
            if broken == NO_TABLE {
                place.sql(TABLE).await;
                used.write(&rows(["after"])).await.unwrap();
                assert_eq!(place.stored().await, ["after", "before"]);
            }
        }
    }
}

#[tokio::test]
async fn a_repeat_that_collides_is_stored() {
    for place in Place::both().await {
        place.refuse("action LIKE 'rude.%'").await;
        let mut sink = Writes::to(&place.url);
        let first = rows(["a", "b"]);
        sink.write(&first).await.unwrap();
        sink.write(&first).await.unwrap();
        // With a new one beside it, twice in one batch, and beside one that is refused.
        let mut mixed = first.to_vec();
        let new = rows(["c"]);
        mixed.extend([new[0].clone(), new[0].clone()]);
        sink.write(&Arc::new(mixed)).await.unwrap();
        assert_eq!(place.stored().await, ["a", "b", "c"]);
        let refused: Vec<_> = [first[0].clone(), rows(["rude.word"])[0].clone()].into();
        assert_eq!(sink.fault(&Arc::new(refused)).await, Fault::Row);
        // The pair identifies an entry, not the id alone.
        let later = NewAuditLog { created_at: DateTime::UNIX_EPOCH, action: "d".into(), ..first[0].clone() };
        sink.write(&Arc::new(vec![later])).await.unwrap();
        assert_eq!(place.stored().await, ["a", "b", "c", "d"]);
    }
}

#[tokio::test]
async fn a_server_that_is_away_or_read_only_is_the_moments_fault() {
    assert_eq!(Writes::to("postgres://u@%2Fnowhere/db").fault(&rows(["x"])).await, Fault::Moment);
    let place = Place::postgres();
    let name = place.url.rsplit('/').next().unwrap();
    place.sql(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    let mut sink = Writes::to(&place.url);
    let error = sink.write(&rows(["x"])).await.unwrap_err();
    assert_eq!((error.fault, error.sqlstate.as_deref()), (Fault::Moment, Some("25006")));
    assert!(error.reason.contains("point the URL at the primary"), "{error:?}");
}

#[tokio::test]
async fn a_table_that_others_hold_is_the_moments_fault() {
    let place = Place::postgres();
    let name = place.url.rsplit('/').next().unwrap().to_owned();
    let holder = client(&place.url).await;
    holder.batch_execute("BEGIN; LOCK TABLE audit_logs").await.unwrap();

    // Nobody answers in time.
    let error = Writes::within(&place.url, Duration::from_millis(300)).write(&rows(["x"])).await.unwrap_err();
    assert_eq!((error.fault, error.sqlstate), (Fault::Moment, None));

    // An administrator ends the session while it waits.
    let mut sink = Writes::to(&place.url);
    let waiting = tokio::spawn(async move { sink.write(&rows(["x"])).await });
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'audit-writer' AND wait_event_type = 'Lock'";
    let admin = client(&place.url).await;
    // Again and again: the session that was given up above may still wait as well.
    wait_for("its end", async || {
        admin.query(end, &[]).await.unwrap();
        waiting.is_finished()
    })
    .await;
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!((error.fault, error.sqlstate.as_deref()), (Fault::Moment, Some("57P01")));

    // The server gives up on the lock by itself.
    admin.batch_execute(&format!("ALTER DATABASE {name} SET lock_timeout = '20ms'")).await.unwrap();
    let error = Writes::to(&place.url).write(&rows(["x"])).await.unwrap_err();
    assert_eq!((error.fault, error.sqlstate.as_deref()), (Fault::Moment, Some("55P03")));
}

#[tokio::test]
async fn an_sqlite_file_that_others_hold_is_the_moments_fault() {
    let [_, place] = Place::both().await;
    let mut holder = place.sqlite();
    holder.batch_execute("BEGIN IMMEDIATE").unwrap();
    let mut sink = Writes::to(&place.url);
    let error = sink.write(&rows(["x"])).await.unwrap_err();
    assert_eq!(error.fault, Fault::Moment);
    assert!(error.reason.contains("another process held the file"), "{error:?}");
    holder.batch_execute("COMMIT").unwrap();
    sink.write(&rows(["x"])).await.unwrap();
}

#[tokio::test]
async fn an_sqlite_file_that_is_none_is_the_set_ups_fault() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.db");
    std::fs::write(&path, [b'x'; 8_192]).unwrap();
    let error = Writes::to(&format!("sqlite://{}", path.display())).write(&rows(["x"])).await.unwrap_err();
    assert_eq!(error.fault, Fault::SetUp);
    assert!(error.reason.contains("file is not a database") && error.reason.contains("backup"), "{error:?}");
}

fn dated(year: i32) -> Rows {
    let time = chrono::NaiveDate::from_ymd_opt(year, 2, 3).unwrap().and_hms_opt(4, 5, 6).unwrap().and_utc();
    Arc::new(vec![NewAuditLog { created_at: time, ..rows(["old"])[0].clone() }])
}

#[tokio::test]
async fn a_month_that_no_partition_covers_is_made() {
    let place = Place::postgres();
    place.sql("DROP TABLE audit_logs_default").await;
    let mut sink = Writes::to(&place.url);
    let mut both = dated(1999).to_vec();
    both.extend(dated(2001).to_vec());
    sink.write(&Arc::new(both)).await.unwrap();
    let client = client(&place.url).await;
    let found = client.query_one(
        "SELECT (SELECT count(*) FROM audit_logs_1999_02) + (SELECT count(*) FROM audit_logs_2001_02)",
        &[],
    );
    assert_eq!(found.await.unwrap().get::<_, i64>(0), 2);
}

/// Who may not make a month: of one row it is that row's fault, since others go in; once the months
/// have run out it is the set-up's.
#[tokio::test]
async fn a_month_that_may_not_be_made_is_said_to_be() {
    let server = Server::start(&[]).unwrap();
    let url = server.migrated().unwrap();
    let admin = client(&url).await;
    admin
        .batch_execute(
            "DROP TABLE audit_logs_default; CREATE ROLE app LOGIN PASSWORD 'hush'; GRANT audit_writer TO app; \
             REVOKE EXECUTE ON FUNCTION audit_logs_ensure_partitions(timestamptz, timestamptz) FROM audit_writer",
        )
        .await
        .unwrap();
    let mut sink = Writes::to(&server.url_as("app", "hush", url.rsplit('/').next().unwrap()));
    sink.write(&rows(["now"])).await.unwrap();
    let error = sink.write(&dated(1999)).await.unwrap_err();
    assert_eq!((error.fault, error.sqlstate.as_deref()), (Fault::Row, Some("23514")));
    assert!(error.reason.contains("audit_logs_ensure_partitions"), "{error:?}");

    let months = admin
        .query(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass",
            &[],
        )
        .await
        .unwrap();
    for month in months {
        admin.batch_execute(&format!("DROP TABLE {}", month.get::<_, String>(0))).await.unwrap();
    }
    let error = sink.write(&rows(["now"])).await.unwrap_err();
    assert_eq!(error.fault, Fault::SetUp);
    assert!(error.reason.contains("GRANT EXECUTE"), "{error:?}");
    admin
        .batch_execute(
            "GRANT EXECUTE ON FUNCTION audit_logs_ensure_partitions(timestamptz, timestamptz) TO app",
        )
        .await
        .unwrap();
    sink.write(&rows(["now"])).await.unwrap();
    sink.write(&dated(1999)).await.unwrap();
}
