//! A raw IP socket: the kernel finds the way and the neighbour of each packet.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::OwnedFd,
};

use rustix::net::{
    AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags, SocketType,
    addr::SocketAddrArg, ipproto, sendmmsg, socket_with,
};

use super::packet::LONGEST;

/// Packets of one call.
const BATCH: usize = 64;

/// Packets that wait for one call, by family.
pub struct Raw {
    v4: Family,
    /// None where this machine has no IPv6.
    v6: Option<Family>,
}

struct Family {
    socket: OwnedFd,
    waiting: Vec<Waiting>,
}

struct Waiting {
    target: SocketAddr,
    to: SocketAddrAny,
    packet: [u8; LONGEST],
    length: usize,
}

impl Raw {
    /// Needs CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            v4: Family::open(AddressFamily::INET)?,
            v6: Family::open(AddressFamily::INET6).ok(),
        })
    }

    /// Adds a packet, and sends what waits if it is enough.
    pub fn push(
        &mut self,
        target: SocketAddr,
        packet: &[u8],
        failed: &mut impl FnMut(SocketAddr, io::Error),
    ) {
        let family = match target {
            SocketAddr::V4(_) => Some(&mut self.v4),
            SocketAddr::V6(_) => self.v6.as_mut(),
        };
        match family {
            Some(family) => family.push(target, packet, failed),
            None => failed(target, io::ErrorKind::NetworkUnreachable.into()),
        }
    }

    /// Sends what waits.
    pub fn flush(&mut self, failed: &mut impl FnMut(SocketAddr, io::Error)) {
        self.v4.flush(failed);
        if let Some(v6) = &mut self.v6 {
            v6.flush(failed);
        }
    }
}

impl Family {
    /// With the protocol `RAW`, what is sent starts with its IP header (raw(7), ipv6(7)).
    fn open(family: AddressFamily) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        Ok(Self {
            socket: socket_with(family, SocketType::RAW, flags, Some(ipproto::RAW))?,
            waiting: Vec::with_capacity(BATCH),
        })
    }

    fn push(
        &mut self,
        target: SocketAddr,
        packet: &[u8],
        failed: &mut impl FnMut(SocketAddr, io::Error),
    ) {
        let mut waiting = Waiting {
            target,
            // A raw socket has no ports; IPv6 refuses one that it takes for a protocol.
            to: SocketAddr::new(target.ip(), 0).as_any(),
            packet: [0; LONGEST],
            length: packet.len(),
        };
        waiting.packet[..packet.len()].copy_from_slice(packet);
        self.waiting.push(waiting);
        if self.waiting.len() == BATCH {
            self.flush(failed);
        }
    }

    fn flush(&mut self, failed: &mut impl FnMut(SocketAddr, io::Error)) {
        let mut rest = &self.waiting[..];
        while !rest.is_empty() {
            match send(&self.socket, rest) {
                Ok(sent) => rest = &rest[sent.max(1)..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    failed(rest[0].target, error);
                    rest = &rest[1..];
                }
            }
        }
        self.waiting.clear();
    }
}

/// Sends packets in order, and says how many; or why the first one could not be sent.
fn send(socket: &OwnedFd, waiting: &[Waiting]) -> io::Result<usize> {
    let slices = waiting
        .iter()
        .map(|one| [IoSlice::new(&one.packet[..one.length])]);
    let slices: Vec<[IoSlice<'_>; 1]> = slices.collect();
    let mut nothing: Vec<SendAncillaryBuffer<'_, '_, '_>> = waiting
        .iter()
        .map(|_| SendAncillaryBuffer::default())
        .collect();
    let messages = waiting.iter().zip(&slices).zip(&mut nothing);
    let mut messages: Vec<MMsgHdr<'_>> = messages
        .map(|((one, slice), nothing)| MMsgHdr::new_with_addr(&one.to, slice, nothing))
        .collect();
    Ok(sendmmsg(socket, &mut messages, SendFlags::empty())?)
}
