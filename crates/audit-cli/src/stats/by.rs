//! The columns by whose values entries are counted.

use clap::ValueEnum;
use db_services::audit::query::{AuditQuery, Column, QueryError, TopValue};
use db_services::client::Connection;
use serde::{Serialize, Serializer};

/// A column, with its name in the query language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Column(Column),
    Address,
}

const ALL: [(By, &str); 12] = [
    (By::Column(Column::Action), "action"),
    (By::Column(Column::Actor), "actor"),
    (By::Column(Column::ActorType), "actor_type"),
    (By::Column(Column::OnBehalfOf), "on_behalf_of"),
    (By::Column(Column::Outcome), "outcome"),
    (By::Column(Column::Tenant), "tenant"),
    (By::Column(Column::ResourceType), "resource_type"),
    (By::Column(Column::ResourceId), "resource_id"),
    (By::Address, "ip"),
    (By::Column(Column::UserAgent), "user_agent"),
    (By::Column(Column::Request), "request"),
    (By::Column(Column::Trace), "trace"),
];

impl By {
    pub(super) fn name(self) -> &'static str {
        let named = ALL.iter().find(|(by, _)| *by == self);
        named.map_or("", |(_, name)| name)
    }

    pub(super) async fn top(
        self,
        conn: &mut Connection,
        query: &AuditQuery,
        limit: u32,
    ) -> Result<Vec<TopValue>, QueryError> {
        match self {
            Self::Column(column) => query.top(conn, column, limit).await,
            Self::Address => query.top_addresses(conn, limit).await,
        }
    }
}

impl ValueEnum for By {
    fn value_variants<'a>() -> &'a [Self] {
        const VARIANTS: [By; ALL.len()] = {
            let mut variants = [By::Address; ALL.len()];
            let mut place = 0;
            while place < ALL.len() {
                variants[place] = ALL[place].0;
                place += 1;
            }
            variants
        };
        &VARIANTS
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(self.name().into())
    }
}

impl Serialize for By {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.name().serialize(serializer)
    }
}
