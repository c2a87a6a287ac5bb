//! What a protocol and its probes answer, so that recognition and examination can be loops that name none.

use std::time::Duration;

use ajar_model::{Canary, Evidence, Exposure, ProbeId, Reply, Service, Tier, evidence::Broken};
use futures::future::BoxFuture;

use crate::{Brief, Limits, codec::Parsed, examination::Examination, tls::Peer, wire::Wire};

/// A protocol that a relay or proxy speaks.
pub trait Protocol: Send + Sync {
    /// Its name in results.
    fn service(&self) -> Service;

    /// What a server of it is if it is open, in results.
    fn exposure(&self) -> Exposure;

    /// Its probes, in the order in which they run.
    fn probes(&self) -> &'static [&'static dyn Probe];

    /// Ports on which it is usual. An endpoint on any other port is examined the same way.
    fn ports(&self) -> &'static [u16];

    /// Ports on which it is found now and then. A wide audit visits them too.
    fn rarer_ports(&self) -> &'static [u16] {
        &[]
    }

    /// Those of its usual ports on which servers expect a TLS handshake at once.
    fn tls_ports(&self) -> &'static [u16] {
        &[]
    }

    /// True if it is spoken inside TLS too, on whatever port.
    fn runs_inside_tls(&self) -> bool {
        false
    }

    /// What a TLS handshake asks for if this is to be spoken inside (RFC 7301); none if nobody asks for that.
    fn alpn(&self) -> Option<&'static [u8]> {
        None
    }

    /// True if its first words are a TLS handshake of its own. It is offered if an ordinary one came to nothing: otherwise
    /// what is inside decides.
    fn opens_with_tls(&self) -> bool {
        false
    }

    fn first(&self) -> First;

    /// True if these are the first bytes of one of its servers, whatever it was told before.
    fn claims(&self, _opening: &[u8]) -> bool {
        false
    }

    /// True if plain servers speak it too, which forward nothing. Such an endpoint counts only if something that it says
    /// is a gateway's: see [`Wire::note_proxy`].
    fn has_plain_servers(&self) -> bool {
        false
    }

    /// True if its servers are found behind a port that several services share, told apart by a client's first bytes.
    fn shares_ports(&self) -> bool {
        !self.opens_with_tls()
    }

    /// True if an endpoint that was recognised as something else, or that speaks TLS, may speak this too.
    fn accompanies(&self, _service: Option<&Service>, _tls: bool) -> bool {
        false
    }
}

/// One way in which a service may be open, and the conversation that shows it.
pub trait Probe: Send + Sync {
    /// Its name in options, authorizations and results.
    fn id(&self) -> ProbeId;

    /// The protocol that an endpoint must speak for it to run.
    fn protocol(&self) -> &'static dyn Protocol;

    /// The least tier at which it learns anything. Above it, it goes as far as the brief's tier permits.
    fn tier(&self) -> Tier;

    /// What it shows, in a line.
    fn summary(&self) -> &'static str;

    /// What it needs of the canary beside a free port for each service; none if that is all.
    fn needs(&self) -> Option<&'static str> {
        None
    }

    /// True if the canary has what it needs. Otherwise it is not run.
    fn can_use(&self, _canary: &Canary) -> bool {
        true
    }

    /// What this canary leaves in doubt about its findings, and what would settle it; none if nothing.
    fn doubts(&self, _canary: &Canary) -> Option<&'static str> {
        None
    }

    /// Returns whether it is worth running on an endpoint that is already open in another way.
    fn adds_to_open(&self) -> bool {
        true
    }

    /// Has the conversation. It ends within the examination's deadline, whatever the target does.
    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence>;
}

#[derive(Clone, Copy)]
pub enum First {
    Server(&'static dyn Greet),
    Client(&'static dyn Offer),
}

/// The first words of a server that speaks first.
pub trait Greet: Send + Sync {
    /// How long it may take on its usual ports. Elsewhere all are given [`Limits::banner`].
    fn patience(&self, limits: &Limits) -> Duration;

    /// The length of a greeting that these bytes begin with. If `quiet`, the server has said no more for as long as it was
    /// given: a prompt ends with nothing else.
    fn greeting(&self, bytes: &[u8], limits: &Limits, quiet: bool) -> Parsed<()>;

    /// Whether a greeting is this protocol's, and not one that looks like it. May talk to the server, if one of its probes
    /// was chosen.
    fn confirm<'a>(
        &'a self,
        greeting: &'a [u8],
        wire: &'a mut Wire,
        asking: &'a Asking<'_>,
    ) -> BoxFuture<'a, bool>;
}

/// What is said to an endpoint that does not speak first.
pub trait Offer: Send + Sync {
    /// The least tier at which anything may be said.
    fn tier(&self) -> Tier;

    /// Says it: the first request of one of the chosen probes if the tier allows that, so that no connection is wasted.
    /// An error if the answer is not of this protocol.
    fn offer<'a>(
        &'a self,
        wire: &'a mut Wire,
        asking: &'a Asking<'_>,
    ) -> BoxFuture<'a, Result<Answered, Broken>>;

    /// What is said next, on another connection, to an endpoint that hung up on this without a word.
    fn after_hang_up(&self) -> Option<&'static dyn Offer> {
        None
    }
}

/// How an endpoint answered what was offered: it speaks the protocol.
pub enum Answered {
    /// The first request of this probe.
    Probe(ProbeId, Reply),
    /// Something that no probe begins with.
    Other,
}

/// What is asked of an endpoint, and by whom.
pub struct Asking<'a> {
    /// The endpoint, the canary and how far we may go.
    pub brief: &'a Brief<'a>,
    /// What we call ourselves in HTTP.
    pub agent: String,
    pub chosen: &'a [&'static dyn Probe],
}

impl Asking<'_> {
    /// True if one of a protocol's probes was chosen.
    pub fn wants(&self, protocol: &dyn Protocol) -> bool {
        let service = protocol.service();
        let mut chosen = self.chosen.iter();
        chosen.any(|probe| probe.protocol().service() == service)
    }

    /// True if this probe was chosen.
    pub fn wants_probe(&self, id: &ProbeId) -> bool {
        self.chosen.iter().any(|probe| probe.id() == *id)
    }
}

impl Examination<'_> {
    /// A connection for a protocol: the one on which its server has greeted already, or one more, inside TLS if the endpoint
    /// was recognised by it.
    pub async fn open(&mut self, protocol: &dyn Protocol) -> Result<Wire, Broken> {
        let peer = self.peer().with_certificate();
        self.open_to(protocol, peer.speaking(protocol.alpn())).await
    }

    /// The same with a handshake of one's own choice, if there is one.
    pub(crate) async fn open_to(
        &mut self,
        protocol: &dyn Protocol,
        peer: Peer,
    ) -> Result<Wire, Broken> {
        if let Some(greeted) = self.take_greeted(&protocol.service()) {
            return Ok(greeted);
        }
        if let Some(idle) = self.take_idle(&protocol.service()) {
            return Ok(idle);
        }
        let wire = self.open_plain().await?;
        match self.is_tls() && protocol.runs_inside_tls() {
            true => self.secure_again(wire, peer).await,
            false => Ok(wire),
        }
    }

    /// The evidence of a row of a protocol, without attempts.
    pub(crate) fn evidence_of(&self, protocol: &dyn Protocol) -> Evidence {
        Evidence {
            service: Some(protocol.service()),
            exposure: Some(protocol.exposure()),
            tls: self.is_tls() && protocol.runs_inside_tls(),
            shows_proxy: protocol.has_plain_servers().then(|| self.saw_proxy()),
            ..self.evidence()
        }
    }
}
