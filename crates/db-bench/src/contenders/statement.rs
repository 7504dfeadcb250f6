//! Baseline: the writer's INSERT statement in a loop on two connections, without a writer.

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};
use std::net::IpAddr;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::WARM_UP;
use super::batches::BATCH;
use crate::Result;
use crate::clock::{Sample, Stopwatch};
use crate::event::Event;
use crate::server::{BenchServer, Table, connect};

/// The same number as the writer's.
const CONNECTIONS: usize = 2;

/// The columns that the writer sets.
const SQL: &str = "INSERT INTO audit_logs (id, created_at, tenant_id, actor_id, actor_type, on_behalf_of, action, \
     outcome, resource_type, resource_id, ip_address, user_agent, request_id, trace_id, operation_id, metadata, \
     writer_id, writer_seq) \
     SELECT unnest($1), unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7), unnest($8), unnest($9), \
     unnest($10), unnest($11), unnest($12), unnest($13), unnest($14), unnest($15), unnest($16), unnest($17), unnest($18)";

const TYPES: [Type; 18] = [
    Type::UUID_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::INET_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::UUID_ARRAY,
    Type::JSONB_ARRAY,
    Type::UUID_ARRAY,
    Type::INT8_ARRAY,
];

/// A batch, as an array for each column.
#[derive(Default)]
struct Arrays {
    ids: Vec<Uuid>,
    times: Vec<DateTime<Utc>>,
    /// Tenant, actor, resource, request.
    names: [Vec<String>; 4],
    /// Type of actor, action, outcome, type of resource, user agent.
    words: [Vec<&'static str>; 5],
    addresses: Vec<IpAddr>,
    metadata: Vec<serde_json::Value>,
    writers: Vec<Uuid>,
    numbers: Vec<i64>,
    no_text: Vec<Option<String>>,
    no_id: Vec<Option<Uuid>>,
}

impl Arrays {
    fn of(from: usize, to: usize, writer: Uuid) -> Self {
        let size = to - from;
        let mut all = Self {
            numbers: (from as i64..to as i64).collect(),
            writers: vec![writer; size],
            no_text: vec![None; size],
            no_id: vec![None; size],
            ..Self::default()
        };
        for event in (from..to).map(Event::nth) {
            all.ids.push(event.id);
            all.times.push(event.created_at);
            all.names[0].push(event.tenant);
            all.names[1].push(event.actor);
            all.names[2].push(event.resource);
            all.names[3].push(event.request);
            let words = [
                event.actor_type,
                event.action,
                event.outcome,
                event.resource_type,
                event.user_agent,
            ];
            all.words
                .iter_mut()
                .zip(words)
                .for_each(|(column, word)| column.push(word));
            all.addresses.push(event.ip);
            all.metadata.push(event.metadata);
        }
        all
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 18] {
        let [tenant, actor, resource, request] = &self.names;
        let [actor_type, action, outcome, resource_type, user_agent] = &self.words;
        [
            &self.ids,
            &self.times,
            tenant,
            actor,
            actor_type,
            &self.no_text,
            action,
            outcome,
            resource_type,
            resource,
            &self.addresses,
            user_agent,
            request,
            &self.no_text,
            &self.no_id,
            &self.metadata,
            &self.writers,
            &self.numbers,
        ]
    }
}

/// Runs the statement in a loop on the project's own table.
pub(crate) fn looped(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    async move {
        let database = server.create_database(Table::Own).await?;
        let writer = Uuid::now_v7();
        let ends: Vec<usize> = (WARM_UP..WARM_UP + rows)
            .step_by(BATCH)
            .chain([WARM_UP + rows])
            .collect();
        let mut ready = Vec::new();
        for lane in 0..CONNECTIONS {
            let share: Vec<_> = ends
                .windows(2)
                .skip(lane)
                .step_by(CONNECTIONS)
                .map(|ends| (ends[0], ends[1]))
                .collect();
            let client = connect(&database.url).await?;
            let statement = client.prepare_typed(SQL, &TYPES).await?;
            let warm_up = Arrays::of(0, WARM_UP / CONNECTIONS, writer);
            client.execute(&statement, &warm_up.parameters()).await?;
            ready.push((client, statement, share));
        }
        let watch = Stopwatch::start();
        let tasks = ready.into_iter().map(|(client, statement, share)| {
            tokio::spawn(async move {
                for (from, to) in share {
                    let batch = Arrays::of(from, to, writer);
                    client.execute(&statement, &batch.parameters()).await?;
                }
                Ok::<_, tokio_postgres::Error>(())
            })
        });
        let done = try_join_all(tasks).await?;
        let sample = watch.sample(rows);
        done.into_iter().collect::<Result<(), _>>()?;
        database.verify_and_drop(WARM_UP + rows).await?;
        Ok(sample)
    }
    .boxed()
}
