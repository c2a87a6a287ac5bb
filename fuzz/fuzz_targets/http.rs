//! HTTP response heads.
#![cfg_attr(fuzzing, no_main)]

use ajar_fuzz::framed;
use ajar_probe::http::codec::Head;

pub fn check(data: &[u8]) {
    if let Some((head, _)) = framed(data, Head::parse) {
        assert!(head.status < 1000);
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));
