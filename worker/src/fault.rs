//! Failures of this very machine, which say nothing of the target.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use rustix::io::Errno;

/// What is wrong with this machine, if a connection failed for its sake: the lease must end, and its targets are visited
/// again, here or elsewhere.
pub fn of_this_machine(error: &io::Error, endpoint: SocketAddr) -> Option<String> {
    let errno = Errno::from_io_error(error)?;
    let cause = crowd(errno).or_else(|| match errno {
        Errno::PERM | Errno::ACCESS => Some("a local firewall or policy forbids the connection"),
        Errno::NETDOWN => Some("the network is down"),
        Errno::NETUNREACH if !has_route(endpoint) => Some("it has no route to the targets"),
        _ => None,
    })?;
    Some(format!("{cause} ({error})"))
}

/// True if this machine has no socket for one more connection: fewer at a time may do.
pub fn is_a_crowd(error: &io::Error) -> bool {
    Errno::from_io_error(error).and_then(crowd).is_some()
}

/// What there is too little of for one more connection.
fn crowd(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::MFILE | Errno::NFILE => {
            Some("no file descriptor is left: raise `ulimit -n`, or lower --capacity")
        }
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => {
            Some("no local port is left: widen net.ipv4.ip_local_port_range, or lower --rate")
        }
        Errno::NOBUFS | Errno::NOMEM => Some("the kernel is out of memory for sockets"),
        _ => None,
    }
}

/// Asks the routing table; connecting a UDP socket sends nothing.
fn has_route(endpoint: SocketAddr) -> bool {
    let any: SocketAddr = match endpoint {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(any).is_ok_and(|socket| socket.connect(endpoint).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_target_cannot_cause_is_a_fault() {
        let loopback = "127.0.0.1:25".parse().unwrap();
        let check = |errno: Errno, expect: bool| {
            let fault = of_this_machine(&errno.into(), loopback);
            assert_eq!(fault.is_some(), expect, "{errno:?}: {fault:?}");
        };
        check(Errno::MFILE, true);
        assert!(is_a_crowd(&Errno::MFILE.into()));
        assert!(!is_a_crowd(&Errno::NETDOWN.into()));
        check(Errno::ADDRNOTAVAIL, true);
        check(Errno::PERM, true);
        check(Errno::NETDOWN, true);
        // A router on the way says so too.
        check(Errno::NETUNREACH, false);
        check(Errno::HOSTUNREACH, false);
        check(Errno::CONNREFUSED, false);
        check(Errno::TIMEDOUT, false);
        assert_eq!(
            of_this_machine(&io::ErrorKind::TimedOut.into(), loopback),
            None
        );
    }
}
