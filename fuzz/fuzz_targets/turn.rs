//! STUN messages.
#![cfg_attr(fuzzing, no_main)]

use ajar_fuzz::framed;
use ajar_probe::turn::codec::Message;

pub fn check(data: &[u8]) {
    if let Some((message, length)) = framed(data, Message::parse) {
        assert!(length >= 20 && length % 4 == 0);
        assert!(message.error_code() < 800);
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));
