//! Telnet-style proxies, such as WinGate: a prompt that connects to whatever host and port it is told. Credentials are never
//! sent.

pub mod codec;
mod gateway;

use std::time::Duration;

use ajar_model::{Exposure, Service};
use futures::{FutureExt, future::BoxFuture};

use crate::{
    Limits,
    codec::{Parsed, Unreadable},
    protocol::{Asking, First, Greet, Probe, Protocol},
    wire::Wire,
};
use gateway::Gateway;

/// A prompt over Telnet (RFC 854) or plain TCP.
pub(crate) struct Telnet;

impl Protocol for Telnet {
    fn service(&self) -> Service {
        Service::from_static("telnet")
    }

    fn exposure(&self) -> Exposure {
        Exposure::from_static("open_proxy")
    }

    fn probes(&self) -> &'static [&'static dyn Probe] {
        &[&Gateway]
    }

    fn ports(&self) -> &'static [u16] {
        &[23]
    }

    fn first(&self) -> First {
        First::Server(&Telnet)
    }
}

impl Greet for Telnet {
    fn patience(&self, limits: &Limits) -> Duration {
        limits.banner
    }

    /// Nothing marks the end of a prompt but that no more comes.
    fn greeting(&self, bytes: &[u8], limits: &Limits, quiet: bool) -> Parsed<()> {
        match (codec::may_prompt(bytes), quiet) {
            (true, true) if codec::prompt(bytes).is_some() => Ok(Some(((), bytes.len()))),
            (true, false) if bytes.len() <= limits.line => Ok(None),
            _ => Err(Unreadable::Garbled),
        }
    }

    /// Only a prompt for a host is ours; a login is somebody's own machine.
    fn confirm<'a>(
        &'a self,
        greeting: &'a [u8],
        _wire: &'a mut Wire,
        _asking: &'a Asking<'_>,
    ) -> BoxFuture<'a, bool> {
        async { codec::prompt(greeting).is_some_and(|prompt| prompt.is_of_a_gateway) }.boxed()
    }
}
