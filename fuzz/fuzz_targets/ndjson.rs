#![no_main]

#[path = "../src/ndjson.rs"]
mod ndjson;

libfuzzer_sys::fuzz_target!(|input: &[u8]| ndjson::check(input));
