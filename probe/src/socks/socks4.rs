//! SOCKS 4 proxies, asked by address, and by name as in 4A.

use std::net::{IpAddr, SocketAddrV4};

use ajar_model::{Canary, Evidence, ProbeId, Reply, Tier, evidence::Broken};
use futures::{FutureExt, future::BoxFuture};

use super::{V4, codec4 as socks4};
use crate::{
    destination::{Destination, Form},
    examination::Examination,
    protocol::{Probe, Protocol},
    tunnel::{self, Gateway},
    wire::Wire,
};

/// Does it tunnel strangers' traffic?
pub(crate) struct Socks4;

impl Probe for Socks4 {
    fn id(&self) -> ProbeId {
        ProbeId::from_static("socks4")
    }

    fn protocol(&self) -> &'static dyn Protocol {
        &V4
    }

    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn summary(&self) -> &'static str {
        "SOCKS 4 and 4A proxy that opens tunnels for anybody"
    }

    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence> {
        tunnel::run(self, examination).boxed()
    }
}

impl Gateway for Socks4 {
    fn forms(&self, canary: &Canary) -> &'static [Form] {
        match canary.address {
            IpAddr::V4(_) => &[Form::Literal, Form::Name],
            // The protocol has no IPv6 addresses.
            IpAddr::V6(_) => &[Form::Name],
        }
    }

    fn label(&self, form: Form) -> &'static str {
        match form {
            Form::Literal => "socks4",
            Form::Name => "socks4a",
        }
    }

    fn ask<'a>(
        &'a self,
        wire: &'a mut Wire,
        destination: &'a Destination,
        _agent: &'a str,
    ) -> BoxFuture<'a, Result<Reply, Broken>> {
        async move {
            wire.send(&request(destination).ok_or(Broken::Garbled)?)
                .await?;
            let reply = wire
                .frame(wire.limits().reply, socks4::Reply::parse)
                .await?;
            let code = reply.code.into();
            Ok(match reply.code {
                socks4::GRANTED => Reply::Accepted { code },
                _ => Reply::Refused { code },
            })
        }
        .boxed()
    }
}

fn request(destination: &Destination) -> Option<Vec<u8>> {
    let port = destination.address().port();
    match (destination.form(), destination.address().ip()) {
        (Form::Literal, IpAddr::V4(ip)) => Some(socks4::connect(SocketAddrV4::new(ip, port))),
        (Form::Literal, IpAddr::V6(_)) => None,
        (Form::Name, _) => socks4::connect_name(destination.domain(), port).ok(),
    }
}
