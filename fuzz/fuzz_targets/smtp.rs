//! SMTP replies, commands and messages.
#![cfg_attr(fuzzing, no_main)]

use ajar_fuzz::framed;
use ajar_probe::smtp::codec as smtp;

pub fn check(data: &[u8]) {
    if let Some((reply, _)) = framed(data, |bytes| smtp::Reply::parse(bytes, 512)) {
        assert!((200..600).contains(&reply.code) && !reply.lines.is_empty());
        reply.offers("STARTTLS");
        let word = reply.first_word();
        if let Ok(command) = smtp::ehlo(word) {
            assert_eq!(command.iter().filter(|&&byte| byte == b'\n').count(), 1);
        }
    }
    let text = String::from_utf8_lossy(data);
    let message = smtp::dot_stuffed(&text);
    let ends = message
        .windows(5)
        .filter(|window| window == b"\r\n.\r\n")
        .count();
    assert!(ends == 1 || message == b".\r\n", "a message ends once");
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));
