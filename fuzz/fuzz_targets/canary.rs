//! What is sent to the canary: lines and messages as its sink reads them.
#![cfg_attr(fuzzing, no_main)]

use ajar_canary::codec::{self, Command, Message};
use ajar_model::disclosed::{Disclosed, received_from};

/// Lines and messages as the sink reads them.
pub fn check(data: &[u8]) {
    for line in data.split_inclusive(|&byte| byte == b'\n').take(64) {
        if let Command::Mail(path) | Command::Rcpt(path) = codec::command(line) {
            let mine = codec::is_for(&path, "canary.test");
            assert!(!mine || path.trim_end_matches('.').len() >= "@canary.test".len());
            if let Some(nonce) = codec::nonce_in(codec::local_part(&path)) {
                assert!(path.to_ascii_lowercase().contains(&nonce.to_string()));
            }
        }
    }
    disclosed(&String::from_utf8_lossy(data));
    const KEEP: usize = 32;
    let whole = read(data, data.len().max(1), KEEP);
    for chunk in [1, 2, 3] {
        assert_eq!(read(data, chunk, KEEP), whole, "by {chunk}");
    }
    // A search that has no state of its own agrees about the end.
    let framed = [b"\r\n", data].concat();
    let end = framed.windows(5).position(|bytes| bytes == b"\r\n.\r\n");
    assert_eq!(whole.as_ref().map(|(end, ..)| *end), end.map(|at| at + 3));
    if let Some((end, size, header)) = whole {
        assert!(size <= end && header.len() <= KEEP.min(size));
    }
}

/// What a header tells of the way that it came.
fn disclosed(header: &str) {
    if received_from(header).is_some() {
        assert!(header.to_ascii_lowercase().contains("received:") && header.contains('['));
    }
    let fields = header.lines().filter_map(|line| line.split_once(": "));
    let told = Disclosed::by(fields);
    let read: Disclosed = told.to_string().parse().expect("it reads what it writes");
    assert_eq!(read, told);
}

/// How many bytes belong to the message, its size and its header; none if it does not end.
fn read(data: &[u8], chunk: usize, keep: usize) -> Option<(usize, usize, Vec<u8>)> {
    let mut message = Message::new(keep);
    let mut read = 0;
    for part in data.chunks(chunk) {
        let (taken, ended) = message.take(part);
        read += taken;
        if ended {
            return Some((read, message.size(), message.header().to_vec()));
        }
    }
    None
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));
