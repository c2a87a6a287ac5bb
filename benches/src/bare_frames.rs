//! The bare loop of AF_XDP: the same frame over and over, no target, no way to it, no answer to wait for.

#![expect(unsafe_code, reason = "frames are shared with the kernel")]

use std::os::fd::BorrowedFd;

use anyhow::{Context, bail};
use rustix::{
    io::Errno,
    net::{SendFlags, netdevice::name_to_index, send},
};
use xdp::{
    CompletionRing, FillRing, RingConfigBuilder, TxRing, Umem,
    nic::NicIndex,
    slab::{HeapSlab, Slab},
    socket::{XdpSocket, XdpSocketBuilder},
    umem::{FrameSize, UmemCfgBuilder},
};

const FRAMES: u32 = 2048;
/// Ethernet, IPv4, TCP and an option: as long as a SYN of ours.
const FRAME: [u8; 58] = frame();

/// A socket that sends [`FRAME`].
pub struct Frames {
    socket: XdpSocket,
    transmit: TxRing,
    completed: CompletionRing,
    _fill: FillRing,
    waiting: HeapSlab,
    frames: Umem,
}

impl Frames {
    /// Frames of one call.
    pub const BATCH: usize = 64;

    pub fn open(device: &str) -> anyhow::Result<Self> {
        let control = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::DGRAM,
            None,
        )?;
        let index = name_to_index(control, device)?;
        let frames = UmemCfgBuilder {
            frame_size: FrameSize::TwoK,
            frame_count: FRAMES,
            ..UmemCfgBuilder::default()
        };
        let frames = Umem::map(frames.build()?)?;
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
            socket: socket.bind(NicIndex::new(index), 0, flags)?,
            transmit: rings.tx_ring.context("no ring to send by")?,
            completed: rings.completion_ring,
            _fill: rings.fill_ring,
            waiting: HeapSlab::with_capacity(Self::BATCH),
            frames,
        })
    }

    /// Sends the frame [`Self::BATCH`] times.
    pub fn send(&mut self) -> anyhow::Result<()> {
        for _ in 0..Self::BATCH {
            // SAFETY: the frames are dropped last.
            let Some(mut frame) = (unsafe { self.frames.alloc() }) else {
                bail!("the kernel has not given its frames back");
            };
            frame.append(&FRAME)?;
            self.waiting.push_front(frame);
        }
        // SAFETY: the frames are dropped last.
        unsafe { self.transmit.send(&mut self.waiting) };
        // SAFETY: the socket lives as long as `self`.
        let socket = unsafe { BorrowedFd::borrow_raw(self.socket.raw_fd()) };
        loop {
            match send(socket, &[], SendFlags::DONTWAIT) {
                Ok(_) => break,
                Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) => self.reclaim(),
                Err(error) => return Err(error.into()),
            }
        }
        self.reclaim();
        Ok(())
    }

    fn reclaim(&mut self) {
        self.completed.dequeue(&mut self.frames, FRAMES as usize);
    }
}

const fn frame() -> [u8; 58] {
    let mut frame = [0; 58];
    // EtherType IPv4, and its version and header length.
    frame[12] = 0x08;
    frame[14] = 0x45;
    frame
}
