//! A statement in parts: fixed text, and values that are bound to it. Input cannot become text.

use std::marker::PhantomData;
use std::time::Duration;

use db_schema::{schema, sqlite};
use diesel::data_types::PgTimestamp;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::Error;
use diesel::sql_types::{Array, BigInt, Binary, Inet, Jsonb, SqlType, Text, Timestamptz, Uuid as PgUuid};
use diesel::sqlite::Sqlite;
use ipnet::IpNet;
use uuid::Uuid;

use crate::audit::JsonText;

/// The kind of database that a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) enum Dialect {
    Postgres,
    Sqlite,
}

/// A value that is bound.
#[derive(Debug)]
pub(in crate::audit) enum Value {
    Text(String),
    Number(i64),
    /// As the database stores it: microseconds since 2000 on PostgreSQL, since 1970 on SQLite.
    Time(PgTimestamp),
    Id(Uuid),
    /// PostgreSQL alone has the type; [`Sql::address`] binds a text on SQLite.
    Inet(IpNet),
    Json(JsonText),
    /// PostgreSQL alone has arrays.
    Numbers(Vec<i64>),
}

#[derive(Debug)]
enum Piece {
    Text(&'static str),
    /// All columns, in the order of [`AuditLog`](crate::audit::AuditLog).
    Columns,
    Value(Value),
}

/// How a statement is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) enum Run {
    /// It has one form: its connection keeps it prepared. It uses no [functions](super::functions).
    Prepared,
    /// Filters give it any number of forms, and the planner should see the values.
    Once,
    /// The same, and the database ends it after this time.
    Within(Duration),
}

impl Run {
    pub(super) fn limit(self) -> Option<Duration> {
        match self {
            Self::Prepared | Self::Once => None,
            Self::Within(limit) => Some(limit),
        }
    }
}

/// The text of a statement and its values.
#[derive(Debug)]
pub(in crate::audit) struct Sql {
    pub(super) dialect: Dialect,
    run: Run,
    pieces: Vec<Piece>,
}

impl Sql {
    pub(in crate::audit) fn new(dialect: Dialect, run: Run, text: &'static str) -> Self {
        let pieces = vec![Piece::Text(text)];
        Self { dialect, run, pieces }
    }

    pub(super) fn limit(&self) -> Option<Duration> {
        self.run.limit()
    }

    pub(in crate::audit) fn push(&mut self, text: &'static str) -> &mut Self {
        self.pieces.push(Piece::Text(text));
        self
    }

    /// Appends a text of PostgreSQL or one of SQLite.
    pub(super) fn push_either(&mut self, postgres: &'static str, sqlite: &'static str) -> &mut Self {
        self.push(match self.dialect {
            Dialect::Postgres => postgres,
            Dialect::Sqlite => sqlite,
        })
    }

    pub(in crate::audit) fn push_columns(&mut self) -> &mut Self {
        self.pieces.push(Piece::Columns);
        self
    }

    pub(in crate::audit) fn bind(&mut self, value: Value) -> &mut Self {
        self.pieces.push(Piece::Value(value));
        self
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.bind(Value::Text(text.to_owned()))
    }

    /// A time as the database stores it.
    pub(in crate::audit) fn time(&mut self, stored: i64) -> &mut Self {
        self.bind(Value::Time(PgTimestamp(stored)))
    }

    pub(super) fn address(&mut self, net: IpNet) -> &mut Self {
        match self.dialect {
            Dialect::Postgres => self.bind(Value::Inet(net)),
            Dialect::Sqlite => self.bind(Value::Text(net.to_string())),
        }
    }

    #[cfg(test)]
    pub(in crate::audit) fn explained(mut self, how: &'static str) -> Self {
        self.pieces.insert(0, Piece::Text(how));
        self
    }

    /// Types the statement by its result.
    pub(in crate::audit) fn returning<ST>(self) -> Statement<ST> {
        Statement(self, PhantomData)
    }
}

/// A statement whose rows have the type `ST`.
pub(in crate::audit) struct Statement<ST>(Sql, PhantomData<ST>);

impl<ST> Statement<ST> {
    pub(super) fn run(&self) -> Run {
        self.0.run
    }
}

impl<ST: SqlType> Query for Statement<ST> {
    type SqlType = ST;
}

impl<ST> RunQueryDsl<SqliteConnection> for Statement<ST> {}

impl<ST> QueryId for Statement<ST> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<ST> QueryFragment<Pg> for Statement<ST> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // Filters give it any number of forms, and the planner should see the values.
        if self.0.run != Run::Prepared {
            out.unsafe_to_cache_prepared();
        }
        for piece in &self.0.pieces {
            match piece {
                Piece::Text(text) => out.push_sql(text),
                Piece::Columns => schema::audit_logs::all_columns.walk_ast(out.reborrow())?,
                Piece::Value(value) => push_postgres(value, out.reborrow())?,
            }
        }
        Ok(())
    }
}

fn push_postgres<'b>(value: &'b Value, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    match value {
        Value::Text(text) => out.push_bind_param::<Text, _>(text),
        Value::Number(number) => out.push_bind_param::<BigInt, _>(number),
        Value::Time(time) => out.push_bind_param::<Timestamptz, _>(time),
        Value::Id(id) => out.push_bind_param::<PgUuid, _>(id),
        Value::Inet(net) => out.push_bind_param::<Inet, _>(net),
        Value::Json(json) => out.push_bind_param::<Jsonb, _>(json),
        Value::Numbers(numbers) => out.push_bind_param::<Array<BigInt>, _>(numbers),
    }
}

impl<ST> QueryFragment<Sqlite> for Statement<ST> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        // Filters give it any number of forms, and the planner should see the values.
        if self.0.run != Run::Prepared {
            out.unsafe_to_cache_prepared();
        }
        for piece in &self.0.pieces {
            match piece {
                Piece::Text(text) => out.push_sql(text),
                Piece::Columns => sqlite::schema::audit_logs::all_columns.walk_ast(out.reborrow())?,
                Piece::Value(value) => push_sqlite(value, out.reborrow())?,
            }
        }
        Ok(())
    }
}

fn push_sqlite<'b>(value: &'b Value, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
    match value {
        Value::Text(text) => out.push_bind_param::<Text, _>(text),
        Value::Number(number) | Value::Time(PgTimestamp(number)) => out.push_bind_param::<BigInt, _>(number),
        Value::Id(id) => out.push_bind_param::<Binary, [u8]>(id.as_bytes()),
        Value::Inet(_) | Value::Numbers(_) => Err(Error::QueryBuilderError(
            "SQLite has no type for addresses and arrays".into(),
        )),
        Value::Json(json) => out.push_bind_param::<Text, _>(json),
    }
}
