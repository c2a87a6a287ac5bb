//! Addresses that take every connection and never say a word are named: something else may answer for them.

use std::{io::Write as _, net::TcpListener, thread};

use ajar_tests::{Site, free_port};

#[test]
fn an_address_that_says_nothing_on_any_port_is_named_and_one_that_speaks_is_not() {
    let ports: Vec<u16> = (0..4).map(|_| free_port().unwrap()).collect();
    // Nobody accepts: the kernel takes the connections.
    let listen = |address: &str| {
        let bound = ports.iter().map(|port| TcpListener::bind((address, *port)));
        bound.collect::<Result<Vec<_>, _>>().unwrap()
    };
    let _mute = listen("127.0.80.1");
    let mut speaks = listen("127.0.80.2");
    let talker = speaks.pop().unwrap();
    thread::spawn(move || {
        for stream in talker.incoming() {
            let _ = stream.unwrap().write_all(b"220 mail.test ESMTP\r\n");
        }
    });
    let list: Vec<String> = ports.iter().map(u16::to_string).collect();
    let targets = format!("127.0.80.1 127.0.80.2 127.0.80.3 -p {}", list.join(","));
    let site = Site::new();
    let connections = "--sweep connect --prefix-rate 500 --settle 1s --probes smtp-relay";
    let scanned = site.scan(&format!("{targets} {connections}"));
    let said = "mute addresses: 1 (127.0.80.1);";
    assert!(scanned.stderr.contains(said), "{scanned:?}");
    // Without a word asked for, nobody speaks.
    let swept = format!("sweep {targets} --sweep connect --prefix-rate 500");
    let swept = site.ajar.run(&swept).unwrap();
    let said = "mute addresses: 2 (127.0.80.1, 127.0.80.2);";
    assert!(swept.stderr.contains(said), "{swept:?}");
}
