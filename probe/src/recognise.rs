//! Which protocol an endpoint speaks, whatever its port.
//!
//! It is listened to first: a mail server that is talked to before it has greeted may rightly refuse us. Then the
//! protocols that were chosen are offered, the likely one first, each as the very request that its probe would begin
//! with, so that an answer is a first step and its connection is not wasted.
//!
//! Architecture invariant: no protocol is named here. See [`crate::protocol`].

use std::time::Duration;

use ajar_model::{Service, evidence::Broken};
use tokio::time::Instant;

use crate::{
    BoxStream, Limits,
    codec::{Parsed, Unreadable},
    examination::{Examination, Kept},
    offers::{self, Step},
    preface::Preface,
    protocol::{Answered, Asking, First, Greet, Offer, Probe, Protocol},
    registry::PROTOCOLS,
    wire::Wire,
};

/// What came of it.
#[derive(Clone, Copy)]
pub(crate) struct Recognised {
    pub(crate) protocol: Option<&'static dyn Protocol>,
    /// How it ended if the endpoint never said anything, or never ended its first words.
    pub(crate) broken: Option<Broken>,
}

impl Recognised {
    pub(crate) fn service(&self) -> Option<Service> {
        self.protocol.map(Protocol::service)
    }

    /// True if its servers say nothing before they are asked.
    fn waits_for_clients(self) -> bool {
        let first = self.protocol.map(Protocol::first);
        matches!(first, Some(First::Client(_)))
    }
}

impl From<&'static dyn Protocol> for Recognised {
    fn from(protocol: &'static dyn Protocol) -> Self {
        Self {
            protocol: Some(protocol),
            broken: None,
        }
    }
}

impl From<Broken> for Recognised {
    fn from(how: Broken) -> Self {
        Self {
            protocol: None,
            broken: Some(how),
        }
    }
}

/// Servers wait for a PROXY header for 3 seconds (Exim) or 5 (Postfix) before they greet in some way.
const LATE: Duration = Duration::from_millis(2500);

/// It answers, but in none of our protocols.
const STRANGE: Recognised = Recognised {
    protocol: None,
    broken: None,
};

/// Listens, then offers, beginning on the connection that is open.
pub(crate) async fn recognise(
    examination: &mut Examination<'_>,
    first: BoxStream,
    chosen: &[&'static dyn Probe],
) -> Recognised {
    let brief = examination.brief();
    let port = brief.endpoint.port();
    let mut recogniser = Recogniser::new(examination, chosen);
    let mut steps = offers::plan(&recogniser.asking);
    let wire = recogniser.examination.wire(first);
    let tls_first = matches!(steps.front(), Some(Step::Tls));
    if tls_first && offers::is_tls_from_the_start(port) {
        recogniser.idle = Some(wire);
    } else if let Some(recognised) = recogniser
        .listen(wire, offers::greeting_wait(port, &brief.limits))
        .await
    {
        return recognised;
    }
    let mut patience = brief.limits.reply;
    while let Some(step) = steps.pop_front() {
        let recognised = match step {
            Step::Offer(protocol, offer) => {
                // The usual protocols of a port may lead to a far destination.
                let is_usual = protocol.ports().contains(&port);
                let patience = match is_usual {
                    // It speaks TLS here: if it speaks anything else, it does so at once.
                    _ if recogniser.spoke_tls => recogniser.examination.patience_for_more(),
                    true => brief.limits.reply,
                    false => patience,
                };
                recogniser.offer(protocol, offer, patience).await
            }
            // Seldom needed, and large: in a box, so that other conversations do not carry its room about.
            Step::Tls => Box::pin(recogniser.tls(patience)).await,
        };
        if let Some(recognised) = recognised {
            return recognised;
        }
        patience = brief.limits.offer;
        if recogniser.is_done() {
            break;
        }
    }
    for preface in offers::prefaces(&recogniser.asking) {
        if recogniser.heard || recogniser.is_done() {
            break;
        }
        if let Some(recognised) = Box::pin(recogniser.prefaced(preface)).await {
            return recognised;
        }
    }
    recogniser.unrecognised()
}

/// True if an endpoint that was recognised speaks one more protocol; its connection is kept for the probe.
pub(crate) async fn speaks_too(
    examination: &mut Examination<'_>,
    protocol: &'static dyn Protocol,
) -> bool {
    let First::Client(offer) = protocol.first() else {
        return false;
    };
    let patience = examination.patience_for_more();
    let mut recogniser = Recogniser::new(examination, protocol.probes());
    let recognised = recogniser.offer(protocol, offer, patience).await;
    let service = recognised.and_then(|recognised| recognised.service());
    service == Some(protocol.service())
}

struct Recogniser<'r, 'v> {
    examination: &'r mut Examination<'v>,
    asking: Asking<'r>,
    /// A connection on which nothing was said yet by either side.
    idle: Option<Wire>,
    heard: bool,
    /// It speaks TLS, and not a version or a suite that we offer, or not to our name.
    refuses_tls: bool,
    /// It spoke TLS, and nothing of ours inside.
    spoke_tls: bool,
    broken: Option<Broken>,
}

impl<'r, 'v: 'r> Recogniser<'r, 'v> {
    fn new(examination: &'r mut Examination<'v>, chosen: &'r [&'static dyn Probe]) -> Self {
        let asking = Asking {
            brief: examination.brief(),
            agent: examination.agent(),
            chosen,
        };
        Self {
            examination,
            asking,
            idle: None,
            heard: false,
            refuses_tls: false,
            spoke_tls: false,
            broken: None,
        }
    }

    /// True if nothing more can come of it.
    fn is_done(&self) -> bool {
        self.broken == Some(Broken::Connect) || self.examination.is_over()
    }

    fn unrecognised(self) -> Recognised {
        let broken = self.broken.unwrap_or(Broken::TimedOut);
        Recognised {
            protocol: None,
            broken: match self.refuses_tls {
                // Something may be inside that we could not ask.
                true => Some(Broken::Tls),
                false => (!self.heard).then_some(broken),
            },
        }
    }

    /// Waits for the endpoint to speak first; none if it does not.
    async fn listen(&mut self, mut wire: Wire, wait: Duration) -> Option<Recognised> {
        let limits = *wire.limits();
        let parse = |bytes: &[u8], quiet| first_greeting(bytes, &limits, quiet);
        let asked = Instant::now();
        let greeting = wire.frame_or_quiet(wait, parse).await;
        if asked.elapsed() >= LATE {
            self.examination.note_late_greeting();
        }
        self.heard |= self.examination.listen(&wire);
        match greeting {
            Ok(greeting) => Some(self.greeted(wire, greeting).await),
            Err(Broken::TimedOut) if wire.unread().is_empty() => {
                self.idle = Some(wire);
                None
            }
            Err(how) if wire.unread().is_empty() => {
                self.broken = Some(how);
                None
            }
            Err(Broken::Garbled) => Some(claimed(wire.unread()).unwrap_or(STRANGE)),
            Err(how) => Some(how.into()),
        }
    }

    async fn greeted(&mut self, mut wire: Wire, greeting: Greeting) -> Recognised {
        let Greeting {
            protocol,
            greet,
            bytes,
        } = greeting;
        if !greet.confirm(&bytes, &mut wire, &self.asking).await {
            return STRANGE;
        }
        let kept = Kept::Greeted(protocol.service(), wire.greeted(bytes));
        self.examination.keep(kept);
        protocol.into()
    }

    /// Makes one offer, on a connection on which nothing was said.
    async fn offer(
        &mut self,
        protocol: &'static dyn Protocol,
        offer: &'static dyn Offer,
        patience: Duration,
    ) -> Option<Recognised> {
        let agreed = |wire: &Wire| !wire.is_tls() || protocol.alpn().is_none();
        let mut wire = match self.idle.take().filter(agreed) {
            Some(wire) => wire,
            None => match self.examination.open(protocol).await {
                Ok(wire) => wire,
                Err(how) => {
                    self.broken = Some(how);
                    return None;
                }
            },
        }
        .patient(patience);
        let next = offer.after_hang_up();
        let next = next.filter(|next| self.asking.brief.tier >= next.tier());
        match (offer.offer(&mut wire, &self.asking).await, next) {
            (Ok(answered), _) => {
                self.examination.listen(&wire);
                if let Answered::Probe(id, reply) = answered {
                    let patience = self.asking.brief.limits.reply;
                    let kept = Kept::Asked(id, wire.patient(patience), reply);
                    self.examination.keep(kept);
                }
                Some(protocol.into())
            }
            (Err(Broken::Closed), Some(next)) if wire.opening().is_empty() => {
                Box::pin(self.offer(protocol, next, patience)).await
            }
            // A proxy that only fetches may wait for more of a request that it does not know.
            (Err(how @ Broken::TimedOut), Some(next))
                if wire.opening().is_empty() && self.is_usual(protocol) && !self.spoke_tls =>
            {
                self.not_this(&wire, how);
                let patience = self.asking.brief.limits.offer;
                Box::pin(self.offer(protocol, next, patience)).await
            }
            (Err(how), _) => self.not_this(&wire, how),
        }
    }

    /// Returns whether the protocol is usual on the endpoint's port.
    fn is_usual(&self, protocol: &dyn Protocol) -> bool {
        let port = self.asking.brief.endpoint.port();
        protocol.ports().contains(&port)
    }

    /// Listens and offers inside TLS, if a handshake succeeds.
    async fn tls(&mut self, patience: Duration) -> Option<Recognised> {
        let brief = self.asking.brief;
        let wire = match self.idle.take() {
            Some(wire) => Ok(wire),
            None => self.examination.open_plain().await,
        };
        let secured = match wire {
            Ok(wire) => self.examination.secure(wire.patient(patience)).await,
            Err(how) => Err(how),
        };
        let wire = match secured {
            Ok(wire) => wire,
            Err(how) => {
                self.heard |= matches!(how, Broken::Tls | Broken::Garbled);
                self.refuses_tls |= how == Broken::Tls;
                self.broken = Some(how);
                return None;
            }
        };
        self.heard = true;
        let wait = offers::greeting_wait(brief.endpoint.port(), &brief.limits);
        if let Some(recognised) = self.listen(wire.patient(brief.limits.reply), wait).await {
            return Some(recognised);
        }
        let inside: Vec<_> = offers::inside_tls(&self.asking).collect();
        for (protocol, offer) in inside {
            let recognised = self.offer(protocol, offer, brief.limits.reply).await;
            if recognised.is_some() {
                return recognised;
            }
        }
        // Some ports share TLS and plain protocols.
        self.examination.leave_tls();
        self.spoke_tls = true;
        None
    }

    /// Begins by a PROXY header, listens, and makes the likeliest offer. What is recognised by it is met so by every probe.
    async fn prefaced(&mut self, preface: Preface) -> Option<Recognised> {
        let limits = self.asking.brief.limits;
        let before = self.broken;
        self.idle = None;
        self.examination.preface(Some(preface));
        let mut recognised = match self.examination.open_plain().await {
            Ok(wire) => self.listen(wire, limits.banner).await,
            Err(how) => {
                self.broken = Some(how);
                None
            }
        };
        if recognised.is_some_and(Recognised::waits_for_clients) {
            // It took the header for a request.
            self.examination.preface(None);
            return recognised;
        }
        let likeliest = offers::plan(&self.asking).pop_front();
        if let (None, false, Some(Step::Offer(protocol, offer))) =
            (recognised, self.is_done(), likeliest)
        {
            recognised = self.offer(protocol, offer, limits.offer).await;
        }
        let recognised = recognised.filter(|recognised| recognised.protocol.is_some());
        if recognised.is_none() {
            self.examination.preface(None);
            self.broken = before.or(self.broken);
        }
        recognised
    }

    /// An offer was not taken; what was said instead may still be of another protocol.
    fn not_this(&mut self, wire: &Wire, how: Broken) -> Option<Recognised> {
        self.heard |= self.examination.listen(wire);
        self.broken = self.broken.or(Some(how));
        claimed(wire.opening())
    }
}

/// A greeting, and whose it looks like.
struct Greeting {
    protocol: &'static dyn Protocol,
    greet: &'static dyn Greet,
    bytes: Vec<u8>,
}

/// The first greeting that the bytes begin with. More are awaited as long as any protocol may still come of them.
fn first_greeting(bytes: &[u8], limits: &Limits, quiet: bool) -> Parsed<Greeting> {
    let mut none = Err(Unreadable::Garbled);
    for (protocol, greet) in offers::greeters() {
        match greet.greeting(bytes, limits, quiet) {
            Ok(Some(((), length))) => {
                let bytes = bytes[..length].to_vec();
                let greeting = Greeting {
                    protocol,
                    greet,
                    bytes,
                };
                return Ok(Some((greeting, length)));
            }
            Ok(None) => none = Ok(()),
            Err(Unreadable::TooLong) if none.is_err() => none = Err(Unreadable::TooLong),
            Err(_) => {}
        }
    }
    none.map(|()| None)
}

/// The protocol that these first bytes are of.
fn claimed(opening: &[u8]) -> Option<Recognised> {
    let mut protocols = PROTOCOLS.iter().copied();
    let protocol = protocols.find(|protocol| protocol.claims(opening))?;
    Some(protocol.into())
}
