//! Hears what comes back, whatever interface it comes in by.

use std::{io, num::NonZeroU32, os::fd::OwnedFd, thread, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with, sockopt,
    },
};
use socket2::{SockFilter, SockRef};

use super::{
    cookie::Cookies,
    filter::{self, SNAPPED},
    reply::{self, Reply},
};

/// What may wait to be read, in bytes: a second of replies and more.
const BUFFER: usize = 64 << 20;
/// How long replies gather: to be woken by each one costs the kernel more than to send its SYN.
const GATHER: Duration = Duration::from_millis(1);
/// How long a call to [`Receiver::receive`] waits.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// `ETH_P_IP` and `ETH_P_IPV6` of if_ether.h.
const PROTOCOLS: [u16; 2] = [0x0800, 0x86dd];

/// Packet sockets for both families, each with the kernel's filter.
pub struct Receiver {
    cookies: Cookies,
    sockets: [OwnedFd; 2],
}

impl Receiver {
    /// Needs CAP_NET_RAW.
    pub fn open(cookies: Cookies) -> io::Result<Self> {
        let port = cookies.port();
        let [v4, v6] = PROTOCOLS;
        let sockets = [open(v4, &filter::v4(port))?, open(v6, &filter::v6(port))?];
        Ok(Self { cookies, sockets })
    }

    /// Waits a moment for replies, and hands over those that are there.
    pub fn receive(&self, mut heard: impl FnMut(Reply)) -> io::Result<()> {
        let [v4, v6] = &self.sockets;
        let mut polled = [v4, v6].map(|socket| PollFd::new(socket, PollFlags::IN));
        match poll(&mut polled, Some(&PATIENCE)) {
            Ok(0) | Err(Errno::INTR) => return Ok(()),
            Ok(_) => thread::sleep(GATHER),
            Err(error) => return Err(error.into()),
        }
        for socket in &self.sockets {
            let mut packet = [0; SNAPPED];
            loop {
                match recv(socket, &mut packet, RecvFlags::DONTWAIT) {
                    Ok((length, _)) => {
                        if let Some(reply) = reply::read(&packet[..length], &self.cookies) {
                            heard(reply);
                        }
                    }
                    Err(Errno::AGAIN) => break,
                    // An interface went down, and may come back.
                    Err(Errno::INTR | Errno::NETDOWN) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

/// A socket that gives packets without their link's header, of which only those count that arrive after its filter is set.
fn open(protocol: u16, filter: &[SockFilter]) -> io::Result<OwnedFd> {
    const NOTHING: SockFilter = SockFilter::new(0x06, 0, 0, 0);
    let protocol = NonZeroU32::new(u32::from(protocol.to_be())).map(Protocol::from_raw);
    let socket = socket_with(
        AddressFamily::PACKET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        protocol,
    )?;
    SockRef::from(&socket).attach_filter(&[NOTHING])?;
    while recv(&socket, &mut [0; 1], RecvFlags::DONTWAIT).is_ok() {}
    SockRef::from(&socket).attach_filter(filter)?;
    // Beyond the limit for everybody with CAP_NET_ADMIN, up to it otherwise.
    if sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    }
    Ok(socket)
}
