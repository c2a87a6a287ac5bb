//! TURN servers that relay for whoever asks: over TCP (RFC 6062) to each of the canary's ports, else by datagrams.

use std::net::SocketAddr;

use ajar_model::{
    Attempt, Evidence, Nonce, ProbeId, Reply, Tier,
    evidence::{Broken, Control},
    nonce::Role,
    proof::{Answer, Check},
};
use futures::{FutureExt, future::BoxFuture};

use super::{
    TRANSACTION, Turn,
    codec::{self, Class, Message, TCP, UDP},
    exchange,
};
use crate::{
    destination::{CanaryPort, Destination, Form},
    examination::Examination,
    protocol::{Probe, Protocol},
    tunnel::{self, CANARY_PORTS, SENDING_WAIT, SENDINGS},
    wire::Wire,
};

const ID: ProbeId = ProbeId::from_static("turn");

/// Does it relay for strangers?
pub(crate) struct Relay;

impl Probe for Relay {
    fn id(&self) -> ProbeId {
        ID
    }

    fn protocol(&self) -> &'static dyn Protocol {
        &Turn
    }

    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn summary(&self) -> &'static str {
        "TURN server that relays for anybody, without credentials"
    }

    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence> {
        run(examination).boxed()
    }
}

async fn run(examination: &mut Examination<'_>) -> Evidence {
    let mut relaying = Relaying {
        examination,
        attempts: Vec::new(),
        controls: Vec::new(),
    };
    let is_wanted = relaying.over_tcp().await;
    if is_wanted && !relaying.examination.is_over() {
        relaying.by_datagrams().await;
    }
    Evidence {
        attempts: relaying.attempts,
        controls: relaying.controls,
        ..relaying.examination.evidence_of(&Turn)
    }
}

struct Relaying<'r, 'v> {
    examination: &'r mut Examination<'v>,
    attempts: Vec<Attempt>,
    controls: Vec<Control>,
}

impl Relaying<'_, '_> {
    /// Asks for a connection to each of the canary's ports. True if datagrams may fare better.
    async fn over_tcp(&mut self) -> bool {
        let canary = self.examination.brief().canary;
        let destination = |port| Destination::new(canary, port, Form::Literal);
        let mut reached = None;
        let mut allocation = self.allocate(TCP).await;
        for destination in CANARY_PORTS.iter().map(|&port| destination(port)) {
            let name = name("turn-tcp", destination.address());
            let (nonce, reply, answer) = match &mut allocation {
                Ok(wire) => self.connect(wire, &destination, &name).await,
                Err(reply) => (self.nonce(&name), *reply, None),
            };
            let proven = self.note(name.clone(), nonce, &destination, reply, answer);
            if proven && reached.is_none() {
                reached = Some((name, destination.canary_port()));
            }
            if allocation.is_err() || self.examination.is_over() {
                break;
            }
        }
        if let (Some((of, port)), Ok(wire)) = (&reached, &mut allocation) {
            let unused = Destination::unused(canary, *port, Form::Literal);
            let name = name("turn-tcp", unused.address());
            let answered = self.connect(wire, &unused, &name).await;
            self.control(of, answered);
        }
        let is_shut = match allocation {
            Err(reply @ Reply::Refused { .. }) => reply == PASSED_OVER,
            Err(_) => true,
            Ok(_) => reached.is_some(),
        };
        !is_shut
    }

    /// Sends the canary's high port a datagram.
    async fn by_datagrams(&mut self) {
        let canary = self.examination.brief().canary;
        let destination = Destination::new(canary, CanaryPort::Raw, Form::Literal);
        let variant = name("turn-udp", destination.address());
        let nonce = self.nonce(&variant);
        let mut allocation = self.allocate(UDP).await;
        let (reply, answer) = match &mut allocation {
            Ok(wire) => sent(wire, destination.address(), nonce).await,
            Err(reply) => (*reply, None),
        };
        let proven = self.note(variant.clone(), nonce, &destination, reply, answer);
        if let (true, Ok(wire)) = (proven, &mut allocation) {
            let unused = Destination::unused(canary, CanaryPort::Raw, Form::Literal);
            let nonce = self.nonce(&name("turn-udp", unused.address()));
            let (reply, answer) = sent(wire, unused.address(), nonce).await;
            self.control(&variant, (nonce, reply, answer));
        }
    }

    /// A connection to the server on which it has given us a relayed address.
    async fn allocate(&mut self, transport: u8) -> Result<Wire, Reply> {
        let canary = self.examination.brief().canary;
        let broken = |how| Reply::Broken { how };
        let mut wire = self.examination.open(&Turn).await.map_err(broken)?;
        let request = codec::allocate(TRANSACTION, transport, canary.at(canary.raw));
        let answer = match exchange(&mut wire, codec::ALLOCATE, &request).await {
            Err(Broken::TimedOut | Broken::Closed) => return Err(PASSED_OVER),
            answer => answer.map_err(broken)?,
        };
        if answer.error_code() != BAD_REQUEST {
            wire.note_proxy();
        }
        match weigh(&answer) {
            Reply::Accepted { .. } => Ok(wire),
            reply => Err(reply),
        }
    }

    /// Has the server open a connection, and says a nonce through it.
    async fn connect(
        &mut self,
        allocation: &mut Wire,
        destination: &Destination,
        variant: &str,
    ) -> (Nonce, Reply, Option<Answer>) {
        let nonce = self.nonce(variant);
        let opened = self.open(allocation, destination.address()).await;
        let (reply, answer) = match opened {
            Ok((reply, Some(wire))) => {
                let wait = self.examination.answer_wait();
                let agent = self.examination.agent();
                let answer = tunnel::prove(wire, destination, nonce, &agent, wait).await;
                if answer.is_none() {
                    self.examination.note_hollow();
                }
                (reply, answer)
            }
            Ok((reply, None)) => (reply, None),
            Err(how) => (Reply::Broken { how }, None),
        };
        (nonce, reply, answer)
    }

    /// Our end of a connection that the server opened, which is one more connection to the server.
    async fn open(
        &mut self,
        allocation: &mut Wire,
        peer: SocketAddr,
    ) -> Result<(Reply, Option<Wire>), Broken> {
        let request = codec::connect(TRANSACTION, peer);
        let answer = exchange(allocation, codec::CONNECT, &request).await?;
        let reply = weigh(&answer);
        let (Reply::Accepted { .. }, Some(id)) = (reply, answer.connection_id()) else {
            return Ok((reply, None));
        };
        let mut wire = self.examination.open(&Turn).await?;
        let request = codec::connection_bind(TRANSACTION, id);
        let bound = exchange(&mut wire, codec::CONNECTION_BIND, &request).await?;
        match weigh(&bound) {
            reply @ Reply::Accepted { .. } => Ok((reply, Some(wire))),
            reply => Ok((reply, None)),
        }
    }

    /// True if the answer is the canary's.
    fn note(
        &mut self,
        variant: String,
        nonce: Nonce,
        destination: &Destination,
        reply: Reply,
        answer: Option<Answer>,
    ) -> bool {
        let canary = self.examination.brief().canary;
        let proven = answer
            .as_ref()
            .is_some_and(|answer| answer.proves(nonce, &canary.key));
        let attempt = tunnel::attempted(variant, nonce, destination, reply, answer);
        self.attempts.push(attempt);
        proven
    }

    fn control(&mut self, of: &str, (nonce, reply, answer): (Nonce, Reply, Option<Answer>)) {
        self.controls.push(Control {
            of: of.to_owned(),
            check: Check::OtherPort,
            nonce,
            reply,
            answer,
        });
    }

    fn nonce(&self, variant: &str) -> Nonce {
        self.examination.nonce(&ID, variant, Role::Destination)
    }
}

fn name(label: &str, address: SocketAddr) -> String {
    format!("{label}:{}", address.port())
}

/// Has the server send a datagram, and waits for the one that comes back.
async fn sent(wire: &mut Wire, peer: SocketAddr, nonce: Nonce) -> (Reply, Option<Answer>) {
    let sent = async {
        let request = codec::create_permission(TRANSACTION, peer);
        let permitted = exchange(wire, codec::CREATE_PERMISSION, &request).await?;
        let reply = weigh(&permitted);
        let Reply::Accepted { .. } = reply else {
            return Ok((reply, None));
        };
        for _ in 0..SENDINGS {
            let datagram = tunnel::datagram(nonce);
            wire.send(&codec::send(TRANSACTION, peer, &datagram))
                .await?;
            match wire.frame(SENDING_WAIT, Message::parse).await {
                Ok(message) => {
                    if let Some(answer) = message.data().and_then(Answer::find) {
                        return Ok((reply, Some(answer)));
                    }
                }
                Err(Broken::TimedOut) => {}
                Err(how) => return Err(how),
            }
        }
        Ok((reply, None))
    };
    sent.await
        .unwrap_or_else(|how| (Reply::Broken { how }, None))
}

/// A STUN server, which answered before, passes over what it does not know (RFC 8489 section 6.3).
const PASSED_OVER: Reply = Reply::Refused { code: 0 };

/// The server does not know the method.
const BAD_REQUEST: u16 = 400;

/// RFC 8489 section 14.8, RFC 8656 section 19, RFC 6062 section 6.3.
fn weigh(answer: &Message) -> Reply {
    let code = answer.error_code();
    match (answer.class, code) {
        (Class::Success, _) => Reply::Accepted { code: 0 },
        (_, 401 | 438) => Reply::AuthRequired { code },
        (_, 447 | 486 | 500 | 508) => Reply::Temporary { code },
        _ => Reply::Refused { code },
    }
}
