//! HTTP/2 frames and statuses.
#![cfg_attr(fuzzing, no_main)]

use ajar_fuzz::framed;
use ajar_probe::http2::codec::{self, Frame};

pub fn check(data: &[u8]) {
    if let Some((frame, length)) = framed(data, Frame::parse) {
        match frame {
            Frame::Data { payload, .. } => assert!(payload.len() + 9 <= length),
            Frame::Headers { status, .. } => assert!(status.is_none_or(|code| (100..=999).contains(&code))),
            _ => {}
        }
    }
    if let Some((first, _)) = framed(data, Frame::parse_first) {
        assert!(matches!(first, Frame::Settings | Frame::Other));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(request) = codec::connect(text, text)
    {
        assert!(matches!(Frame::parse(&request), Ok(Some((_, length))) if length == request.len()));
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));
