#![no_main]

#[path = "../src/spool_recovery.rs"]
mod spool_recovery;

libfuzzer_sys::fuzz_target!(|input: &[u8]| spool_recovery::check(input));
