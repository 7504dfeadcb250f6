//! A server in memory: transactions that begin, insert, commit and roll back at random, and a reader that reads at any time.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Begin,
    /// How many rows the transaction at this place inserts.
    Insert(prop::sample::Index, usize),
    End(prop::sample::Index, bool),
    Read,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::Begin),
        3 => (any::<prop::sample::Index>(), 0..8_usize).prop_map(|(place, rows)| Event::Insert(place, rows)),
        2 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(place, commits)| Event::End(place, commits)),
        2 => Just(Event::Read),
    ]
}

struct Server {
    end: i64,
    open: BTreeMap<i64, Vec<Key>>,
    committed: Vec<Key>,
    ids: u128,
}

impl Server {
    fn snapshot(&self) -> Snapshot {
        let running: Vec<i64> = self.open.keys().copied().collect();
        Snapshot {
            oldest: running.first().copied().unwrap_or(self.end),
            end: self.end,
            running,
        }
    }

    fn apply(&mut self, event: &Event) {
        let open: Vec<i64> = self.open.keys().copied().collect();
        match event {
            Event::Begin => {
                self.open.insert(self.end, Vec::new());
                self.end += 1;
            }
            Event::Insert(place, rows) if !open.is_empty() => {
                let tx = open[place.index(open.len())];
                for _ in 0..*rows {
                    self.ids = self.ids.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let (created_at, id) = ((self.ids % 3) as i64, Uuid::from_u128(self.ids));
                    self.open.entry(tx).or_default().push(Key { tx, created_at, id });
                }
            }
            Event::End(place, commits) if !open.is_empty() => {
                let rows = self.open.remove(&open[place.index(open.len())]);
                self.committed
                    .extend(rows.filter(|_| *commits).unwrap_or_default());
            }
            _ => {}
        }
    }

    /// What the statements return for a window.
    fn rows(&self, window: &Window, limit: usize) -> Vec<Key> {
        let is_listed = |key: &Key| window.listed.contains(&key.tx);
        let mut rows: Vec<Key> = self.committed.clone();
        rows.retain(|key| (window.from..window.to).contains(&key.tx));
        rows.retain(|key| is_listed(key) == (window.part == Part::Late));
        rows.retain(|key| window.inside.is_none_or(|inside| *key > inside.after));
        rows.sort();
        rows.truncate(limit + 1);
        rows
    }
}

fn origin() -> Origin {
    Origin {
        system: 1,
        timeline: 1,
        database: 1,
        table: 1,
    }
}

/// Reads one batch, as `next` does.
fn batch(frontier: &mut Frontier, server: &Server, snapshot: &Snapshot, limit: usize) -> Option<Vec<Key>> {
    let window = frontier.window(snapshot)?;
    let mut rows = server.rows(&window, limit);
    rows.truncate(frontier.advance(&window, snapshot, &rows, limit));
    assert!(frontier.is_valid(), "{frontier:?}");
    Some(rows)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn each_committed_row_is_read_once(
        events in prop::collection::vec(event(), 1..80), limit in 1..6_usize, width in 1..6_i64,
    ) {
        let mut server = Server { end: 3, open: BTreeMap::new(), committed: Vec::new(), ids: 1 };
        let mut frontier = Frontier::beginning(origin(), &server.snapshot(), None);
        frontier.width = width;
        let mut read = Vec::new();
        // A snapshot may be older than the rows that the statement sees.
        let mut snapshot = server.snapshot();
        for event in &events {
            server.apply(event);
            if let Event::Read = event {
                if let Some(rows) = batch(&mut frontier, &server, &snapshot, limit) {
                    read.extend(rows);
                }
                snapshot = server.snapshot();
            }
        }
        let last = server.snapshot();
        while let Some(rows) = batch(&mut frontier, &server, &last, limit) {
            read.extend(rows);
        }
        let mut committed = server.committed;
        committed.sort();
        read.sort();
        prop_assert_eq!(read, committed);
    }
}

#[test]
fn a_snapshot_reads_the_text_of_the_server() {
    let read = |text| Snapshot::parse(text).map(|read| (read.oldest, read.end, read.running));
    assert_eq!(read("10:20:14,10,15"), Some((10, 20, vec![10, 14, 15])));
    assert_eq!(read("10:10:"), Some((10, 10, vec![])));
    for text in ["", "10", "10:20", "a:b:", "10:20:x", "10:20:1,,x"] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn a_long_transaction_costs_one_window_when_it_ends() {
    let open = Snapshot {
        oldest: 10,
        end: 1_000_000,
        running: vec![10],
    };
    let mut frontier = Frontier::beginning(origin(), &open, None);
    while let Some(window) = frontier.window(&open) {
        frontier.advance(&window, &open, &[], 100);
    }
    let ended = Snapshot {
        oldest: 1_000_005,
        end: 1_000_005,
        running: vec![],
    };
    let mut windows = Vec::new();
    while let Some(window) = frontier.window(&ended) {
        windows.push((window.part, window.from, window.listed.clone()));
        frontier.advance(&window, &ended, &[], 100);
    }
    assert_eq!(
        windows,
        [(Part::Late, 10, vec![10]), (Part::New, 1_000_000, vec![])]
    );
}

#[test]
fn windows_become_wider_where_there_is_little_and_narrower_where_there_is_much() {
    let snapshot = Snapshot {
        oldest: 1 << 32,
        end: 1 << 32,
        running: vec![],
    };
    let mut frontier = Frontier::beginning(origin(), &snapshot, None);
    let mut count = 0;
    while let Some(window) = frontier.window(&snapshot) {
        frontier.advance(&window, &snapshot, &[], 1_000);
        count += 1;
    }
    assert!(count < 20, "{count}");
    let mut frontier = Frontier::beginning(origin(), &snapshot, None);
    let window = frontier.window(&snapshot).unwrap();
    let keys: Vec<Key> = (0..1_001)
        .map(|tx| Key {
            tx: tx / 100,
            created_at: 0,
            id: Uuid::nil(),
        })
        .collect();
    assert_eq!(frontier.advance(&window, &snapshot, &keys, 1_000), 1_000);
    assert_eq!((frontier.next, frontier.width), (10, 10));
}

#[test]
fn windows_become_narrower_where_they_are_slow_down_to_the_first_width() {
    let snapshot = idle(1 << 32);
    let slow = SLOW + Duration::from_millis(1);
    let mut frontier = Frontier::beginning(origin(), &snapshot, None);
    frontier.width = FIRST_WIDTH * 100;
    frontier.took(SLOW);
    assert_eq!(frontier.width, FIRST_WIDTH * 100);
    frontier.took(slow);
    assert_eq!(frontier.width, FIRST_WIDTH * 100 / 16);
    // However slow the server is, the reader gets on.
    for width in [1, 2, 100, FIRST_WIDTH, FIRST_WIDTH + 1] {
        frontier.width = width;
        for _ in 0..10 {
            let window = frontier.window(&snapshot).unwrap();
            frontier.advance(&window, &snapshot, &[], 1_000);
            frontier.took(slow);
        }
        assert!(frontier.width >= FIRST_WIDTH, "{width}: {}", frontier.width);
    }
}

#[test]
fn a_window_that_was_ended_is_narrower_the_next_time() {
    let snapshot = idle(1_000);
    let mut frontier = Frontier::now(origin(), &idle(0), 0, None);
    let mut widths = Vec::new();
    loop {
        let window = frontier.window(&snapshot).unwrap();
        widths.push(window.to - window.from);
        if !frontier.timed_out(&window) {
            break;
        }
    }
    assert_eq!(widths, [1_000, 62, 3, 1]);
}

/// Otherwise the first window after a long absence would be all that was written in it.
#[test]
fn a_reader_that_has_waited_for_long_begins_with_a_narrow_window() {
    let mut frontier = Frontier::now(origin(), &idle(5_000), 5_000, None);
    for n in 1..100 {
        let snapshot = idle(5_000 + 10 * n);
        while let Some(window) = frontier.window(&snapshot) {
            frontier.advance(&window, &snapshot, &[], 1_000);
        }
    }
    let window = frontier.window(&idle(1 << 32)).unwrap();
    assert_eq!(window.to - window.from, FIRST_WIDTH);
}

/// Ids of another cluster may be anything.
#[test]
fn rows_of_the_farthest_transactions_are_reached_in_a_few_windows() {
    let snapshot = idle(1_000);
    for until in [1_000, 5_000, 1 << 40, 1 << 62, i64::MAX - 1] {
        for tx in [1_000, until - 1, until] {
            let key = |tx, id| Key {
                tx,
                created_at: 0,
                id: Uuid::from_u128(id),
            };
            let rows = [key(tx, 1), key(until, 2)];
            let mut frontier = Frontier::beginning(origin(), &snapshot, Some(until));
            let (mut read, mut windows) = (Vec::new(), 0);
            while let Some(window) = frontier.window(&snapshot) {
                let is_ahead = matches!(window.part, Part::Ahead(_));
                let is_within = |key: &Key| {
                    let is_behind = window.inside.is_none_or(|inside| *key > inside.after);
                    is_ahead && is_behind && (window.from..window.to).contains(&key.tx)
                };
                let keys: Vec<Key> = rows.into_iter().filter(is_within).collect();
                let count = frontier.advance(&window, &snapshot, &keys, 1);
                read.extend_from_slice(&keys[..count]);
                assert!(frontier.is_valid());
                assert!(is_ahead || window.covered() <= FIRST_WIDTH, "{window:?}");
                windows += 1;
            }
            let is_ahead = |key: &Key| key.tx >= snapshot.end;
            assert_eq!(
                read,
                rows.into_iter().filter(is_ahead).collect::<Vec<_>>(),
                "{tx} {until}"
            );
            assert!(windows < 80, "{windows}");
        }
    }
}

#[test]
fn rows_of_negative_transactions_are_read_once_in_parts() {
    let (snapshot, limit) = (idle(1_000), 2);
    let mut rows: Vec<Key> = [i64::MIN, -5, -5, -5, -4, -3, -2, -1, 0, 5]
        .into_iter()
        .zip(0..)
        .map(|(tx, id)| Key {
            tx,
            created_at: 0,
            id: Uuid::from_u128(id),
        })
        .collect();
    rows.sort();
    let mut frontier = Frontier::beginning(origin(), &snapshot, None);
    let mut read = Vec::new();
    while let Some(window) = frontier.window(&snapshot) {
        let mut keys = rows.clone();
        keys.retain(|key| (window.from..window.to).contains(&key.tx));
        keys.retain(|key| window.inside.is_none_or(|inside| *key > inside.after));
        keys.truncate(limit + 1);
        let count = frontier.advance(&window, &snapshot, &keys, limit);
        read.extend_from_slice(&keys[..count]);
        assert!(frontier.is_valid() && frontier.unread(&snapshot) <= 1_000);
    }
    assert_eq!(read, rows);
}

fn idle(end: i64) -> Snapshot {
    Snapshot {
        oldest: end,
        end,
        running: vec![],
    }
}

#[test]
fn a_position_is_taken_back_to_what_is_on_the_disk() {
    let snapshot = Snapshot {
        oldest: 15,
        end: 20,
        running: vec![15, 18],
    };
    let mut frontier = Frontier::now(origin(), &snapshot, 20, None);
    assert_eq!(
        (frontier.next, frontier.running.as_slice()),
        (20, [15, 18].as_slice())
    );
    frontier.settle(17);
    assert_eq!(
        (frontier.next, frontier.running.as_slice()),
        (17, [15].as_slice())
    );
    frontier.settle(25);
    assert_eq!(frontier.next, 17);
}
