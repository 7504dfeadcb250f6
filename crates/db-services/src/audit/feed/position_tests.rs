use proptest::prelude::*;
use uuid::Uuid;

use super::super::frontier::Frontier;
use super::super::place::Place;
use super::super::state::{Ahead, Inside, Key, Origin, Way};
use super::*;

fn origin() -> impl Strategy<Value = Origin> {
    (any::<i64>(), any::<u32>(), any::<i64>(), any::<i64>()).prop_map(
        |(system, timeline, database, table)| Origin {
            system,
            timeline,
            database,
            table,
        },
    )
}

fn key(tx: i64, created_at: i64, id: u128) -> Key {
    Key {
        tx,
        created_at,
        id: Uuid::from_u128(id),
    }
}

prop_compose! {
    fn frontier()(
        origin in origin(),
        running in prop::collection::btree_set(0..1_000_000_i64, 0..20),
        beyond in 0..1_000_i64,
        width in 1..100_000_i64,
        (created_at, id, until) in any::<(i64, u128, Option<i64>)>(),
        (is_inside, is_ahead, has_last) in any::<(bool, bool, bool)>(),
    ) -> Frontier {
        let next = running.last().map_or(0, |tx| tx + 1) + beyond;
        let way = until.map_or(Way::Sorted, Way::Indexed);
        let ahead = is_ahead.then_some(Ahead { mark: next, until: next + 5, next: is_inside.then_some(next + 3) });
        let tx = ahead.and_then(|ahead| ahead.next).unwrap_or(next);
        Frontier {
            origin,
            next,
            running: running.into_iter().collect(),
            inside: is_inside.then_some(Inside { after: key(tx, created_at, id), way }),
            ahead,
            last: has_last.then_some(key(next, created_at, id)),
            width,
        }
    }
}

fn position() -> impl Strategy<Value = Position> {
    let place = (any::<u128>(), 1..i64::MAX, any::<u128>()).prop_map(|(file, seq, id)| Place {
        file: Uuid::from_u128(file),
        seq,
        id: Some(Uuid::from_u128(id)),
    });
    prop_oneof![
        Just(State::Beginning),
        frontier().prop_map(|frontier| State::Postgres(Box::new(frontier))),
        place.prop_map(State::Sqlite),
    ]
    .prop_map(Position)
}

/// A text that has the form of a position, with any content.
fn sealed(version: u8, content: &[u8]) -> String {
    let mut bytes = vec![version];
    bytes.extend(content);
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

proptest! {
    #[test]
    fn a_position_reads_back(position in position()) {
        prop_assert_eq!(position.to_string().parse(), Ok(position));
    }

    #[test]
    fn no_text_panics_or_is_a_position(text in "\\PC*") {
        prop_assert_eq!(text.parse::<Position>(), Err(PositionError::Damaged));
    }

    #[test]
    fn a_position_with_a_changed_character_is_damaged(
        position in position(), place: prop::sample::Index, other in "[A-Za-z0-9_=. é-]?",
    ) {
        let mut text = position.to_string();
        let place = place.index(text.len());
        let before = text.clone();
        text.replace_range(place..=place, &other);
        prop_assume!(text != before);
        prop_assert_eq!(text.parse::<Position>(), Err(PositionError::Damaged));
    }

    /// With a checksum that is right: an error, or a position that reads back.
    #[test]
    fn made_up_content_is_an_error_or_a_position(
        position in position(), places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut content = serde_json::to_vec(&position.0).unwrap();
        for (place, byte) in places {
            let place = place.index(content.len());
            content[place] = byte;
        }
        if let Ok(position) = sealed(VERSION, &content).parse::<Position>() {
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }
    }

    #[test]
    fn any_bytes_are_an_error_or_a_position(version in 0..3_u8, content: Vec<u8>) {
        let _ = sealed(version, &content).parse::<Position>();
    }
}

#[test]
fn a_position_of_another_version_is_named() {
    let text = sealed(2, b"anything");
    assert_eq!(text.parse::<Position>(), Err(PositionError::Version(2)));
}

#[test]
fn numbers_that_contradict_each_other_are_no_position() {
    let valid = r#"{"p":{"origin":{"system":1,"timeline":1,"database":1,"table":1},"next":9,"running":[3,5],"inside":null,"ahead":null,"last":null,"width":8}}"#;
    assert!(sealed(1, valid.as_bytes()).parse::<Position>().is_ok());
    for (from, to) in [
        ("[3,5]", "[5,3]"),
        ("[3,5]", "[3,3]"),
        ("[3,5]", "[3,9]"),
        ("[3,5]", "[-3,5]"),
        ("\"width\":8", "\"width\":0"),
        ("\"width\":8", "\"width\":9223372036854775807"),
        ("\"width\":8", "\"width\":8,\"more\":1"),
        ("\"ahead\":null", "\"ahead\":{\"mark\":7,\"until\":3,\"next\":7}"),
        (
            "\"ahead\":null",
            "\"ahead\":{\"mark\":7,\"until\":9223372036854775807,\"next\":7}",
        ),
        (
            "\"inside\":null",
            "\"inside\":{\"after\":{\"tx\":4,\"created_at\":0,\"id\":\"00000000-0000-0000-0000-000000000000\"},\"way\":\"Sorted\"}",
        ),
    ] {
        assert!(valid.contains(from));
        let text = sealed(1, valid.replace(from, to).as_bytes());
        assert_eq!(text.parse::<Position>(), Err(PositionError::Damaged), "{to}");
    }
}
