//! Telnet prompts and answers.
#![cfg_attr(fuzzing, no_main)]

use ajar_fuzz::framed;
use ajar_probe::telnet::codec::{self, Said};

pub fn check(data: &[u8]) {
    if let Some((said, length)) = framed(data, Said::parse) {
        let word = data[..length].to_ascii_lowercase();
        assert_eq!(said == Said::Connected, word.ends_with(b"connected"));
    }
    framed(data, codec::rest_of_line);
    if codec::prompt(data).is_some() {
        assert!(!data.is_empty());
    }
    let host = String::from_utf8_lossy(data);
    for request in codec::requests(&host, 80).into_iter().flatten() {
        assert!(request.ends_with(b"\r\n"));
        assert_eq!(request.iter().filter(|&&byte| byte == b'\n').count(), 1);
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));
