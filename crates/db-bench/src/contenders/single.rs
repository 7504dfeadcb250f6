//! Baseline: single inserts with diesel-async.

use db_schema::NewAuditLog;
use db_schema::schema::audit_logs;
use deadpool::Runtime;
use diesel::prelude::*;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};
use ipnet::IpNet;

use super::{Single, WARM_UP, one_by_one};
use crate::Result;
use crate::clock::{Sample, Stopwatch};
use crate::event::Event;
use crate::server::{BenchServer, Table};

diesel::table! {
    audit_events (id) {
        id -> Uuid,
        created_at -> Timestamptz,
        tenant_id -> Nullable<Text>,
        actor_id -> Nullable<Text>,
        actor_type -> Nullable<Text>,
        action -> Text,
        outcome -> Text,
        resource_type -> Nullable<Text>,
        resource_id -> Nullable<Text>,
        ip_address -> Nullable<Inet>,
        user_agent -> Nullable<Text>,
        request_id -> Nullable<Text>,
        metadata -> Nullable<Jsonb>,
    }
}

/// An event as diesel inserts it. No field is optional: by default diesel would generate the statement
/// anew each time.
#[derive(Insertable)]
#[diesel(table_name = audit_events)]
pub(super) struct NewEvent {
    id: uuid::Uuid,
    created_at: chrono::DateTime<chrono::Utc>,
    tenant_id: String,
    actor_id: String,
    actor_type: &'static str,
    action: &'static str,
    outcome: &'static str,
    resource_type: &'static str,
    resource_id: String,
    ip_address: IpNet,
    user_agent: &'static str,
    request_id: String,
    metadata: serde_json::Value,
}

impl From<Event> for NewEvent {
    fn from(event: Event) -> Self {
        Self {
            id: event.id,
            created_at: event.created_at,
            tenant_id: event.tenant,
            actor_id: event.actor,
            actor_type: event.actor_type,
            action: event.action,
            outcome: event.outcome,
            resource_type: event.resource_type,
            resource_id: event.resource,
            ip_address: event.ip.into(),
            user_agent: event.user_agent,
            request_id: event.request,
            metadata: event.metadata,
        }
    }
}

async fn insert(conn: &mut AsyncPgConnection, nth: usize) -> Result<()> {
    let row = NewEvent::from(Event::nth(nth));
    diesel::insert_into(audit_events::table)
        .values(row)
        .execute(conn)
        .await?;
    Ok(())
}

/// A pool of ten with default settings, which checks a connection each time.
fn pool(url: &str) -> Result<Pool<AsyncPgConnection>> {
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
    Ok(Pool::builder(manager)
        .max_size(10)
        .runtime(Runtime::Tokio1)
        .build()?)
}

struct Pooled(Pool<AsyncPgConnection>);

impl Single for Pooled {
    async fn insert(&mut self, nth: usize) -> Result<()> {
        insert(&mut *self.0.get().await?, nth).await
    }
}

struct Held(AsyncPgConnection);

impl Single for Held {
    async fn insert(&mut self, nth: usize) -> Result<()> {
        insert(&mut self.0, nth).await
    }
}

/// A held connection with the cached statement, for the project's table.
pub(crate) struct HeldOwn(AsyncPgConnection);

impl HeldOwn {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        Ok(Self(AsyncPgConnection::establish(url).await?))
    }
}

impl Single for HeldOwn {
    async fn insert(&mut self, nth: usize) -> Result<()> {
        let row = NewAuditLog::from(Event::entry(nth));
        diesel::insert_into(audit_logs::table)
            .values(&row)
            .execute(&mut self.0)
            .await?;
        Ok(())
    }
}

/// Inserts each row with a connection from the pool.
pub(crate) fn pooled(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    async move {
        let database = server.create_database(Table::Conventional).await?;
        let pool = pool(&database.url)?;
        let sample = one_by_one(rows, Pooled(pool.clone())).await?;
        drop(pool);
        database.verify_and_drop(WARM_UP + rows).await?;
        Ok(sample)
    }
    .boxed()
}

/// Inserts all rows on one held connection, with the cached statement.
pub(crate) fn held(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    async move {
        let database = server.create_database(Table::Conventional).await?;
        let conn = AsyncPgConnection::establish(&database.url).await?;
        let sample = one_by_one(rows, Held(conn)).await?;
        database.verify_and_drop(WARM_UP + rows).await?;
        Ok(sample)
    }
    .boxed()
}

/// Inserts from concurrent callers, each row with a connection from the pool.
pub(crate) async fn concurrent(server: &BenchServer, rows: usize, callers: usize) -> Result<Sample> {
    let database = server.create_database(Table::Conventional).await?;
    let pool = pool(&database.url)?;
    let each = rows / callers;
    let share = async |rows: usize| {
        let tasks = (0..callers).map(|caller| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for nth in 0..rows {
                    insert(&mut *pool.get().await?, caller * rows + nth).await?;
                }
                Ok::<_, crate::Error>(())
            })
        });
        try_join_all(tasks).await?.into_iter().collect::<Result<()>>()
    };
    share(WARM_UP / callers).await?;
    let watch = Stopwatch::start();
    share(each).await?;
    let sample = watch.sample(each * callers);
    drop(pool);
    database
        .verify_and_drop((WARM_UP / callers + each) * callers)
        .await?;
    Ok(sample)
}
