#![no_main]

#[path = "../src/ndjson.rs"]
mod ndjson;
#[path = "../src/storage.rs"]
mod storage;

libfuzzer_sys::fuzz_target!(|input: &[u8]| ndjson::check(input));
