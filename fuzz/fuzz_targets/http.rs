//! HTTP response heads, and the bodies after them.
#![cfg_attr(fuzzing, no_main)]

use ajar_fuzz::framed;
use ajar_probe::http::body::Body;
use ajar_probe::http::codec::Head;

pub fn check(data: &[u8]) {
    let Some((head, length)) = framed(data, Head::parse) else {
        return;
    };
    assert!(head.status < 1000);
    let (body, rest) = (Body::after(&head), &data[length..]);
    for ended in [false, true] {
        if let Ok(Some((content, taken))) = body.parse(rest, ended) {
            assert!(taken <= rest.len());
            assert!(ended || content.is_whole || content.answer.is_some() || taken == rest.len());
        }
    }
    assert!(matches!(body.parse(rest, true), Ok(Some(_))), "it has ended");
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));
