//! The SQL functions that statements with a time limit use on SQLite. They are registered on the connection before each of
//! them, after which SQLite prepares the connection's other statements again.

use std::time::{Duration, Instant};

use db_schema::models::{StoredText, network_text, parse_network};
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::prelude::*;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{BigInt, Bool, Nullable, Text};
use diesel::sqlite::Sqlite;

use super::json_match;

#[diesel::declare_sql_function]
extern "SQL" {
    fn audit_in_time(created_at: BigInt) -> Bool;
    fn audit_address_within(address: Nullable<Text>, net: Text) -> Bool;
    fn audit_address_text(address: Nullable<Text>) -> Nullable<Text>;
    fn audit_member_is(metadata: Nullable<Text>, path: Text, text: Text) -> Bool;
    fn audit_metadata_contains(metadata: Nullable<Text>, object: Text) -> Bool;
    fn audit_metadata_has_text(metadata: Nullable<Text>, text: Text) -> Bool;
}

/// True, or an error that ends the statement.
#[derive(Debug, AsExpression, FromSqlRow)]
#[diesel(sql_type = Bool)]
struct InTime(bool);

impl ToSql<Bool, Sqlite> for InTime {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        if !self.0 {
            return Err("the query's time limit was reached".into());
        }
        out.set_value(1_i32);
        Ok(IsNull::No)
    }
}

/// Registers the functions. When `limit` has passed since `begun`, statements end with an error at the next row.
pub(super) fn register(conn: &mut SqliteConnection, begun: Instant, limit: Duration) -> QueryResult<()> {
    audit_in_time_utils::register_nondeterministic_impl(conn, move |_: i64| InTime(begun.elapsed() < limit))?;
    audit_address_within_utils::register_impl(conn, |address: Option<StoredText>, net: String| {
        address.is_some_and(|StoredText(address)| is_within(&address, &net))
    })?;
    audit_address_text_utils::register_impl(conn, |address: Option<StoredText>| {
        address.map(|StoredText(address)| parse_network(&address).map_or(address, network_text))
    })?;
    audit_member_is_utils::register_impl(
        conn,
        |metadata: Option<StoredText>, path: String, text: String| {
            metadata.is_some_and(|StoredText(metadata)| json_match::member_is(&metadata, &path, &text))
        },
    )?;
    audit_metadata_contains_utils::register_impl(conn, |metadata: Option<StoredText>, object: String| {
        metadata.is_some_and(|StoredText(metadata)| json_match::contains(&metadata, &object))
    })?;
    audit_metadata_has_text_utils::register_impl(conn, |metadata: Option<StoredText>, text: String| {
        metadata.is_some_and(|StoredText(metadata)| json_match::has_text(&metadata, &text))
    })
}

/// Whether a text is an address or a network within another one.
fn is_within(address: &str, net: &str) -> bool {
    match (parse_network(address), parse_network(net)) {
        (Some(address), Some(net)) => net.contains(&address),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_within_networks_of_their_family() {
        for (address, net) in [
            ("10.1.2.3", "10.0.0.0/8"),
            ("10.1.2.3/24", "10.1.0.0/16"),
            ("2001:DB8::1", "2001:db8::/32"),
            ("::1", "::1"),
            ("10.0.0.0/8", "10.0.0.0/8"),
        ] {
            assert!(is_within(address, net), "{address} {net}");
        }
        for (address, net) in [
            ("10.0.0.0/7", "10.0.0.0/8"),
            ("::ffff:10.0.0.1", "10.0.0.0/8"),
            ("unknown", "0.0.0.0/0"),
            ("", "::/0"),
            ("10.0.0.1", "::/0"),
        ] {
            assert!(!is_within(address, net), "{address} {net}");
        }
    }
}
