//! Replays the named seeds of the fuzz targets, so that each run of the tests covers them.

use std::panic::catch_unwind;
use std::path::Path;

#[path = "../../fuzz/src/ndjson.rs"]
mod ndjson;
#[path = "../../fuzz/src/query.rs"]
mod query;
#[path = "../../fuzz/src/spool_recovery.rs"]
mod spool_recovery;
#[path = "../../fuzz/src/storage.rs"]
mod storage;

fn replay_seeds(target: &str, check: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target);
    let paths: Vec<_> = seeds
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(paths.len() >= 20, "{paths:?}");
    let failed: Vec<_> = paths
        .iter()
        .filter(|path| {
            let input = std::fs::read(path).unwrap();
            catch_unwind(|| check(&input)).is_err()
        })
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn the_ndjson_target_accepts_its_seeds() {
    replay_seeds("ndjson", ndjson::check);
}

#[test]
fn the_query_target_accepts_its_seeds() {
    replay_seeds("query", query::check);
}

#[test]
fn the_spool_recovery_target_accepts_its_seeds() {
    replay_seeds("spool_recovery", spool_recovery::check);
}
