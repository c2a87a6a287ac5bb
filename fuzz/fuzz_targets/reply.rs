//! Packets that may answer a SYN.
#![cfg_attr(fuzzing, no_main)]

use ajar_sweep::syn::{
    cookie::Cookies,
    reply::{Said, read},
};

/// Whatever counts as a reply repeats the cookie of the SYN that it names.
pub fn check(data: &[u8]) {
    let cookies = Cookies::new([7; 16], 40_000);
    let Some(reply) = read(data, &cookies) else {
        return;
    };
    let sequence = cookies.sequence(reply.ours, reply.target);
    let repeated = match reply.said {
        Said::Open | Said::Closed => sequence.wrapping_add(1),
        Said::Unreachable => sequence,
    };
    let bytes = repeated.to_be_bytes();
    assert!(data.windows(4).any(|window| window == bytes));
    let port = reply.target.port().to_be_bytes();
    assert!(data.windows(2).any(|window| window == port));
    // Another key makes it nobody's.
    assert_eq!(read(data, &Cookies::new([8; 16], 40_000)), None);
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));
