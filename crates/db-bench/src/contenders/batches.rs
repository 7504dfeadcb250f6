//! Baselines: batches with diesel, and COPY.

use std::pin::pin;

use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::Client;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;

use super::WARM_UP;
use super::single::{NewEvent, audit_events};
use crate::Result;
use crate::clock::{Sample, Stopwatch};
use crate::event::Event;
use crate::server::{BenchServer, Table, connect};

/// Rows of one diesel statement.
pub(crate) const BATCH: usize = 1_000;

/// Rows of one COPY. A writer must acknowledge rows from time to time, so it cannot be a single COPY.
const COPY: usize = 5_000;

/// The columns of an event, in both tables.
const COLUMNS: &str = "id, created_at, tenant_id, actor_id, actor_type, action, outcome, resource_type, \
                       resource_id, ip_address, user_agent, request_id, metadata";

const TYPES: [Type; 13] = [
    Type::UUID,
    Type::TIMESTAMPTZ,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::INET,
    Type::TEXT,
    Type::TEXT,
    Type::JSONB,
];

/// `insert_into(…).values(&vec)`, 1,000 rows at a time.
pub(crate) fn diesel(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    async move {
        let database = server.create_database(Table::Conventional).await?;
        let mut conn = AsyncPgConnection::establish(&database.url).await?;
        let mut write = async |from: usize, to: usize| {
            let ready: Vec<NewEvent> = (from..to).map(|nth| Event::nth(nth).into()).collect();
            let watch = Stopwatch::start();
            for batch in ready.chunks(BATCH) {
                diesel::insert_into(audit_events::table)
                    .values(batch)
                    .execute(&mut conn)
                    .await?;
            }
            Ok::<_, diesel::result::Error>(watch.sample(to - from))
        };
        write(0, WARM_UP).await?;
        let sample = write(WARM_UP, WARM_UP + rows).await?;
        drop(conn);
        database.verify_and_drop(WARM_UP + rows).await?;
        Ok(sample)
    }
    .boxed()
}

/// COPY BINARY into the conventional table, one stream.
pub(crate) fn copy_conventional(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    copy(server, Table::Conventional, rows).boxed()
}

/// COPY BINARY into the project's own table, one stream.
pub(crate) fn copy_own(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    copy(server, Table::Own, rows).boxed()
}

async fn copy(server: &BenchServer, table: Table, rows: usize) -> Result<Sample> {
    let name = if table == Table::Conventional {
        "audit_events"
    } else {
        "audit_logs"
    };
    let sql = format!("COPY {name} ({COLUMNS}) FROM STDIN BINARY");
    let database = server.create_database(table).await?;
    let client = connect(&database.url).await?;
    let events: Vec<Event> = (0..WARM_UP + rows).map(Event::nth).collect();
    let (warm_up, ready) = events.split_at(WARM_UP);
    copy_events(&client, &sql, warm_up).await?;
    let watch = Stopwatch::start();
    for batch in ready.chunks(COPY) {
        copy_events(&client, &sql, batch).await?;
    }
    let sample = watch.sample(rows);
    drop(client);
    database.verify_and_drop(WARM_UP + rows).await?;
    Ok(sample)
}

async fn copy_events(client: &Client, sql: &str, events: &[Event]) -> Result<()> {
    let mut writer = pin!(BinaryCopyInWriter::new(client.copy_in(sql).await?, &TYPES));
    for event in events {
        writer
            .as_mut()
            .write(&[
                &event.id,
                &event.created_at,
                &event.tenant,
                &event.actor,
                &event.actor_type,
                &event.action,
                &event.outcome,
                &event.resource_type,
                &event.resource,
                &event.ip,
                &event.user_agent,
                &event.request,
                &event.metadata,
            ])
            .await?;
    }
    writer.finish().await?;
    Ok(())
}
