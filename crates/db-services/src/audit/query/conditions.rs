//! Conditions as SQL. Both databases get the same meaning; where their functions differ, SQLite calls
//! [functions](super::functions) of this crate.

use db_schema::JsonText;

use super::candidates::{candidates, is_comparable, path_json};
use super::filter::{AuditFilter, Column, Condition, Test};
use super::sql::{Dialect, Sql, Value};
use super::terms::COLUMNS;
use super::time::stored;

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

/// Appends `WHERE` with all conditions, which [`and`](Sql::push) can follow.
pub(super) fn push_where(sql: &mut Sql, filter: &AuditFilter) {
    // On SQLite this ends the statement when its time is over: it is evaluated for each row, before the others.
    sql.push_either(" WHERE TRUE", " WHERE audit_in_time(created_at)");
    for condition in &filter.conditions {
        sql.push(" AND ");
        push_condition(sql, condition);
    }
}

/// Appends the conditions, each after AND, in the form that no index serves: for statements that another condition narrows
/// down.
pub(in crate::audit) fn push_conditions(sql: &mut Sql, filter: &AuditFilter) {
    for condition in &filter.conditions {
        sql.push(" AND ");
        if !condition.is_negated {
            push_test(sql, &condition.test, push_equals_any);
        } else {
            push_condition(sql, condition);
        }
    }
}

fn push_condition(sql: &mut Sql, condition: &Condition) {
    match condition.is_negated {
        false => push_test(sql, &condition.test, push_equals_indexed),
        true => {
            sql.push("(");
            push_test(sql, &condition.test, push_equals_any);
            // Keeps the rows for which the test is neither true nor false.
            sql.push(") IS NOT TRUE");
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

/// Equality on a column that indexes serve. The second condition says the same in the form that they do: on PostgreSQL
/// `audit_logs_time` has the first 63 bytes of a value, on SQLite it has the value, but not the rest of the row.
fn push_equals_indexed(sql: &mut Sql, column: Column, value: &str) {
    let named = name(column);
    sql.push(named).push(" = ").text(value);
    match sql.dialect {
        Dialect::Postgres => {
            sql.push(" AND name(").push(named);
            sql.push(" COLLATE \"C\") = name(").text(value).push(")");
        }
        // The tenant has an index of its own.
        Dialect::Sqlite if column == Column::Tenant => {}
        Dialect::Sqlite => {
            // The time is looked at for a row in a thousand: a call for each would take longer than the rest.
            sql.push(
                " AND (id, created_at) IN (SELECT id, created_at FROM audit_logs \
                 WHERE (created_at % 1024 <> 0 OR audit_in_time(created_at)) AND ",
            );
            sql.push(named).push(" = ").text(value).push(")");
        }
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
    if path.iter().any(|name| name.contains('\0')) {
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
    for column in COLUMNS {
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
