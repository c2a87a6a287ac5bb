//! SOCKS 5 proxies that want no authentication. Credentials are never sent.

use ajar_model::{
    Attempt, Evidence, ProbeId, Reply, Tier, Timestamp, evidence::Broken, nonce::Role, proof::Kind,
};
use futures::{FutureExt, future::BoxFuture};

use super::{V5, associate, codec5 as socks5, greet};
use crate::{
    destination::{Destination, Form},
    examination::Examination,
    protocol::{Probe, Protocol},
    tunnel::{self, Gateway},
    wire::Wire,
};

/// Does it tunnel strangers' traffic?
pub(crate) struct Socks5;

impl Probe for Socks5 {
    fn id(&self) -> ProbeId {
        ProbeId::from_static("socks5")
    }

    fn protocol(&self) -> &'static dyn Protocol {
        &V5
    }

    fn tier(&self) -> Tier {
        Tier::Handshake
    }

    fn summary(&self) -> &'static str {
        "SOCKS 5 proxy that opens tunnels for anybody, without authentication"
    }

    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence> {
        async {
            if examination.brief().tier < Tier::Deliver {
                return greeted(examination, self.id());
            }
            let (mut attempts, mut controls) = tunnel::tried(self, examination).await;
            let is_shut = attempts.iter().all(|attempt| {
                let reply = attempt.reply;
                matches!(reply, Reply::Refused { .. } | Reply::Temporary { .. })
            });
            if is_shut {
                let (attempt, control) = associate::attempt(examination, &self.id()).await;
                attempts.push(attempt);
                controls.extend(control);
            }
            Evidence {
                attempts,
                controls,
                ..examination.evidence_of(&V5)
            }
        }
        .boxed()
    }
}

/// Below `deliver` the greeting is all there is, and recognition had it: a server that wants a password says so there.
fn greeted(examination: &mut Examination<'_>, id: ProbeId) -> Evidence {
    let destination = tunnel::first_destination(&Socks5, examination.brief().canary);
    let refused = examination.take_asked(&id).map(|(_, reply)| reply);
    let attempts = destination.zip(refused).map(|(destination, reply)| {
        let variant = format!(
            "{}:{}",
            Socks5.label(destination.form()),
            destination.address().port()
        );
        let nonce = examination.nonce(&id, &variant, Role::Destination);
        Attempt {
            variant,
            kind: Kind::Tunnel,
            nonce,
            port: Some(destination.address().port()),
            reply,
            sent: None,
            returns: false,
            turned_away: false,
            is_ignored: false,
            answer: None,
            at: Timestamp::now(),
        }
    });
    Evidence {
        attempts: attempts.into_iter().collect(),
        ..examination.evidence_of(&V5)
    }
}

impl Gateway for Socks5 {
    fn asks_who_first(&self) -> bool {
        true
    }

    fn label(&self, form: Form) -> &'static str {
        match form {
            Form::Literal => "socks5",
            Form::Name => "socks5-name",
        }
    }

    fn ask<'a>(
        &'a self,
        wire: &'a mut Wire,
        destination: &'a Destination,
        _agent: &'a str,
    ) -> BoxFuture<'a, Result<Reply, Broken>> {
        async move {
            if let Some(refused) = greet(wire).await? {
                return Ok(refused);
            }
            self.request(wire, destination).await
        }
        .boxed()
    }
}

impl Socks5 {
    /// Asks for a tunnel on a connection on which the server wants no authentication.
    pub(super) async fn request(
        &self,
        wire: &mut Wire,
        destination: &Destination,
    ) -> Result<Reply, Broken> {
        let port = destination.address().port();
        let request = match destination.form() {
            Form::Literal => Ok(socks5::connect(destination.address())),
            Form::Name => socks5::connect_name(destination.domain(), port),
        };
        wire.send(&request.map_err(|_| Broken::Garbled)?).await?;
        let wait = wire.limits().reply;
        let reply = wire.frame(wait, socks5::Reply::parse).await?;
        Ok(weigh(reply.code, destination.form()))
    }
}

/// An upstream that cannot be reached may be reached later, since the canary is up; a name that cannot be resolved,
/// which servers report with the same codes, will not be.
fn weigh(code: u8, form: Form) -> Reply {
    let wide = code.into();
    match code {
        socks5::SUCCEEDED => Reply::Accepted { code: wide },
        3..=6 if form == Form::Literal => Reply::Temporary { code: wide },
        _ => Reply::Refused { code: wide },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_but_zero_is_no_success() {
        for code in 1..=u8::MAX {
            for form in [Form::Literal, Form::Name] {
                assert!(
                    !matches!(weigh(code, form), Reply::Accepted { .. }),
                    "{code}"
                );
            }
        }
        assert_eq!(weigh(0, Form::Name), Reply::Accepted { code: 0 });
        assert_eq!(weigh(2, Form::Literal), Reply::Refused { code: 2 });
        assert_eq!(weigh(4, Form::Literal), Reply::Temporary { code: 4 });
        assert_eq!(weigh(4, Form::Name), Reply::Refused { code: 4 });
    }
}
