//! The ClientHello names the canary's domain; a handshake that ends at the canary is proven by its answer inside.

use std::net::IpAddr;

use ajar_model::{
    Attempt, Canary, Evidence, Nonce, ProbeId, Reply, Tier, Timestamp,
    evidence::Broken,
    nonce::Role,
    proof::{Answer, Kind},
};
use futures::{FutureExt, future::BoxFuture};

use super::Sni;
use crate::{
    examination::Examination,
    http::codec as http,
    protocol::{Answered, Probe, Protocol},
    tls::Peer,
    wire::Wire,
};

const ID: ProbeId = ProbeId::from_static("sni-proxy");

/// The port that such a proxy leads to: a ClientHello names none.
const PORT: u16 = 443;

/// A handshake was done, or led nowhere; TLS has no reply codes.
const SHAKEN: Reply = Reply::Accepted { code: 0 };
const REFUSED: Reply = Reply::Refused { code: 0 };

/// Does it lead strangers to any name?
pub(crate) struct SniProxy;

impl Probe for SniProxy {
    fn id(&self) -> ProbeId {
        ID
    }

    fn protocol(&self) -> &'static dyn Protocol {
        &Sni
    }

    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn summary(&self) -> &'static str {
        "TLS endpoint that forwards to the name in the ClientHello (SNI)"
    }

    fn needs(&self) -> Option<&'static str> {
        Some("a canary on port 443, under a domain that targets can resolve")
    }

    fn can_use(&self, canary: &Canary) -> bool {
        canary.https == PORT && canary.domain.parse::<IpAddr>().is_err()
    }

    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence> {
        run(examination).boxed()
    }
}

/// A handshake that names the canary.
pub(super) async fn offer(wire: &mut Wire, canary: &Canary) -> Result<Answered, Broken> {
    let peer = Peer::named(&canary.domain, canary.address);
    wire.secure(peer).await?;
    Ok(Answered::Probe(ID, SHAKEN))
}

async fn run(examination: &mut Examination<'_>) -> Evidence {
    let variant = format!("sni:{PORT}");
    let nonce = examination.nonce(&ID, &variant, Role::Destination);
    let asked = ask(examination, nonce).await;
    let (reply, answer) = asked.unwrap_or_else(|how| (Reply::Broken { how }, None));
    let attempt = Attempt {
        variant,
        kind: Kind::Tunnel,
        nonce,
        reply,
        answer,
        at: Timestamp::now(),
    };
    Evidence {
        attempts: vec![attempt],
        ..examination.evidence_of(&Sni)
    }
}

/// A handshake without an answer inside was the server's own: it led nowhere.
async fn ask(
    examination: &mut Examination<'_>,
    nonce: Nonce,
) -> Result<(Reply, Option<Answer>), Broken> {
    let canary = examination.brief().canary;
    let mut wire = match examination.take_asked(&ID) {
        Some((wire, _)) => wire,
        None => {
            let mut wire = examination.open(&Sni).await?;
            offer(&mut wire, canary).await?;
            wire
        }
    };
    let request = http::get(&format!("/{nonce}"), &canary.domain, &examination.agent());
    wire.send(&request.map_err(|_| Broken::Garbled)?).await?;
    let answer = wire.answer(wire.limits().reply / 2).await;
    let is_canarys = |answer: &Answer| answer.proves(nonce, &canary.key);
    let reply = match answer.as_ref().is_some_and(is_canarys) {
        true => SHAKEN,
        false => REFUSED,
    };
    Ok((reply, answer))
}
