#![no_main]

#[path = "../src/sink.rs"]
mod sink;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sink::canary(data));
