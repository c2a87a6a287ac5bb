//! SOCKS 4 answers.
#![cfg_attr(fuzzing, no_main)]

use ajar_fuzz::framed;
use ajar_probe::socks::codec4 as socks4;

pub fn check(data: &[u8]) {
    if let Some((reply, length)) = framed(data, socks4::Reply::parse) {
        assert!((0x5a..=0x5d).contains(&reply.code) && length == 8);
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));
