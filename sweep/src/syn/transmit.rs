//! How SYNs leave this machine: through the kernel's routing, or past it over AF_XDP where one hop over Ethernet leads to a
//! gateway. Where both work, [`trial`](super::trial) finds out which one is quicker.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    cookie::Cookies,
    packet::{LONGEST, Syn},
    raw::Raw,
    route::Routes,
    trial::{Trial, Verdict, Way},
    xdp::Xdp,
};

/// Sends SYNs, each over the way that the kernel names.
pub struct Transmitter {
    cookies: Cookies,
    /// The last one.
    syn: Option<Syn>,
    routes: Routes,
    raw: Raw,
    /// Those that lead to gateways, which are few.
    interfaces: Vec<Interface>,
}

/// An interface that may be sent to past the kernel.
struct Interface {
    index: u32,
    /// None if it does not take this kind of socket, or is quicker without.
    xdp: Option<Xdp>,
    /// Until it is known what is quicker.
    trial: Option<Trial>,
    /// SYNs of this burst.
    syns: u32,
}

impl Transmitter {
    pub fn open(cookies: Cookies) -> io::Result<Self> {
        Ok(Self {
            cookies,
            syn: None,
            routes: Routes::open()?,
            raw: Raw::open()?,
            interfaces: Vec::new(),
        })
    }

    /// Sends one SYN to each of these targets, at once. `failed` hears of those that could not be sent to, and why.
    pub fn send(
        &mut self,
        targets: impl IntoIterator<Item = SocketAddr>,
        mut failed: impl FnMut(SocketAddr, io::Error),
    ) {
        let (mut buffer, now) = ([0; LONGEST], Instant::now());
        let mut all = 0;
        for target in targets {
            all += 1;
            let path = match self.routes.path(target.ip(), now) {
                Ok(path) => path,
                Err(error) => {
                    failed(target, error);
                    continue;
                }
            };
            let syn = match &mut self.syn {
                Some(syn) if syn.ours() == path.ours => syn,
                last => last.insert(Syn::new(path.ours, self.cookies.port())),
            };
            let length = syn.write(&mut buffer, &self.cookies, target);
            let packet = &buffer[..length];
            let over = path
                .hop
                .and_then(|hop| Some((hop, by(&mut self.interfaces, hop.interface).next()?)));
            match over {
                Some((hop, xdp)) => xdp.push(hop, target, packet, &mut failed),
                None => self.raw.push(target, packet, &mut failed),
            }
        }
        self.raw.flush(&mut failed);
        for interface in &mut self.interfaces {
            interface.flush(&mut failed);
            // Only if it had the whole burst is the time its own.
            let syns = std::mem::take(&mut interface.syns);
            if syns == all {
                interface.took(syns, now.elapsed());
            }
        }
    }
}

/// The interface of this index, opened at its first packet.
fn by(interfaces: &mut Vec<Interface>, index: u32) -> &mut Interface {
    let known = interfaces.iter().position(|one| one.index == index);
    let at = known.unwrap_or_else(|| {
        interfaces.push(Interface::open(index));
        interfaces.len() - 1
    });
    &mut interfaces[at]
}

impl Interface {
    fn open(index: u32) -> Self {
        let xdp = Xdp::open(index);
        match &xdp {
            Ok(_) => tracing::info!(interface = index, "SYNs are sent over AF_XDP"),
            Err(cause) => {
                tracing::info!(interface = index, %cause, "SYNs are sent through a raw socket: there is no AF_XDP");
            }
        }
        Self {
            index,
            trial: xdp.is_ok().then(Trial::default),
            xdp: xdp.ok(),
            syns: 0,
        }
    }

    /// Counts one more SYN, and says what it goes over; none if it is for the kernel to send.
    fn next(&mut self) -> Option<&mut Xdp> {
        self.syns += 1;
        let way = self.trial.as_ref().map_or(Way::Xdp, Trial::way);
        self.xdp.as_mut().filter(|_| way == Way::Xdp)
    }

    /// Sends what waits. A driver that keeps our frames is not trusted with more: what it kept has failed, and is sent by the
    /// kernel when its turn comes again.
    fn flush(&mut self, failed: &mut impl FnMut(SocketAddr, io::Error)) {
        let Some(xdp) = &mut self.xdp else { return };
        xdp.flush(failed);
        if xdp.is_stuck() {
            tracing::warn!(
                interface = self.index,
                "AF_XDP does not send: SYNs are sent through a raw socket from now on"
            );
            (self.xdp, self.trial) = (None, None);
        }
    }

    /// Learns how long a burst took.
    fn took(&mut self, syns: u32, time: Duration) {
        let Some(trial) = &mut self.trial else { return };
        let Some(verdict) = trial.took(syns, time) else {
            return;
        };
        let Verdict { xdp, raw } = verdict;
        let way = match verdict.quicker() {
            Way::Xdp => "AF_XDP",
            Way::Raw => {
                self.xdp = None;
                "a raw socket"
            }
        };
        tracing::info!(
            interface = self.index,
            "a SYN takes {xdp:?} over AF_XDP and {raw:?} through a raw socket: {way} is used"
        );
        self.trial = None;
    }
}
