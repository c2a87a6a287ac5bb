//! AF_XDP: frames are handed to the driver past the kernel's own stack, many in one call.
//!
//! Frames are copied by the kernel, which works with every driver and needs no program in it. The firewall of this machine
//! does not see them.

#![expect(unsafe_code, reason = "frames are shared with the kernel")]

use std::{
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use etherparse::EtherType;
use rustix::{
    io::Errno,
    net::{SendFlags, send},
};
use xdp::{
    CompletionRing, FillRing, Packet, RingConfigBuilder, TxRing, Umem,
    nic::NicIndex,
    slab::{HeapSlab, Slab},
    socket::{SocketError, XdpSocket, XdpSocketBuilder},
    umem::{FrameSize, UmemCfgBuilder},
};

use super::route::Hop;

/// Frames that the kernel may hold at the same time.
const FRAMES: u32 = 2048;
/// Frames that wait for one call.
const BATCH: usize = 64;
const QUEUE: u32 = 0;
/// How long the kernel may be busy.
const PATIENCE: Duration = Duration::from_secs(1);

/// A socket on the first queue of one interface.
pub struct Xdp {
    socket: XdpSocket,
    transmit: TxRing,
    completed: CompletionRing,
    _fill: FillRing,
    waiting: HeapSlab,
    targets: Vec<SocketAddr>,
    /// Whether the kernel was once busy for longer than we wait.
    stuck: bool,
    // Dropped last: the rings name its frames.
    frames: Umem,
}

// SAFETY: what its pointers name is the memory of `frames`, which goes where they go, and no thread owns it.
unsafe impl Send for Xdp {}

impl Xdp {
    /// Needs CAP_NET_RAW, and room under RLIMIT_MEMLOCK.
    pub fn open(interface: u32) -> Result<Self, xdp::error::Error> {
        let frames = UmemCfgBuilder {
            frame_size: FrameSize::TwoK,
            frame_count: FRAMES,
            ..UmemCfgBuilder::default()
        };
        let frames = Umem::map(frames.build()?).map_err(SocketError::SocketCreation)?;
        let rings = RingConfigBuilder {
            rx_count: 0,
            tx_count: FRAMES,
            fill_count: 1,
            completion_count: FRAMES,
        };
        let mut socket = XdpSocketBuilder::new()?;
        let (rings, mut flags) = socket.build_rings(&frames, rings.build()?)?;
        flags.force_copy();
        Ok(Self {
            socket: socket.bind(NicIndex::new(interface), QUEUE, flags)?,
            transmit: rings.tx_ring.expect("it was asked for"),
            completed: rings.completion_ring,
            _fill: rings.fill_ring,
            waiting: HeapSlab::with_capacity(BATCH),
            targets: Vec::with_capacity(BATCH),
            stuck: false,
            frames,
        })
    }

    /// Adds a packet to a target, and sends what waits if it is enough.
    pub fn push(
        &mut self,
        hop: Hop,
        target: SocketAddr,
        packet: &[u8],
        failed: &mut impl FnMut(SocketAddr, io::Error),
    ) {
        let Some(mut frame) = self.frame() else {
            failed(target, Errno::NOBUFS.into());
            return;
        };
        let kind = match target {
            SocketAddr::V4(_) => EtherType::IPV4,
            SocketAddr::V6(_) => EtherType::IPV6,
        };
        let kind = kind.0.to_be_bytes();
        for part in [&hop.to[..], &hop.from, &kind, packet] {
            frame.append(part).expect("a frame has room for a SYN");
        }
        let left = self.waiting.push_front(frame);
        debug_assert!(left.is_none(), "sent before it is full");
        self.targets.push(target);
        if self.targets.len() == BATCH {
            self.flush(failed);
        }
    }

    /// True if frames were not sent in time: nothing more comes of this socket.
    pub fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// A frame, as soon as the kernel has sent one.
    fn frame(&mut self) -> Option<Packet> {
        let mut started = None;
        loop {
            // SAFETY: `self.frames` is dropped after everything that may hold the frame.
            let frame = unsafe { self.frames.alloc() };
            if frame.is_some() || self.stuck {
                return frame;
            }
            self.stuck = started.get_or_insert_with(Instant::now).elapsed() > PATIENCE;
            self.reclaim();
        }
    }

    /// Sends what waits. On return nothing of it does: the kernel took it, or it failed.
    pub fn flush(&mut self, failed: &mut impl FnMut(SocketAddr, io::Error)) {
        let waiting = self.targets.len();
        if waiting == 0 {
            return;
        }
        // SAFETY: `self.frames` is dropped after the socket.
        let queued = unsafe { self.transmit.send(&mut self.waiting) };
        debug_assert_eq!(queued, waiting, "the ring has a place for every frame");
        let sent = self.kick();
        for target in self.targets.drain(..) {
            if let Err(error) = sent {
                failed(target, error.into());
            }
        }
        self.reclaim();
    }

    /// Makes the kernel send what is in the ring, of which it takes a part at each call.
    fn kick(&mut self) -> Result<(), Errno> {
        let started = Instant::now();
        // SAFETY: the socket lives as long as `self`.
        let socket = unsafe { BorrowedFd::borrow_raw(self.socket.raw_fd()) };
        loop {
            match send(socket, &[], SendFlags::DONTWAIT) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) if !self.stuck => {
                    self.stuck = started.elapsed() > PATIENCE;
                    self.reclaim();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes back the frames that were sent.
    fn reclaim(&mut self) {
        self.completed.dequeue(&mut self.frames, FRAMES as usize);
    }
}
