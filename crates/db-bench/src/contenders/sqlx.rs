//! Baselines: single inserts and batches with sqlx.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use serde_json::Value;
use sqlx_core::connection::Connection;
use sqlx_core::query::{Query, query};
use sqlx_postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, Postgres};
use uuid::Uuid;

use super::batches::BATCH;
use super::{Single, WARM_UP, one_by_one};
use crate::Result;
use crate::clock::{Sample, Stopwatch};
use crate::event::Event;
use crate::server::{BenchServer, Table};

/// The same statement for both tables.
macro_rules! insert_into {
    ($table:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (id, created_at, tenant_id, actor_id, actor_type, action, outcome, resource_type, resource_id, \
             ip_address, user_agent, request_id, metadata) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
        )
    };
}

/// The form that the documentation of sqlx recommends.
const MANY: &str = "INSERT INTO audit_events (id, created_at, tenant_id, actor_id, actor_type, action, outcome, \
     resource_type, resource_id, ip_address, user_agent, request_id, metadata) \
     SELECT * FROM UNNEST($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], \
     $8::text[], $9::text[], $10::inet[], $11::text[], $12::text[], $13::jsonb[])";

/// A pool of ten with default settings.
async fn pool(url: &str) -> Result<PgPool> {
    Ok(PgPoolOptions::new()
        .max_connections(10)
        .connect_with(PgConnectOptions::from_str(url)?)
        .await?)
}

/// Inserts each row with a connection from the pool.
pub(crate) fn single(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    async move {
        let database = server.create_database(Table::Conventional).await?;
        let pool = pool(&database.url).await?;
        let sample = one_by_one(rows, Pooled(pool.clone())).await?;
        pool.close().await;
        database.verify_and_drop(WARM_UP + rows).await?;
        Ok(sample)
    }
    .boxed()
}

/// Binds an event to a statement.
fn insert(statement: &'static str, event: Event) -> Query<'static, Postgres, PgArguments> {
    query::<Postgres>(statement)
        .bind(event.id)
        .bind(event.created_at)
        .bind(event.tenant)
        .bind(event.actor)
        .bind(event.actor_type)
        .bind(event.action)
        .bind(event.outcome)
        .bind(event.resource_type)
        .bind(event.resource)
        .bind(IpNet::from(event.ip))
        .bind(event.user_agent)
        .bind(event.request)
        .bind(event.metadata)
}

struct Pooled(PgPool);

impl Single for Pooled {
    async fn insert(&mut self, nth: usize) -> Result<()> {
        insert(insert_into!("audit_events"), Event::nth(nth))
            .execute(&self.0)
            .await?;
        Ok(())
    }
}

/// A held connection, for the project's table.
pub(crate) struct HeldConnection(PgConnection);

impl HeldConnection {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        Ok(Self(PgConnection::connect(url).await?))
    }
}

impl Single for HeldConnection {
    async fn insert(&mut self, nth: usize) -> Result<()> {
        insert(insert_into!("audit_logs"), Event::nth(nth))
            .execute(&mut self.0)
            .await?;
        Ok(())
    }
}

/// Inserts with `unnest`, 1,000 rows at a time.
pub(crate) fn unnest(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    async move {
        let database = server.create_database(Table::Conventional).await?;
        let pool = pool(&database.url).await?;
        let ready: Vec<Vec<Event>> = (WARM_UP..WARM_UP + rows)
            .step_by(BATCH)
            .map(|from| {
                (from..(from + BATCH).min(WARM_UP + rows))
                    .map(Event::nth)
                    .collect()
            })
            .collect();
        insert_many(&pool, &(0..WARM_UP).map(Event::nth).collect::<Vec<_>>()).await?;
        let watch = Stopwatch::start();
        for batch in &ready {
            insert_many(&pool, batch).await?;
        }
        let sample = watch.sample(rows);
        pool.close().await;
        database.verify_and_drop(WARM_UP + rows).await?;
        Ok(sample)
    }
    .boxed()
}

async fn insert_many(pool: &PgPool, events: &[Event]) -> Result<()> {
    let texts = |text: fn(&Event) -> &str| events.iter().map(text).map(str::to_owned).collect::<Vec<_>>();
    query::<Postgres>(MANY)
        .bind(events.iter().map(|event| event.id).collect::<Vec<Uuid>>())
        .bind(
            events
                .iter()
                .map(|event| event.created_at)
                .collect::<Vec<DateTime<Utc>>>(),
        )
        .bind(texts(|event| &event.tenant))
        .bind(texts(|event| &event.actor))
        .bind(texts(|event| event.actor_type))
        .bind(texts(|event| event.action))
        .bind(texts(|event| event.outcome))
        .bind(texts(|event| event.resource_type))
        .bind(texts(|event| &event.resource))
        .bind(events.iter().map(|event| event.ip.into()).collect::<Vec<IpNet>>())
        .bind(texts(|event| event.user_agent))
        .bind(texts(|event| &event.request))
        .bind(
            events
                .iter()
                .map(|event| event.metadata.clone())
                .collect::<Vec<Value>>(),
        )
        .execute(pool)
        .await?;
    Ok(())
}
