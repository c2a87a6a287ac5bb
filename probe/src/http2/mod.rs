//! HTTP/2 proxies (RFC 9113): inside TLS, agreed by ALPN, or in plain text to whoever knows.

pub mod codec;
mod connect;
mod stream;

use ajar_model::{Exposure, Service, Tier, evidence::Broken};
use futures::{FutureExt, future::BoxFuture};

use crate::{
    protocol::{Answered, Asking, First, Offer, Probe, Protocol},
    tunnel,
    wire::Wire,
};
use codec::Frame;
use connect::Connect;

/// HTTP/2, whether or not a server forwards anything.
pub(crate) struct Http2;

impl Protocol for Http2 {
    fn service(&self) -> Service {
        Service::from_static("http2-proxy")
    }

    fn exposure(&self) -> Exposure {
        Exposure::from_static("open_proxy")
    }

    fn probes(&self) -> &'static [&'static dyn Probe] {
        &[&Connect]
    }

    fn ports(&self) -> &'static [u16] {
        &[443, 3129, 8443]
    }

    fn tls_ports(&self) -> &'static [u16] {
        self.ports()
    }

    fn runs_inside_tls(&self) -> bool {
        true
    }

    fn alpn(&self) -> Option<&'static [u8]> {
        Some(b"h2")
    }

    fn first(&self) -> First {
        First::Client(&Http2)
    }

    /// Some servers send their settings before they hear anything.
    fn claims(&self, opening: &[u8]) -> bool {
        opening.len() >= 9 && codec::may_be_settings(opening)
    }

    fn has_plain_servers(&self) -> bool {
        true
    }
}

impl Offer for Http2 {
    fn tier(&self) -> Tier {
        Tier::Handshake
    }

    /// CONNECT to the canary, or only the greetings if no tunnel may be opened or asked for.
    fn offer<'a>(
        &'a self,
        wire: &'a mut Wire,
        asking: &'a Asking<'_>,
    ) -> BoxFuture<'a, Result<Answered, Broken>> {
        async move {
            match tunnel::may_offer(&Connect, asking) {
                true => tunnel::offer(&Connect, wire, asking).await,
                false => greet(wire, &[]).await.map(|()| Answered::Other),
            }
        }
        .boxed()
    }
}

/// Exchanges greetings; a request goes out with ours.
async fn greet(wire: &mut Wire, request: &[u8]) -> Result<(), Broken> {
    wire.send(&[&codec::hello(), request].concat()).await?;
    wire.frame(wire.limits().reply, Frame::parse_first).await?;
    wire.send(&codec::SETTINGS_ACK).await
}
