//! What is asked for: conditions on the columns of a row, all of which must hold.

use std::ops::Not;

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::time::cut;
use super::{MAX_CONDITIONS, QueryError};

/// A column that holds text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Column {
    /// The customer or account.
    Tenant,
    /// Who did it.
    Actor,
    /// What kind of actor.
    ActorType,
    /// Whom the actor acted for.
    OnBehalfOf,
    /// What was done.
    Action,
    /// How it ended.
    Outcome,
    /// What kind of thing it was done to.
    ResourceType,
    /// Which thing it was done to.
    ResourceId,
    /// The client software.
    UserAgent,
    /// The request it was part of.
    Request,
    /// The distributed trace it was part of.
    Trace,
}

impl Column {
    /// All of them.
    pub(super) const ALL: [Self; 11] = [
        Self::Tenant,
        Self::Actor,
        Self::ActorType,
        Self::OnBehalfOf,
        Self::Action,
        Self::Outcome,
        Self::ResourceType,
        Self::ResourceId,
        Self::UserAgent,
        Self::Request,
        Self::Trace,
    ];
}

/// A condition on one row. `!condition` keeps exactly the rows that `condition` leaves out, so also those in which
/// the column or member that it names is absent. `!Condition::since(time)` is `Condition::until(time)`.
///
/// Text is compared byte by byte, whatever the collation of the database. A text with a NUL character is in no row.
///
/// ```
/// use db_services::audit::query::{AuditFilter, Condition};
///
/// let filter = AuditFilter::new()
///     .and(Condition::actor("alice"))
///     .and(Condition::action("auth.*"))
///     .and(!Condition::outcome("success"));
/// assert_eq!(filter.to_string(), "actor:alice action:auth.* -outcome:success");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Never of a time.
    pub(super) is_negated: bool,
    pub(super) test: Test,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    Equals(Column, String),
    /// Not null, and begins with this.
    BeginsWith(Column, String),
    Within(IpNet),
    Operation(Uuid),
    Since(DateTime<Utc>),
    Until(DateTime<Utc>),
    /// The member at this path is this text, or the number, `true`, `false` or `null` that it reads as.
    Member(Vec<String>, String),
    /// The metadata has all of this JSON object.
    Contains(String),
    Text(String),
}

impl From<Test> for Condition {
    fn from(test: Test) -> Self {
        Self {
            is_negated: false,
            test,
        }
    }
}

impl Not for Condition {
    type Output = Self;

    fn not(self) -> Self {
        let Self { is_negated, test } = self;
        match test {
            // Every row has a time: what is not before it is at it or later, and an index has the one as the other.
            Test::Since(time) => Test::Until(time).into(),
            Test::Until(time) => Test::Since(time).into(),
            test => Self {
                is_negated: !is_negated,
                test,
            },
        }
    }
}

impl Condition {
    /// The column is this text.
    pub fn equals(column: Column, text: impl Into<String>) -> Self {
        Test::Equals(column, text.into()).into()
    }

    /// The column is not null, and begins with this text.
    pub fn begins_with(column: Column, prefix: impl Into<String>) -> Self {
        Test::BeginsWith(column, prefix.into()).into()
    }

    /// The tenant has this name.
    pub fn tenant(name: impl Into<String>) -> Self {
        Self::equals(Column::Tenant, name)
    }

    /// This actor did it.
    pub fn actor(id: impl Into<String>) -> Self {
        Self::equals(Column::Actor, id)
    }

    /// The action is this one, or begins with what precedes a `*` at its end: `auth.*`.
    pub fn action(action: &str) -> Self {
        match action.strip_suffix('*') {
            Some(prefix) => Self::begins_with(Column::Action, prefix),
            None => Self::equals(Column::Action, action),
        }
    }

    /// It ended like this. Any text is allowed: rows of other clients may have other values than
    /// [`Outcome`](crate::audit::Outcome).
    pub fn outcome(outcome: impl Into<String>) -> Self {
        Self::equals(Column::Outcome, outcome)
    }

    /// The resource is of this type.
    pub fn resource_type(kind: impl Into<String>) -> Self {
        Self::equals(Column::ResourceType, kind)
    }

    /// The resource has this id.
    pub fn resource_id(id: impl Into<String>) -> Self {
        Self::equals(Column::ResourceId, id)
    }

    /// It was part of this request.
    pub fn request(id: impl Into<String>) -> Self {
        Self::equals(Column::Request, id)
    }

    /// It was part of this trace.
    pub fn trace(id: impl Into<String>) -> Self {
        Self::equals(Column::Trace, id)
    }

    /// It belongs to this operation.
    pub fn operation(id: Uuid) -> Self {
        Test::Operation(id).into()
    }

    /// The address is within this network. An address in IPv6 that maps one in IPv4 is in no network of IPv4.
    pub fn address(net: impl Into<IpNet>) -> Self {
        Test::Within(net.into().trunc()).into()
    }

    /// It happened at this time (cut to microseconds) or later.
    pub fn since(time: DateTime<Utc>) -> Self {
        Test::Since(cut(time)).into()
    }

    /// It happened before this time (cut to microseconds).
    pub fn until(time: DateTime<Utc>) -> Self {
        Test::Until(cut(time)).into()
    }

    /// The member of the metadata at this path is `value`: a string of this text, or the number, `true`, `false` or
    /// `null` that the text is in JSON. Numbers are compared by value: `1.0` is `1`. A path goes through objects
    /// alone, not through arrays. One of more than 127 names is in no row.
    pub fn member<'a>(path: impl IntoIterator<Item = &'a str>, value: impl Into<String>) -> Self {
        let path = path.into_iter().map(str::to_owned).collect();
        Test::Member(path, value.into()).into()
    }

    /// The metadata contains this object, as PostgreSQL's `@>` has it: each member of the object is in the metadata
    /// with an equal value, or with an object or an array that contains it. An array contains another one if it
    /// has each of its elements.
    ///
    /// An object with more than 127 levels is in no row.
    pub fn contains(object: &Map<String, Value>) -> Self {
        Test::Contains(serde_json::to_string(object).unwrap_or_default()).into()
    }

    /// A column of text, or a string or a member's name in the metadata, contains this text. The letters A to Z are
    /// equal to a to z, other letters as they are. An address is not searched.
    pub fn text(text: impl Into<String>) -> Self {
        Test::Text(text.into()).into()
    }
}

/// The conditions of a query, all of which a row must meet. Without any, every row does.
///
/// [`Display`](std::fmt::Display) writes the filter in the query language, and [`parse`](Self::parse) reads it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditFilter {
    pub(super) conditions: Vec<Condition>,
}

impl AuditFilter {
    /// A filter that every row passes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn and(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// Adds the conditions of another filter.
    #[must_use]
    pub fn and_all(mut self, other: Self) -> Self {
        self.conditions.extend(other.conditions);
        self
    }

    /// Checks that it can be a part of a statement.
    pub(in crate::audit) fn check(&self) -> Result<(), QueryError> {
        if self.conditions.len() > MAX_CONDITIONS {
            return Err(QueryError::TooManyConditions {
                limit: MAX_CONDITIONS,
            });
        }
        Ok(())
    }

    /// Leaves out the records that writers make about themselves (actions that begin with `audit.`).
    #[must_use]
    pub fn without_records(self) -> Self {
        self.and(!Condition::action("audit.*"))
    }

    /// Whether a condition asks for an action that begins with `audit.`, or for those that begin with `audit`: then
    /// [`without_records`](Self::without_records) would leave out what is asked for.
    pub fn asks_for_records(&self) -> bool {
        let mut asked = self.conditions.iter().filter(|condition| !condition.is_negated);
        asked.any(|condition| match &condition.test {
            Test::Equals(Column::Action, action) => action.starts_with("audit."),
            Test::BeginsWith(Column::Action, prefix) => prefix == "audit" || prefix.starts_with("audit."),
            _ => false,
        })
    }
}

impl FromIterator<Condition> for AuditFilter {
    fn from_iter<T: IntoIterator<Item = Condition>>(conditions: T) -> Self {
        let conditions = conditions.into_iter().collect();
        Self { conditions }
    }
}
