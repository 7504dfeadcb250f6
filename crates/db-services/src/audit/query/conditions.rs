//! Conditions as SQL. Both databases get the same meaning; where their functions differ, SQLite calls
//! [functions](super::functions) of this crate.

use db_schema::JsonText;
use uuid::Uuid;

use super::candidates::{candidates, path_json};
use super::filter::{AuditFilter, Column, Condition, Test};
use super::json_match::is_comparable;
use super::page::{Order, Position};
use super::sql::{Dialect, Sql, Value};
use super::time::stored;
use crate::audit::limits::METADATA_DEPTH;

pub(super) fn name(column: Column) -> &'static str {
    match column {
        Column::Tenant => "tenant_id",
        Column::Actor => "actor_id",
        Column::ActorType => "actor_type",
        Column::OnBehalfOf => "on_behalf_of",
        Column::Action => "action",
        Column::Outcome => "outcome",
        Column::ResourceType => "resource_type",
        Column::ResourceId => "resource_id",
        Column::UserAgent => "user_agent",
        Column::Request => "request_id",
        Column::Trace => "trace_id",
    }
}

/// Appends `WHERE` with the conditions of a filter, and that a row is after the cursor of a position, if it has one.
/// `ORDER BY` can follow. Of the rows from the position on, only the first `limit` are needed.
pub(super) fn push_where(sql: &mut Sql, filter: &AuditFilter, position: &Position, limit: Option<i64>) {
    push_begin_of_where(sql);
    push_all(sql, filter, push_equals_indexed);
    if sql.dialect == Dialect::Sqlite && filter.conditions.iter().any(is_looked_up) {
        push_look_up(sql, filter, position, limit);
    }
    push_up_to_cursor(sql, position);
    push_after_cursor(sql, position);
}

/// Appends `WHERE` with the conditions of a filter and an id, which the primary key finds: no other index is used.
pub(super) fn push_where_id(sql: &mut Sql, filter: &AuditFilter, id: Uuid) {
    push_begin_of_where(sql);
    push_conditions(sql, filter);
    sql.push(" AND id = ").bind(Value::Id(id));
}

fn push_begin_of_where(sql: &mut Sql) {
    // On SQLite a function ends the statement when its time limit is reached. It is evaluated for each row, before the
    // other conditions.
    let is_checked = sql.dialect == Dialect::Sqlite && sql.limit().is_some();
    sql.push(match is_checked {
        true => " WHERE audit_in_time(created_at)",
        false => " WHERE TRUE",
    });
}

/// Whether `audit_logs_time` of SQLite has the column. The tenant has an index of its own.
fn is_looked_up(condition: &Condition) -> bool {
    use Column::{Actor, Request, ResourceId};
    !condition.is_negated && matches!(condition.test, Test::Equals(Actor | Request | ResourceId, _))
}

/// Appends a condition that repeats what one pass over `audit_logs_time` of SQLite can decide: the index has these
/// columns, but not the rest of the row. Only the times are compared, because SQLite would evaluate a subquery for
/// several columns once for each of them, or sort the rows that it finds.
fn push_look_up(sql: &mut Sql, filter: &AuditFilter, position: &Position, limit: Option<i64>) {
    let is_time = |condition: &Condition| matches!(condition.test, Test::Since(_) | Test::Until(_));
    // If the index decides all conditions, the pass ends with the page. Otherwise it finds each row of a frequent actor:
    // 146 ms for half a million.
    let is_decided = |condition: &Condition| is_looked_up(condition) || is_time(condition);
    let limit = limit.filter(|_| filter.conditions.iter().all(is_decided));
    sql.push(" AND created_at IN (");
    if let (Some(_), Some(cursor)) = (limit, position.cursor()) {
        // The index does not know which rows of the cursor's own time are after it.
        sql.push("SELECT ")
            .time(cursor.created_at)
            .push(" UNION ALL SELECT created_at FROM (");
    }
    sql.push("SELECT created_at FROM audit_logs WHERE TRUE");
    if sql.limit().is_some() {
        // The clock is read for one row in a thousand: a call for each would take longer than the rest.
        sql.push(" AND (created_at % 1024 <> 0 OR audit_in_time(created_at))");
    }
    for condition in &filter.conditions {
        if is_decided(condition) {
            sql.push(" AND ");
            push_test(sql, &condition.test, push_equals_any);
        }
    }
    match limit {
        None => push_up_to_cursor(sql, position),
        Some(limit) => {
            push_time_of_cursor(sql, position, [" AND created_at < ", " AND created_at > "]);
            sql.push(match position.order() {
                Order::NewestFirst => " ORDER BY created_at DESC LIMIT ",
                Order::OldestFirst => " ORDER BY created_at LIMIT ",
            });
            sql.bind(Value::Number(limit));
            if position.cursor().is_some() {
                sql.push(")");
            }
        }
    }
    sql.push(")");
}

/// A comparison that an index and the bounds of partitions serve; of `(created_at, id) < ($1, $2)` partitions know
/// nothing.
fn push_up_to_cursor(sql: &mut Sql, position: &Position) {
    push_time_of_cursor(sql, position, [" AND created_at <= ", " AND created_at >= "]);
}

/// The comparison with the cursor's time, if the newest rows are first and if the oldest are.
fn push_time_of_cursor(sql: &mut Sql, position: &Position, [newest, oldest]: [&'static str; 2]) {
    let Some(cursor) = position.cursor() else { return };
    sql.push(match position.order() {
        Order::NewestFirst => newest,
        Order::OldestFirst => oldest,
    });
    sql.time(cursor.created_at);
}

fn push_after_cursor(sql: &mut Sql, position: &Position) {
    let Some(cursor) = position.cursor() else { return };
    let (time, id) = match position.order() {
        Order::NewestFirst => (" AND (created_at < ", " OR id < "),
        Order::OldestFirst => (" AND (created_at > ", " OR id > "),
    };
    sql.push(time).time(cursor.created_at);
    sql.push(id).bind(Value::Id(cursor.id)).push(")");
}

/// Appends the conditions, each after AND, in the form that no index serves: for statements that another condition narrows
/// down.
pub(in crate::audit) fn push_conditions(sql: &mut Sql, filter: &AuditFilter) {
    push_all(sql, filter, push_equals_any);
}

/// Appends the conditions, each after AND.
fn push_all(sql: &mut Sql, filter: &AuditFilter, equals: fn(&mut Sql, Column, &str)) {
    for condition in &filter.conditions {
        sql.push(" AND ");
        match condition.is_negated {
            false => push_test(sql, &condition.test, equals),
            true => {
                sql.push("(");
                push_test(sql, &condition.test, push_equals_any);
                // Keeps the rows for which the test is neither true nor false.
                sql.push(") IS NOT TRUE");
            }
        }
    }
}

/// `equals` is the form of equality on a column that indexes serve.
fn push_test(sql: &mut Sql, test: &Test, equals: fn(&mut Sql, Column, &str)) {
    match test {
        Test::Equals(_, text) | Test::BeginsWith(_, text) | Test::Text(text) | Test::Member(_, text)
            if text.contains('\0') =>
        {
            sql.push("FALSE");
        }
        Test::Equals(
            column @ (Column::Tenant | Column::Actor | Column::ResourceId | Column::Request),
            value,
        ) => equals(sql, *column, value),
        Test::Equals(column, value) => push_equals_any(sql, *column, value),
        Test::BeginsWith(column, prefix) => push_begins_with(sql, name(*column), prefix),
        Test::Within(net) => {
            sql.push_either("ip_address <<= ", "audit_address_within(ip_address, ");
            sql.address(*net).push_either("", ")");
        }
        Test::Operation(id) => {
            sql.push("operation_id = ").bind(Value::Id(*id));
        }
        Test::Since(time) => {
            let time = stored(sql.dialect, *time);
            sql.push("created_at >= ").time(time);
        }
        Test::Until(time) => {
            let time = stored(sql.dialect, *time);
            sql.push("created_at < ").time(time);
        }
        Test::Member(path, value) => push_member(sql, path, value),
        Test::Contains(object) => push_contains(sql, object),
        Test::Text(text) => push_free_text(sql, &text.to_ascii_lowercase()),
    }
}

fn push_equals_any(sql: &mut Sql, column: Column, value: &str) {
    sql.push(name(column)).push(" = ").text(value);
}

/// Equality on a column that indexes serve. On PostgreSQL `audit_logs_time` has the first 63 bytes of a value: a second
/// condition compares them.
fn push_equals_indexed(sql: &mut Sql, column: Column, value: &str) {
    push_equals_any(sql, column, value);
    if sql.dialect == Dialect::Postgres {
        sql.push(" AND name(").push(name(column));
        sql.push(" COLLATE \"C\") = name(").text(value).push(")");
    }
}

fn push_begins_with(sql: &mut Sql, column: &'static str, prefix: &str) {
    match sql.dialect {
        Dialect::Postgres => {
            sql.push("starts_with(")
                .push(column)
                .push(", ")
                .text(prefix)
                .push(")");
        }
        Dialect::Sqlite => {
            sql.push("substr(").push(column).push(", 1, length(").text(prefix);
            sql.push(")) = ").text(prefix);
        }
    }
}

fn push_member(sql: &mut Sql, path: &[String], value: &str) {
    let candidates = candidates(value);
    if path.len() > METADATA_DEPTH || path.iter().any(|name| name.contains('\0')) {
        sql.push("FALSE");
        return;
    }
    match sql.dialect {
        Dialect::Postgres => {
            // Not `#>`, which takes numbers in a path as places in an array.
            sql.push("(metadata");
            for name in path {
                sql.push(" -> ").text(name);
            }
            sql.push(") IN (");
            for (place, candidate) in candidates.into_iter().enumerate() {
                sql.push(if place == 0 { "" } else { ", " });
                sql.bind(Value::Json(JsonText::from_text(candidate)));
            }
            sql.push(")");
        }
        Dialect::Sqlite => {
            sql.push("audit_member_is(metadata, ").text(&path_json(path));
            sql.push(", ").text(value).push(")");
        }
    }
}

fn push_contains(sql: &mut Sql, object: &str) {
    if !is_comparable(object) {
        sql.push("FALSE");
        return;
    }
    sql.push_either("metadata @> ", "audit_metadata_contains(metadata, ");
    sql.bind(Value::Json(JsonText::from_text(object)));
    sql.push_either("", ")");
}

/// `COLLATE "C"`, because then `lower` changes A to Z alone, as SQLite's does.
fn push_free_text(sql: &mut Sql, text: &str) {
    sql.push("(");
    for column in Column::ALL {
        sql.push_either("strpos(lower(", "instr(lower(");
        sql.push(name(column));
        sql.push_either(" COLLATE \"C\"), ", "), ").text(text);
        sql.push(") > 0 OR ");
    }
    match sql.dialect {
        Dialect::Postgres => push_text_in_json(sql, text),
        Dialect::Sqlite => {
            sql.push("audit_metadata_has_text(metadata, ")
                .text(text)
                .push(")");
        }
    }
    sql.push(")");
}

/// Each string in the text of the JSON, decoded. Not `jsonb_path_query`, which fails on a document that is nested
/// thousands of levels deep: one such row would end every search.
fn push_text_in_json(sql: &mut Sql, text: &str) {
    sql.push("CASE WHEN ");
    // What JSON does not escape is in the text of the document if it is in one of its strings.
    let is_escaped = text
        .chars()
        .any(|c| c.is_ascii_control() || c == '"' || c == '\\');
    match is_escaped {
        true => sql.push("metadata IS NOT NULL"),
        false => {
            sql.push("strpos(lower(metadata::text COLLATE \"C\"), ")
                .text(text);
            sql.push(") > 0")
        }
    };
    sql.push(
        " THEN EXISTS (SELECT FROM regexp_matches(metadata::text, E'\"(?:[^\"\\\\\\\\]|\\\\\\\\.)*\"', 'g') AS part (token) \
         WHERE strpos(lower((part.token[1]::jsonb #>> '{}') COLLATE \"C\"), ",
    );
    sql.text(text).push(") > 0) ELSE FALSE END");
}
