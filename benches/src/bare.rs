//! The bare loop of a connect scan: the system calls that it cannot do without, and no scope, pace, retry or store.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    net::SocketAddrV4,
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt::socket_error},
};

use crate::rig::Part;

/// Connections that are under way at most: as many as ajar's.
const AT_ONCE: usize = 8192;
const PATIENCE: Duration = Duration::from_millis(500);
const WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

/// Connects to each pair once, and prints those that are open: address and port.
pub fn connect_to_all(part: Part) -> anyhow::Result<()> {
    let mut pairs = part.all();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut under_way: Vec<Option<(SocketAddrV4, OwnedFd)>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    // Everybody has the same patience: the first that began is the first to give up.
    let mut begun: VecDeque<(Instant, usize, SocketAddrV4)> = VecDeque::new();
    let mut events = Vec::with_capacity(1024);
    under_way.resize_with(AT_ONCE, || None);
    free.extend(0..AT_ONCE);
    loop {
        while let Some(slot) = free.pop() {
            let Some(pair) = pairs.next() else {
                free.push(slot);
                break;
            };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
            match connect(&socket, &pair) {
                Err(Errno::INPROGRESS) => {}
                other => other?,
            }
            let data = epoll::EventData::new_u64(slot as u64);
            epoll::add(&epoll, &socket, data, epoll::EventFlags::OUT)?;
            under_way[slot] = Some((pair, socket));
            begun.push_back((Instant::now(), slot, pair));
        }
        if free.len() == AT_ONCE {
            return Ok(out.flush()?);
        }
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&WAIT))?;
        for event in &events {
            let slot = event.data.u64() as usize;
            if let Some((pair, socket)) = under_way[slot].take() {
                if socket_error(socket.as_fd())?.is_ok() {
                    writeln!(out, "{} {}", pair.ip(), pair.port())?;
                }
                free.push(slot);
            }
        }
        while let Some((at, slot, pair)) = begun.front().copied() {
            let waits = matches!(&under_way[slot], Some((of, _)) if *of == pair);
            if waits && at.elapsed() < PATIENCE {
                break;
            }
            begun.pop_front();
            if waits {
                under_way[slot] = None;
                free.push(slot);
            }
        }
    }
}
