//! Positions that the database keeps by name.

use db_services::audit::feed::{FeedError, Position, load, save};

use super::{Reader, written};
use crate::support::{TestDb, on_both};

on_both! {
    async fn two_readers_of_one_name_notice_each_other(db: TestDb) {
        let mut conn = db.connection().await;
        assert_eq!(load(&mut conn, "siem").await.unwrap(), None);
        let first = Position::beginning();
        save(&mut conn, "siem", None, Some(&first)).await.unwrap();
        assert_eq!(load(&mut conn, "siem").await.unwrap(), Some(first.clone()));
        written(&db, "one").await;
        let mut reader = Reader::at(&first);
        let second = reader.try_batch(&mut conn).await.unwrap().position;
        // Both have loaded the first; one is faster.
        save(&mut conn, "siem", Some(&first), Some(&second)).await.unwrap();
        for (previous, position) in [
            (Some(&first), Some(&second)), (None, Some(&second)), (Some(&first), None), (None, None)
        ] {
            let error = save(&mut conn, "siem", previous, position).await.unwrap_err();
            assert!(matches!(&error, FeedError::Conflict { name } if name == "siem"), "{error:?}");
        }
        assert_eq!(load(&mut conn, "siem").await.unwrap(), Some(second.clone()));
        // Names are separate, and can be removed.
        save(&mut conn, "other", None, Some(&first)).await.unwrap();
        save(&mut conn, "siem", Some(&second), None).await.unwrap();
        assert_eq!(load(&mut conn, "siem").await.unwrap(), None);
        assert_eq!(load(&mut conn, "other").await.unwrap(), Some(first));
        save(&mut conn, "siem", None, None).await.unwrap();
    }

    async fn a_name_has_a_character_and_no_more_than_200(db: TestDb) {
        let mut conn = db.connection().await;
        let first = Position::beginning();
        save(&mut conn, &"é".repeat(200), None, Some(&first)).await.unwrap();
        for name in [String::new(), "n".repeat(201)] {
            let error = save(&mut conn, &name, None, Some(&first)).await.unwrap_err();
            assert!(matches!(error, FeedError::Database(_)), "{error:?}");
        }
    }

    async fn a_stored_text_that_is_no_position_is_an_error(db: TestDb) {
        let mut conn = db.connection().await;
        save(&mut conn, "siem", None, Some(&Position::beginning())).await.unwrap();
        db.sql("UPDATE audit_feed_positions SET position = 'x' || position").await.unwrap();
        let error = load(&mut conn, "siem").await.unwrap_err();
        assert!(matches!(error, FeedError::Position(_)), "{error:?}");
    }
}

#[tokio::test]
async fn the_auditor_reads_the_feed_and_saves_positions_and_the_writer_does_not() {
    let db = TestDb::postgres().await;
    written(&db, "one").await;
    let mut auditor = super::connect_as(&db, "auditor").await;
    let mut reader = Reader::from_beginning();
    assert_eq!(reader.actions(&mut auditor).await, ["one"]);
    let position: Position = reader.position.parse().unwrap();
    save(&mut auditor, "siem", None, Some(&position)).await.unwrap();
    assert_eq!(load(&mut auditor, "siem").await.unwrap(), Some(position.clone()));
    for role in ["writer", "reader", "maintainer"] {
        let mut conn = super::connect_as(&db, role).await;
        let error = save(&mut conn, "siem", Some(&position), None).await.unwrap_err();
        assert!(
            error.to_string().contains("permission denied"),
            "{role}: {error:?}"
        );
    }
}
