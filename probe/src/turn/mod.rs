//! TURN servers (RFC 8656), reached over TCP or TLS.

pub mod codec;
mod relay;

use ajar_model::{Exposure, Service, Tier, evidence::Broken};
use futures::{FutureExt, future::BoxFuture};

use crate::{
    protocol::{Answered, Asking, First, Offer, Probe, Protocol},
    wire::Wire,
};
use codec::{Class, Message, Transaction};
use relay::Relay;

/// Over TCP nobody but the server could guess it, so it need not be random.
const TRANSACTION: Transaction = *b"ajar-request";

/// Messages of other transactions that are skipped at most.
const MAX_OTHERS: usize = 8;

/// STUN, whether or not a server relays anything.
pub(crate) struct Turn;

impl Protocol for Turn {
    fn service(&self) -> Service {
        Service::from_static("turn")
    }

    fn exposure(&self) -> Exposure {
        Exposure::from_static("open_proxy")
    }

    fn probes(&self) -> &'static [&'static dyn Probe] {
        &[&Relay]
    }

    fn ports(&self) -> &'static [u16] {
        &[443, 3478, 5349]
    }

    fn tls_ports(&self) -> &'static [u16] {
        &[443, 5349]
    }

    fn runs_inside_tls(&self) -> bool {
        true
    }

    fn first(&self) -> First {
        First::Client(&Turn)
    }

    /// A STUN server says where its callers come from, and relays nothing.
    fn has_plain_servers(&self) -> bool {
        true
    }

    fn shares_ports(&self) -> bool {
        false
    }
}

impl Offer for Turn {
    fn tier(&self) -> Tier {
        Tier::Handshake
    }

    fn offer<'a>(
        &'a self,
        wire: &'a mut Wire,
        _asking: &'a Asking<'_>,
    ) -> BoxFuture<'a, Result<Answered, Broken>> {
        async {
            exchange(wire, codec::BINDING, &codec::binding(TRANSACTION)).await?;
            Ok(Answered::Other)
        }
        .boxed()
    }
}

/// Makes a request, and waits for what the server makes of it.
async fn exchange(wire: &mut Wire, method: u16, request: &[u8]) -> Result<Message, Broken> {
    wire.send(request).await?;
    for _ in 0..MAX_OTHERS {
        let message = wire.frame(wire.limits().reply, Message::parse).await?;
        let answers = matches!(message.class, Class::Success | Class::Error);
        if answers && message.method == method && message.transaction == TRANSACTION {
            return Ok(message);
        }
    }
    Err(Broken::Limit)
}
