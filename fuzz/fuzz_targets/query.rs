#![no_main]

#[path = "../src/query.rs"]
mod query;
#[path = "../src/storage.rs"]
mod storage;

libfuzzer_sys::fuzz_target!(|input: &[u8]| query::check(input));
