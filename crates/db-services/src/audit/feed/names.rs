//! Positions that the database keeps by name.

use diesel::prelude::*;
use diesel::result::QueryResult;
use diesel::sql_types::{Bool, Nullable, Text};

use super::error::FeedError;
use super::position::Position;
use crate::client::Connection;

/// A row with a single text.
#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = Text)]
    position: String,
}

/// A row with a single answer.
#[derive(QueryableByName)]
struct Done {
    #[diesel(sql_type = Bool)]
    done: bool,
}

/// Returns the position that was saved under a name, or none.
///
/// On PostgreSQL this needs the rights of the auditor, as [`save`] does.
///
/// # Errors
/// When the stored text is no position, or the database does not answer, has no feed or refuses the statement.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn load(conn: &mut Connection, name: &str) -> Result<Option<Position>, FeedError> {
    let query = |placeholder: &str| {
        let text = format!("SELECT position FROM audit_feed_positions WHERE name = {placeholder}");
        diesel::sql_query(text).bind::<Text, _>(name.to_owned())
    };
    let stored: Vec<Stored> = match conn {
        Connection::Postgres(conn) => diesel_async::RunQueryDsl::load(query("$1"), conn).await?,
        Connection::Sqlite(conn) => diesel_async::RunQueryDsl::load(query("?"), conn).await?,
    };
    let stored = stored.into_iter().next();
    Ok(stored.map(|stored| stored.position.parse()).transpose()?)
}

/// Saves a position under a name, if the one that is stored is still `previous`: what [`load`] returned, or what was saved
/// last. Two readers of one name notice each other by that. None for `position` removes the name.
///
/// Save a position after its rows were taken care of, not before: then none is lost if the reader ends in between, and
/// at most one batch comes again. A reader whose rows go into this very database saves in the same transaction, and gets
/// each row once.
///
/// A name has 1 to 200 characters.
///
/// # Errors
/// [`FeedError::Conflict`] if another position is stored; when the database does not answer, has no feed or refuses the
/// statement.
///
/// # Cancel safety
/// If the future is dropped, the position may have been saved or not.
pub async fn save(
    conn: &mut Connection,
    name: &str,
    previous: Option<&Position>,
    position: Option<&Position>,
) -> Result<(), FeedError> {
    let (previous, position) = (
        previous.map(Position::to_string),
        position.map(Position::to_string),
    );
    let is_saved = match conn {
        Connection::Postgres(conn) => {
            let query = diesel::sql_query("SELECT audit_feed_save($1, $2, $3) AS done")
                .bind::<Text, _>(name)
                .bind::<Nullable<Text>, _>(previous)
                .bind::<Nullable<Text>, _>(position);
            diesel_async::RunQueryDsl::get_result::<Done>(query, conn)
                .await?
                .done
        }
        Connection::Sqlite(conn) => {
            let name = name.to_owned();
            conn.spawn_blocking(move |conn| replace(conn, &name, previous, position))
                .await?
        }
    };
    match is_saved {
        true => Ok(()),
        false => Err(FeedError::Conflict {
            name: name.to_owned(),
        }),
    }
}

/// Each is one statement, so no other one comes in between.
fn replace(
    conn: &mut SqliteConnection,
    name: &str,
    previous: Option<String>,
    position: Option<String>,
) -> QueryResult<bool> {
    let changed = match (previous, position) {
        (None, None) => {
            let query = "SELECT NOT EXISTS (SELECT 1 FROM audit_feed_positions WHERE name = ?) AS done";
            let query = diesel::sql_query(query).bind::<Text, _>(name);
            return Ok(query.get_result::<Done>(conn)?.done);
        }
        (None, Some(position)) => diesel::sql_query(
            "INSERT INTO audit_feed_positions (name, position) VALUES (?, ?) ON CONFLICT DO NOTHING",
        )
        .bind::<Text, _>(name)
        .bind::<Text, _>(position)
        .execute(conn)?,
        (Some(previous), None) => {
            diesel::sql_query("DELETE FROM audit_feed_positions WHERE name = ? AND position = ?")
                .bind::<Text, _>(name)
                .bind::<Text, _>(previous)
                .execute(conn)?
        }
        (Some(previous), Some(position)) => diesel::sql_query(
            "UPDATE audit_feed_positions SET position = ?, saved_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') \
             WHERE name = ? AND position = ?",
        )
        .bind::<Text, _>(position)
        .bind::<Text, _>(name)
        .bind::<Text, _>(previous)
        .execute(conn)?,
    };
    Ok(changed > 0)
}
