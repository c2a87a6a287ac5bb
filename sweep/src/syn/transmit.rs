//! How SYNs leave this machine: over AF_XDP where one hop over Ethernet leads to a gateway, through the kernel's routing elsewhere.

use std::{collections::HashMap, io, net::SocketAddr};

use super::{
    cookie::Cookies,
    packet::{self, LONGEST},
    raw::Raw,
    route::Routes,
    xdp::Xdp,
};

/// Sends SYNs, each over the way that the kernel names.
pub struct Transmitter {
    cookies: Cookies,
    routes: Routes,
    raw: Raw,
    /// By interface; none if it does not take this kind of socket.
    xdp: HashMap<u32, Option<Xdp>>,
}

impl Transmitter {
    pub fn open(cookies: Cookies) -> io::Result<Self> {
        Ok(Self {
            cookies,
            routes: Routes::open()?,
            raw: Raw::open()?,
            xdp: HashMap::new(),
        })
    }

    /// Sends one SYN to each of these targets, at once. `failed` hears of those that could not be sent to, and why.
    pub fn send(
        &mut self,
        targets: impl IntoIterator<Item = SocketAddr>,
        mut failed: impl FnMut(SocketAddr, io::Error),
    ) {
        let mut syn = [0; LONGEST];
        for target in targets {
            let path = match self.routes.path(target.ip()) {
                Ok(path) => path,
                Err(error) => {
                    failed(target, error);
                    continue;
                }
            };
            let length = packet::syn(&mut syn, &self.cookies, path.ours, target);
            let xdp = path.hop.and_then(|hop| {
                let opened = self.xdp.entry(hop.interface);
                let xdp = opened.or_insert_with(|| open(hop.interface)).as_mut();
                Some((hop, xdp?))
            });
            match xdp {
                Some((hop, xdp)) => xdp.push(hop, target, &syn[..length], &mut failed),
                None => self.raw.push(target, &syn[..length], &mut failed),
            }
        }
        self.raw.flush(&mut failed);
        for xdp in self.xdp.values_mut().flatten() {
            xdp.flush(&mut failed);
        }
    }
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
