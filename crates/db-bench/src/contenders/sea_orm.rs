//! Baseline: single inserts with SeaORM.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sea_orm::entity::prelude::*;
use sea_orm::{ActiveValue, Database, QueryTrait};

use super::{Single, WARM_UP, one_by_one};
use crate::Result;
use crate::clock::Sample;
use crate::event::Event;
use crate::server::{BenchServer, Table};

/// The conventional table, every type as text that the database casts: SeaORM's features for types
/// take sqlx-sqlite into the lock file. Id and time are left to the table's defaults.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_events")]
#[allow(missing_docs, unreachable_pub)] // derived
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, save_as = "uuid")]
    id: String,
    tenant_id: String,
    actor_id: String,
    actor_type: String,
    action: String,
    outcome: String,
    resource_type: String,
    resource_id: String,
    #[sea_orm(save_as = "inet")]
    ip_address: String,
    user_agent: String,
    request_id: String,
    #[sea_orm(save_as = "jsonb")]
    metadata: String,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
#[allow(missing_docs, unreachable_pub)] // the derive asks for it
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Inserts each row with a connection from a pool with default settings.
pub(crate) fn single(server: &BenchServer, rows: usize) -> BoxFuture<'_, Result<Sample>> {
    async move {
        let database = server.create_database(Table::Conventional).await?;
        let inserter = Pooled::connect(&database.url, "audit_events").await?;
        let pool = inserter.database.clone();
        let sample = one_by_one(rows, inserter).await?;
        pool.close().await?;
        database.verify_and_drop(WARM_UP + rows).await?;
        Ok(sample)
    }
    .boxed()
}

/// Inserts each row with a connection from a pool with default settings.
pub(crate) struct Pooled {
    database: DatabaseConnection,
    table: &'static str,
}

impl Pooled {
    pub(crate) async fn connect(url: &str, table: &'static str) -> Result<Self> {
        let mut options = sea_orm::ConnectOptions::new(url.to_owned());
        options.max_connections(10);
        Ok(Self {
            database: Database::connect(options).await?,
            table,
        })
    }
}

impl Single for Pooled {
    async fn insert(&mut self, nth: usize) -> Result<()> {
        let event = Event::nth(nth);
        let text = |text: &str| ActiveValue::Set(text.to_owned());
        let row = ActiveModel {
            id: ActiveValue::NotSet,
            tenant_id: ActiveValue::Set(event.tenant),
            actor_id: ActiveValue::Set(event.actor),
            actor_type: text(event.actor_type),
            action: text(event.action),
            outcome: text(event.outcome),
            resource_type: text(event.resource_type),
            resource_id: ActiveValue::Set(event.resource),
            ip_address: ActiveValue::Set(event.ip.to_string()),
            user_agent: text(event.user_agent),
            request_id: ActiveValue::Set(event.request),
            metadata: ActiveValue::Set(event.metadata.to_string()),
        };
        let mut insert = Entity::insert(row);
        insert.query().into_table(self.table);
        insert.exec_without_returning(&self.database).await?;
        Ok(())
    }
}
