#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kavach_fuzz_targets::snapshot(bytes));
