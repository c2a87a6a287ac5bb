//! How SYNs leave this machine: over AF_XDP where one hop over Ethernet leads to a gateway, through the kernel's routing elsewhere.

use std::{io, net::SocketAddr, time::Instant};

use super::{
    cookie::Cookies,
    packet::{LONGEST, Syn},
    raw::Raw,
    route::Routes,
    xdp::Xdp,
};

/// Sends SYNs, each over the way that the kernel names.
pub struct Transmitter {
    cookies: Cookies,
    /// The last one.
    syn: Option<Syn>,
    routes: Routes,
    raw: Raw,
    /// By interface, which are few; none if it does not take this kind of socket.
    xdp: Vec<(u32, Option<Xdp>)>,
}

impl Transmitter {
    pub fn open(cookies: Cookies) -> io::Result<Self> {
        Ok(Self {
            cookies,
            syn: None,
            routes: Routes::open()?,
            raw: Raw::open()?,
            xdp: Vec::new(),
        })
    }

    /// Sends one SYN to each of these targets, at once. `failed` hears of those that could not be sent to, and why.
    pub fn send(
        &mut self,
        targets: impl IntoIterator<Item = SocketAddr>,
        mut failed: impl FnMut(SocketAddr, io::Error),
    ) {
        let (mut buffer, now) = ([0; LONGEST], Instant::now());
        for target in targets {
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
            let xdp = path
                .hop
                .and_then(|hop| Some((hop, over(&mut self.xdp, hop.interface)?)));
            match xdp {
                Some((hop, xdp)) => xdp.push(hop, target, packet, &mut failed),
                None => self.raw.push(target, packet, &mut failed),
            }
        }
        self.raw.flush(&mut failed);
        for xdp in self.xdp.iter_mut().filter_map(|(_, xdp)| xdp.as_mut()) {
            xdp.flush(&mut failed);
        }
    }
}

/// The socket of an interface, opened at its first packet.
fn over(sockets: &mut Vec<(u32, Option<Xdp>)>, interface: u32) -> Option<&mut Xdp> {
    let known = sockets.iter().position(|(of, _)| *of == interface);
    let at = known.unwrap_or_else(|| {
        sockets.push((interface, open(interface)));
        sockets.len() - 1
    });
    sockets[at].1.as_mut()
}

fn open(interface: u32) -> Option<Xdp> {
    match Xdp::open(interface) {
        Ok(xdp) => {
            tracing::info!(interface, "SYNs are sent over AF_XDP");
            Some(xdp)
        }
        Err(cause) => {
            tracing::info!(interface, %cause, "SYNs are sent through a raw socket: there is no AF_XDP");
            None
        }
    }
}
