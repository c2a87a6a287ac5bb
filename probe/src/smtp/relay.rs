//! Open mail relays: does a server deliver a stranger's mail to a stranger (RFC 5321)?

use ajar_model::{
    Attempt, Evidence, Nonce, ProbeId, Reply, Tier, Timestamp, evidence::Broken, nonce::Role,
    proof::Kind,
};
use futures::{FutureExt, future::BoxFuture};

use super::{
    Smtp, codec as smtp,
    letter::{self, Letter},
    line::{self, Connection, Failure, Introduction, Line, Mail, Outcome},
    plan::{FIRST, Names, Plan, Variant},
};
use crate::{
    examination::Examination,
    protocol::{Probe, Protocol},
    tls::Peer,
};

/// Connections for one conversation, the first and the one after a failed STARTTLS included.
const MAX_LINES: usize = 6;

/// Refusals on one connection before another is opened. Servers punish or cut off clients with more than
/// ten errors (Postfix: smtpd_soft_error_limit).
const MAX_REFUSALS: usize = 8;

pub(crate) struct Relay;

impl Probe for Relay {
    fn id(&self) -> ProbeId {
        ProbeId::from_static("smtp-relay")
    }

    fn protocol(&self) -> &'static dyn Protocol {
        &Smtp
    }

    fn tier(&self) -> Tier {
        Tier::Handshake
    }

    fn summary(&self) -> &'static str {
        "mail server that relays from strangers to strangers"
    }

    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence> {
        Relaying::new(examination, self.id()).run().boxed()
    }
}

struct Relaying<'r, 'v> {
    examination: &'r mut Examination<'v>,
    id: ProbeId,
    line: Option<Line>,
    lines_left: usize,
    starttls: bool,
    tls: bool,
}

impl<'r, 'v> Relaying<'r, 'v> {
    fn new(examination: &'r mut Examination<'v>, id: ProbeId) -> Self {
        Self {
            examination,
            id,
            line: None,
            lines_left: MAX_LINES,
            starttls: true,
            tls: false,
        }
    }

    async fn run(mut self) -> Evidence {
        let mut attempts = Vec::new();
        let mut broken = None;
        match self.connect().await {
            Ok(line) => attempts = self.converse(line).await,
            Err(Failure::Said(reply)) => attempts.push(self.attempt(FIRST, line::refusal(&reply))),
            Err(failure) => broken = Some(how(&failure)),
        }
        if let Some(line) = self.line.take() {
            line.quit().await;
        }
        let evidence = self.examination.evidence_of(&Smtp);
        Evidence {
            attempts,
            broken,
            tls: evidence.tls || self.tls,
            ..evidence
        }
    }

    /// Tries variants until none is left, or the server will not have us any longer.
    async fn converse(&mut self, line: Line) -> Vec<Attempt> {
        let brief = self.examination.brief();
        let names = Names::new(&brief.canary.domain, brief.endpoint.ip(), line.host());
        self.line = Some(line);
        let mut attempts = Vec::new();
        let mut plan = Plan::new(&names);
        while brief.tier >= Tier::Envelope && !self.examination.is_over() {
            let Some(variant) = plan.take_next() else {
                break;
            };
            let Some(mail) = self.mail(&names, variant) else {
                continue;
            };
            let offered = self.offer(&mail).await;
            if let Ok(outcome) = &offered {
                outcome.sender_taken.then(|| plan.took_sender(variant));
                outcome.is_accepted().then(|| plan.accepted(variant));
            }
            let shut_out = offered.is_err();
            let reply = offered.map_or_else(|reply| reply, |outcome| outcome.reply);
            attempts.push(self.attempt(variant, reply));
            if shut_out {
                break;
            }
        }
        attempts
    }

    /// Offers a mail, and once more over another connection where one that had served before was cut; an error if
    /// the server will not have us again.
    async fn offer(&mut self, mail: &Mail) -> Result<Outcome, Reply> {
        loop {
            let mut line = match self.line.take() {
                Some(line) => line,
                None => self.connect().await.map_err(|failure| match failure {
                    Failure::Said(reply) => line::refusal(&reply),
                    failure => Reply::Broken { how: how(&failure) },
                })?,
            };
            let served = line.transactions() > 0;
            let outcome = line.offer(mail).await;
            match outcome.connection {
                Connection::Cut if served && !outcome.sent => continue,
                Connection::Cut => {}
                Connection::Good if line.refusals() < MAX_REFUSALS => self.line = Some(line),
                Connection::Good | Connection::Stuck => line.quit().await,
            }
            return Ok(outcome);
        }
    }

    async fn connect(&mut self) -> Result<Line, Failure> {
        while self.lines_left > 0 {
            self.lines_left -= 1;
            let wire = self.examination.open(&Smtp).await?;
            let brief = self.examination.brief();
            let introduction = Introduction {
                our_name: brief.our_name,
                peer: Peer::from(brief.endpoint.ip()),
                starttls: self.starttls,
            };
            match Line::greet(wire, &introduction).await {
                Err(Failure::Starttls) => self.starttls = false,
                Ok(line) => {
                    self.tls |= line.is_tls();
                    return Ok(line);
                }
                failed => return failed,
            }
        }
        Err(Failure::Broke(Broken::Connect))
    }

    /// The commands of a variant; none if one of its paths cannot be sent. Below `deliver` there is no message, so
    /// none can be sent.
    fn mail(&self, names: &Names, variant: Variant) -> Option<Mail> {
        let nonce = self.nonce(variant, Role::Destination);
        let author = self.nonce(variant, Role::Sender);
        let brief = self.examination.brief();
        let message = || {
            letter::write(&Letter {
                nonce,
                author,
                domain: &brief.canary.domain,
                endpoint: brief.endpoint,
                our_name: brief.our_name,
                about: &self.examination.about(),
                date: Timestamp::now(),
            })
        };
        Some(Mail {
            sender: smtp::mail_from(&names.sender(variant.sender, author, nonce)).ok()?,
            recipient: smtp::rcpt_to(&names.recipient(variant.recipient, nonce)).ok()?,
            message: (brief.tier >= Tier::Deliver).then(|| smtp::dot_stuffed(&message())),
        })
    }

    fn attempt(&self, variant: Variant, reply: Reply) -> Attempt {
        Attempt {
            variant: variant.name(),
            kind: Kind::Mail,
            nonce: self.nonce(variant, Role::Destination),
            reply,
            answer: None,
            at: Timestamp::now(),
        }
    }

    fn nonce(&self, variant: Variant, role: Role) -> Nonce {
        self.examination.nonce(&self.id, &variant.name(), role)
    }
}

fn how(failure: &Failure) -> Broken {
    match failure {
        Failure::Broke(how) => *how,
        Failure::Starttls => Broken::Tls,
        Failure::Said(_) => Broken::Closed,
    }
}
