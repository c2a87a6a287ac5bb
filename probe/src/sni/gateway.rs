//! The ClientHello names the canary's domain; a handshake that ends at the canary is proven by its answer inside.

use std::net::IpAddr;

use ajar_model::{
    Attempt, Canary, Evidence, Nonce, ProbeId, Reply, Tier, Timestamp,
    evidence::{Broken, Control},
    nonce::Role,
    proof::{Answer, Check, Kind},
};
use futures::{FutureExt, future::BoxFuture};

use super::Sni;
use crate::{
    destination::Destination,
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
        Some("a canary on port 443, under a domain that targets can resolve, without a wildcard")
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
    wire.secure(Peer::named(&canary.domain, canary.address))
        .await?;
    Ok(Answered::Probe(ID, SHAKEN))
}

async fn run(examination: &mut Examination<'_>) -> Evidence {
    let variant = format!("sni:{PORT}");
    let canary = examination.brief().canary;
    let nonce = examination.nonce(&ID, &variant, Role::Destination);
    let (reply, answer) = match examination.take_asked(&ID) {
        Some((wire, _)) => fetch(canary, &examination.agent(), wire, nonce).await,
        None => ask(examination, &canary.domain, nonce).await,
    };
    let mut controls = Vec::new();
    if reply == SHAKEN {
        let missing = Destination::missing(canary);
        let control = control(examination, &variant, missing.domain(), Check::OtherName).await;
        let is_decided = control.is_decided();
        controls.push(control);
        if !is_decided {
            let again = self::control(examination, &variant, &canary.domain, Check::Again);
            controls.push(again.await);
        }
        // A table of names that has one of the canary's need not have the other.
        if let Some(other) = &canary.other_domain {
            let second = self::control(examination, &variant, other, Check::SecondName);
            controls.push(second.await);
        }
    }
    let attempt = Attempt {
        variant,
        kind: Kind::Tunnel,
        nonce,
        port: Some(PORT),
        reply,
        sent: None,
        returns: false,
        turned_away: false,
        is_ignored: false,
        answer,
        at: Timestamp::now(),
    };
    Evidence {
        attempts: vec![attempt],
        controls,
        ..examination.evidence_of(&Sni)
    }
}

/// A server in front of the canary takes any name to it: so it does one that does not exist.
async fn control(examination: &mut Examination<'_>, of: &str, name: &str, check: Check) -> Control {
    let nonce = examination.nonce(
        &ID,
        &format!("{name} {}", check.as_str()),
        Role::Destination,
    );
    let (reply, answer) = ask(examination, name, nonce).await;
    Control {
        of: of.to_owned(),
        check,
        nonce,
        reply,
        answer,
    }
}

/// A handshake that names somebody under the canary's domain, and a nonce inside.
async fn ask(
    examination: &mut Examination<'_>,
    name: &str,
    nonce: Nonce,
) -> (Reply, Option<Answer>) {
    let canary = examination.brief().canary;
    let opened = async {
        let mut wire = examination.open(&Sni).await?;
        wire.secure(Peer::named(name, canary.address)).await?;
        Ok(wire)
    };
    match opened.await {
        Ok(wire) => fetch(canary, &examination.agent(), wire, nonce).await,
        Err(how) => (Reply::Broken { how }, None),
    }
}

/// A handshake without an answer inside was the server's own: it led nowhere.
async fn fetch(
    canary: &Canary,
    agent: &str,
    mut wire: Wire,
    nonce: Nonce,
) -> (Reply, Option<Answer>) {
    let request = http::get(&format!("/{nonce}"), &canary.domain, agent);
    let request = request.map_err(|_| Broken::Garbled);
    let sent = match request {
        Ok(request) => wire.send(&request).await,
        Err(how) => Err(how),
    };
    if let Err(how) = sent {
        return (Reply::Broken { how }, None);
    }
    let answer = wire.answer(wire.limits().reply / 2).await;
    let is_canarys = |answer: &Answer| answer.proves(nonce, &canary.key);
    let reply = match answer.as_ref().is_some_and(is_canarys) {
        true => SHAKEN,
        false => REFUSED,
    };
    (reply, answer)
}
