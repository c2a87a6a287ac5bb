//! SOCKS 5 methods, answers and datagrams.
#![cfg_attr(fuzzing, no_main)]

use ajar_fuzz::framed;
use ajar_probe::socks::codec5 as socks5;

pub fn check(data: &[u8]) {
    framed(data, socks5::parse_method);
    if let Some((reply, _)) = framed(data, socks5::Reply::parse) {
        assert_eq!(reply.code == socks5::SUCCEEDED, reply.bound.is_some());
    }
    if let Some(payload) = socks5::payload(data) {
        assert!(data.ends_with(payload) && payload.len() + 7 <= data.len());
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));
