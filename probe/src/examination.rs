//! The examination of one endpoint: what its conversations share.

use std::{net::IpAddr, time::Duration};

use ajar_model::{
    Canary, Evidence, Nonce, ProbeId, Reply, Service, Untrusted,
    evidence::{Broken, Direction},
    nonce::{Occasion, Role},
};
use tokio::time::{Instant, timeout};

use crate::{
    BoxStream, Brief,
    deadline::Deadline,
    preface::Preface,
    tls::Peer,
    transcript::{Transcript, legible},
    wire::Wire,
};

/// Connections that are dialled to one endpoint at most, the sweep's not counted.
pub const MAX_DIALS: usize = 39;

/// Bytes of a banner that are kept.
const MAX_BANNER: usize = 1024;

/// The examination of one endpoint under way: its deadline, its transcript and the means to open connections.
pub struct Examination<'a> {
    brief: &'a Brief<'a>,
    deadline: Deadline,
    transcript: Transcript,
    dials_left: usize,
    tls: bool,
    /// It speaks older versions or suites of TLS alone.
    old_tls: bool,
    /// What each connection begins with.
    preface: Option<Preface>,
    greeted_late: bool,
    /// True if it leads to the canary, and nowhere else.
    forward: bool,
    /// How long the canary's answer is awaited after a yes.
    answer_wait: Duration,
    /// A door is proven open.
    open: bool,
    /// Its own page is an error too.
    fails: bool,
    banner: Option<Untrusted>,
    kept: Option<Kept>,
    /// A connection for another request of this service.
    idle: Option<(Service, Wire)>,
}

/// A connection that recognition has brought as far as the first step of a probe, which goes on from there.
pub(crate) enum Kept {
    /// A server of that protocol has greeted on it.
    Greeted(Service, Wire),
    /// The named probe's first request was answered on it.
    Asked(ProbeId, Wire, Reply),
}

impl<'a> Examination<'a> {
    /// Begins one; the examination's time runs from here.
    pub(crate) fn new(brief: &'a Brief<'a>) -> Self {
        Self {
            brief,
            deadline: Deadline::after(brief.limits.examination),
            transcript: Transcript::new(brief.limits.transcript),
            dials_left: MAX_DIALS,
            tls: false,
            old_tls: false,
            preface: None,
            greeted_late: false,
            forward: false,
            answer_wait: brief.limits.reply / 2,
            open: false,
            fails: false,
            banner: None,
            kept: None,
            idle: None,
        }
    }

    /// What is known of the endpoint and of our own end.
    pub fn brief(&self) -> &'a Brief<'a> {
        self.brief
    }

    /// True once the examination's time is up.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.deadline.at()
    }

    /// How long to wait for the canary's answer after a yes.
    pub(crate) fn answer_wait(&self) -> Duration {
        self.answer_wait
    }

    /// How long to wait for the answer to one more protocol of an endpoint that has answered in another one: several times as
    /// long as it took for any answer so far, and long enough for a segment that is lost and sent again.
    pub(crate) fn patience_for_more(&self) -> Duration {
        let reply = self.brief.limits.reply;
        let slowest = self.transcript.slowest_answer();
        (slowest * 4).clamp(reply / 10, reply / 3)
    }

    /// Returns how long to wait for an endpoint that was silent for this long before.
    pub(crate) fn after_silence(&self, wait: Duration) -> Duration {
        (wait / 2).max(self.brief.limits.reply / 8)
    }

    /// Notes that a yes led nowhere: whoever says it again gets less time, but enough for a way around the world.
    pub(crate) fn note_hollow(&mut self) {
        const LEAST: Duration = Duration::from_secs(2);
        self.answer_wait = (self.answer_wait / 2).max(LEAST.min(self.answer_wait));
    }

    /// The nonce of a variant of a probe of this endpoint.
    pub fn nonce(&self, probe: &ProbeId, variant: &str, role: Role) -> Nonce {
        let brief = self.brief;
        let occasion = Occasion {
            campaign: brief.campaign,
            endpoint: brief.endpoint,
            vantage: brief.vantage,
            round: brief.round,
        };
        brief.key.nonce(&occasion, probe, variant, role)
    }

    pub async fn open_plain(&mut self) -> Result<Wire, Broken> {
        if self.dials_left == 0 {
            self.transcript
                .event("no more connections: the limit for one endpoint is reached");
            return Err(Broken::Connect);
        }
        if self.is_over() {
            return Err(Broken::TimedOut);
        }
        self.dials_left -= 1;
        let asked = Instant::now();
        let dialled = timeout(self.brief.limits.examination, self.brief.dial.dial()).await;
        // What was waited for the pace is not the target's time.
        self.deadline.postpone(asked.elapsed());
        match dialled {
            Err(_) => Err(Broken::TimedOut),
            Ok(Err(error)) => {
                self.transcript
                    .event(&format!("not connected: {}", error.kind()));
                Err(Broken::Connect)
            }
            Ok(Ok(stream)) => {
                let mut wire = self.wire(stream);
                if let Some(preface) = self.preface {
                    let header = preface.claiming_loopback(self.brief.endpoint);
                    wire.send(&header).await?;
                }
                Ok(wire)
            }
        }
    }

    /// A connection that was opened elsewhere.
    pub(crate) fn wire(&mut self, stream: BoxStream) -> Wire {
        self.transcript.event("connected");
        let limits = self.brief.limits;
        Wire::new(
            stream,
            self.deadline.clone(),
            limits,
            self.transcript.clone(),
        )
    }

    /// Begins every further connection by a PROXY header, or does so no longer.
    pub(crate) fn preface(&mut self, preface: Option<Preface>) {
        self.preface = preface;
    }

    /// Notes that it greeted so late that it may have waited for a PROXY header.
    pub(crate) fn note_late_greeting(&mut self) {
        self.greeted_late = true;
    }

    /// True if it may be a PROXY header that it missed.
    pub(crate) fn may_want_a_preface(&self) -> bool {
        self.greeted_late && self.preface.is_none()
    }

    /// A variant's name in results, which tells how its connection began.
    pub(crate) fn named(&self, variant: &str) -> String {
        match self.preface {
            Some(_) => format!("proxied:{variant}"),
            None => variant.to_owned(),
        }
    }

    /// True if the endpoint speaks TLS from the start.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls
    }

    /// Returns the peer of a TLS handshake: the target by the name that the operator gave, or by
    /// its address.
    pub(crate) fn peer(&self) -> Peer {
        let ip = self.brief.endpoint.ip();
        match self.brief.names.first() {
            Some(name) => Peer::named(name, ip),
            None => ip.into(),
        }
    }

    /// Returns the Host field for the target itself: the name that the operator gave, or its
    /// address.
    pub(crate) fn host(&self) -> String {
        let endpoint = self.brief.endpoint;
        let usual = match self.tls {
            true => 443,
            false => 80,
        };
        match (self.brief.names.first(), endpoint.port() == usual) {
            (Some(name), true) => name.clone(),
            (Some(name), false) => format!("{name}:{}", endpoint.port()),
            (None, _) => endpoint.to_string(),
        }
    }

    /// Notes what happened.
    pub(crate) fn event(&self, what: &str) {
        self.transcript.event(what);
    }

    /// Notes bytes that passed outside a connection.
    pub(crate) fn note(&self, direction: Direction, bytes: &[u8]) {
        self.transcript.note(direction, bytes);
    }

    /// Speaks TLS on a connection, and on every further one if that succeeds. If the server
    /// speaks TLS, but no version or suite of ours, this meets it again as old clients do.
    pub(crate) async fn secure(&mut self, wire: Wire) -> Result<Wire, Broken> {
        let peer = self.peer().with_certificate();
        let patience = wire.limits().reply;
        let wire = match wire.tls(peer.clone()).await {
            Err(Broken::Tls) => {
                let mut wire = self.open_plain().await?.patient(patience);
                wire.secure_by_old(&peer).await?;
                self.old_tls = true;
                wire
            }
            secured => secured?,
        };
        self.tls = true;
        Ok(wire)
    }

    /// Speaks TLS on a further connection, as the first one did.
    pub(crate) async fn secure_again(
        &mut self,
        mut wire: Wire,
        peer: Peer,
    ) -> Result<Wire, Broken> {
        match self.old_tls {
            true => wire.secure_by_old(&peer).await?,
            false => wire.secure(peer).await?,
        }
        Ok(wire)
    }

    /// Speaks TLS no longer.
    pub(crate) fn leave_tls(&mut self) {
        (self.tls, self.old_tls) = (false, false);
    }

    /// Keeps the first words that were said on a connection; true if there were any.
    pub(crate) fn listen(&mut self, wire: &Wire) -> bool {
        let heard = !wire.opening().is_empty();
        if self.banner.is_none() && heard {
            self.banner = Some(legible(wire.opening(), MAX_BANNER));
        }
        heard
    }

    /// Hands a connection to the probe that runs next.
    pub(crate) fn keep(&mut self, kept: Kept) {
        self.kept = Some(kept);
    }

    /// The answer to the first request of a probe, and its connection, if recognition made the request.
    pub(crate) fn take_asked(&mut self, probe: &ProbeId) -> Option<(Wire, Reply)> {
        match self.kept.take() {
            Some(Kept::Asked(id, wire, reply)) if id == *probe => Some((wire, reply)),
            other => {
                self.kept = other;
                None
            }
        }
    }

    /// Ends recognition: what was said so far opens the transcript of every row.
    pub(crate) fn recognised(&self) {
        self.transcript.end_opening();
    }

    /// The connection on which a server of this service has greeted already, once.
    pub(crate) fn take_greeted(&mut self, service: &Service) -> Option<Wire> {
        match self.kept.take() {
            Some(Kept::Greeted(by, wire)) if by == *service => Some(wire),
            other => {
                self.kept = other;
                None
            }
        }
    }

    /// Keeps a connection for the next request of this service, if it can carry one.
    pub(crate) fn keep_idle(&mut self, service: &Service, wire: Wire) {
        if wire.is_free() {
            self.idle = Some((service.clone(), wire));
        }
    }

    /// Returns whether a connection is kept.
    pub(crate) fn has_idle(&self) -> bool {
        self.idle.is_some()
    }

    /// Returns the connection that was kept for this service, once.
    pub(crate) fn take_idle(&mut self, service: &Service) -> Option<Wire> {
        let (by, wire) = self.idle.take()?;
        let wire = wire.patient(self.brief.limits.reply);
        (by == *service).then_some(wire)
    }

    /// The evidence of a row of no protocol; its transcript is what was said since the last row.
    pub(crate) fn evidence(&self) -> Evidence {
        Evidence {
            banner: self.banner.clone(),
            tls: self.tls,
            retry_after_secs: self.transcript.wait().map(whole_secs),
            transcript: self.transcript.take_row(),
            ..Evidence::default()
        }
    }

    /// True if it ever said that it is a gateway, and did not turn out to be a fixed forward.
    pub(crate) fn saw_proxy(&self) -> bool {
        let saw_gateway = self.transcript.saw_gateway() && !self.fails;
        (self.transcript.saw_proxy() || saw_gateway) && !self.forward
    }

    /// Notes that it showed itself to be a proxy.
    pub(crate) fn note_proxy(&self) {
        self.transcript.note_proxy();
    }

    /// Notes that its own page is a gateway's error too.
    pub(crate) fn note_failing(&mut self) {
        self.fails = true;
        self.transcript.forget_wait();
    }

    /// Notes that a door is proven open. Only its reach is explored from now on.
    pub(crate) fn note_open(&mut self) {
        self.open = true;
    }

    /// Returns whether a door is proven open.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Notes that it leads to the canary whatever is asked of it.
    pub(crate) fn note_forward(&mut self) {
        self.forward = true;
    }

    /// How requests over HTTP name their author: ours is the name, and the canary tells the rest (RFC 9511).
    pub fn agent(&self) -> String {
        agent(self.brief.our_name, self.brief.canary)
    }

    /// Where the people behind a target read what this is. By address: the canary's domain may be for mail only.
    pub fn about(&self) -> String {
        about(self.brief.canary)
    }
}

/// See [`Examination::agent`].
pub(crate) fn agent(our_name: &str, canary: &Canary) -> String {
    format!("ajar ({our_name}; +{})", about(canary))
}

fn about(canary: &Canary) -> String {
    let host = match (canary.http, canary.address) {
        (80, IpAddr::V4(ip)) => ip.to_string(),
        (80, IpAddr::V6(ip)) => format!("[{ip}]"),
        (port, _) => canary.at(port).to_string(),
    };
    format!("http://{host}/.well-known/probing.txt")
}

fn whole_secs(wait: Duration) -> u32 {
    wait.as_secs().try_into().unwrap_or(u32::MAX)
}
