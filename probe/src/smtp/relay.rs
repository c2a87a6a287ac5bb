//! Open mail relays: does a server deliver a stranger's mail to a stranger (RFC 5321)?

use ajar_model::{
    Attempt, Canary, Evidence, Nonce, ProbeId, Reply, Tier, Timestamp,
    evidence::{Broken, Control, RoleMailbox},
    nonce::Role,
    proof::{Check, Kind},
};
use futures::{FutureExt, future::BoxFuture};

use super::{
    Smtp, codec as smtp,
    heard::Heard,
    letter::{self, Letter},
    line::{Connection, Failure, Introduction, Line, Mail, Outcome},
    plan::Plan,
    variant::{FIRST, Names, Opening, Sender, Variant},
};
use crate::{
    examination::Examination,
    preface::Preface,
    protocol::{Probe, Protocol},
    tls::Peer,
};

/// Connections for one conversation, the first and the one after a failed STARTTLS included.
const MAX_LINES: usize = 16;

/// Connections that the server may cut off before it is left in peace.
const MAX_CUTS: usize = 6;

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

    fn doubts(&self, canary: &Canary) -> Option<&'static str> {
        let doubt = "a server in charge of the canary's only mail domain is taken for a relay; \
                     give two unrelated ones, with --canary-domain twice";
        canary.other_domain.is_none().then_some(doubt)
    }

    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence> {
        Relaying::new(examination, self.id()).run().boxed()
    }
}

struct Relaying<'r, 'v> {
    examination: &'r mut Examination<'v>,
    id: ProbeId,
    /// A connection that is good for another mail, and how it began.
    line: Option<(Opening, Line)>,
    lines_left: usize,
    cuts_left: usize,
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
            cuts_left: MAX_CUTS,
            starttls: true,
            tls: false,
        }
    }

    async fn run(mut self) -> Evidence {
        let (mut attempts, mut controls) = (Vec::new(), Vec::new());
        let (mut broken, mut mailboxes) = (None, Vec::new());
        let line = match self.connect(Opening::Usual, "").await {
            Err(Failure::Said(reply)) => {
                let line = self.connect_through_proxy().await;
                if line.is_none() {
                    attempts.push(self.attempt(FIRST, Heard::at_the_door(&reply)));
                }
                line
            }
            Err(failure) => {
                broken = Some(how(&failure));
                None
            }
            Ok(line) => Some(line),
        };
        if let Some(line) = line {
            let host = line.host().to_owned();
            (attempts, controls) = self.converse(line).await;
            mailboxes = self.role_mailboxes(&host, &attempts).await;
        }
        self.leave().await;
        let evidence = self.examination.evidence_of(&Smtp);
        Evidence {
            attempts,
            controls,
            mailboxes,
            broken,
            tls: evidence.tls || self.tls,
            ..evidence
        }
    }

    /// Tries variants until none is left, or the server will not have us any longer.
    async fn converse(&mut self, line: Line) -> (Vec<Attempt>, Vec<Control>) {
        let brief = self.examination.brief();
        let host = line.host().to_owned();
        let names_for = |domain: &str| Names::new(domain, brief.endpoint.ip(), &host);
        let names = names_for(&brief.canary.domain);
        let other = brief.canary.other_domain.as_deref();
        let other = other.map(names_for);
        let mut offered = line.offered();
        offered.xclient &= brief.claims;
        self.line = Some((Opening::Usual, line));
        let (mut attempts, mut controls) = (Vec::new(), Vec::new());
        let mut plan = Plan::new(offered);
        while brief.tier >= Tier::Envelope && !self.examination.is_over() {
            let Some(variant) = plan.take_next() else {
                break;
            };
            let nameless = variant.opening == Opening::AsHost && names.host().is_none();
            let mail = self.mail([&names, &names], variant);
            let Some(mail) = mail.filter(|_| !nameless) else {
                continue;
            };
            // Every plain mail was answered, and strict servers let nobody try much more: that stands.
            if plan.is_past_senders() && self.has_no_line_left() {
                break;
            }
            let offered = self.offer(variant.opening, &host, &mail).await;
            let (mut accepted, mut put_off) = (false, false);
            if let Ok(outcome) = &offered {
                outcome.sender_taken.then(|| plan.took_sender(variant));
                accepted = outcome.is_accepted();
                put_off = matches!(outcome.reply, Reply::Temporary { .. });
            }
            // Who is refused by one name may be welcome by another.
            let shut_out = offered.is_err() && variant.opening == Opening::Usual;
            let heard = offered.map_or_else(|heard| heard, Heard::from);
            let sent = heard.sent;
            attempts.push(self.attempt(variant, heard));
            if shut_out {
                break;
            }
            // A server may deliver a message whatever it answered. A greylister lets in only what it has
            // seen before, the check on a plain mail included.
            let checked = sent || accepted || (put_off && variant.is_plain());
            if checked && let Some(other) = &other {
                let control = self.other_domain([&names, other], &host, variant);
                let control = control.await;
                accepted &= matches!(control.reply, Reply::Accepted { .. });
                controls.push(control);
            }
            if accepted && let Some(control) = self.any_mailbox(&names, &host, variant).await {
                controls.push(control);
            }
            accepted.then(|| plan.accepted(variant));
            // It wants no message now, and every further variant would send it one.
            if sent && put_off {
                break;
            }
        }
        let mut taken = attempts.iter();
        let taken = taken.find(|attempt| {
            attempt.sent == Some(true) || matches!(attempt.reply, Reply::Accepted { .. })
        });
        if let Some(attempt) = taken {
            controls.push(self.greeting(&attempt.variant).await);
        }
        (attempts, controls)
    }

    /// Offers the same mail, from the same sender, to the canary's other domain: a server in charge of one has no business with
    /// the other.
    async fn other_domain(&mut self, names: [&Names; 2], host: &str, variant: Variant) -> Control {
        let [_, to] = names;
        let reply = match self.mail(names, variant) {
            Some(mail) => match self.offer(variant.opening, host, &mail).await {
                Ok(outcome) => outcome.reply,
                Err(heard) => heard.reply,
            },
            None => Reply::Broken {
                how: Broken::Garbled,
            },
        };
        Control {
            of: self.name(variant),
            check: Check::OtherDomain,
            nonce: self.nonce(&self.other(to.domain(), variant), Role::Destination),
            reply,
            answer: None,
        }
    }

    /// Asks for another mailbox where the server may have taken ours for a local one. No message is sent.
    async fn any_mailbox(
        &mut self,
        names: &Names,
        host: &str,
        variant: Variant,
    ) -> Option<Control> {
        let name = format!("any mailbox of {}", self.name(variant));
        let [nonce, author] = [Role::Destination, Role::Sender].map(|role| self.nonce(&name, role));
        let mail = Mail {
            sender: names.mail_from(variant.sender, author, nonce)?.ok()?,
            recipient: names.any_mailbox(variant.recipient, nonce)?.ok()?,
            message: None,
        };
        let offered = self.offer(variant.opening, host, &mail).await;
        Some(Control {
            of: self.name(variant),
            check: Check::AnyMailbox,
            nonce,
            reply: offered.map_or_else(|heard| heard.reply, |outcome| outcome.reply),
            answer: None,
        })
    }

    /// Asks a server that took our mail whether it is the canary itself.
    async fn greeting(&mut self, of: &str) -> Control {
        let nonce = self.nonce("greeting", Role::Destination);
        let name = format!("{nonce}.{}", self.examination.brief().canary.domain);
        let line = match self.line.take() {
            Some((_, line)) => Ok(line),
            None => self.connect(Opening::Usual, "").await,
        };
        let (reply, answer) = match line {
            Ok(line) => {
                let (_, line) = self.line.insert((Opening::Usual, line));
                line.greet_again(&name).await
            }
            Err(_) => {
                let how = Broken::Connect;
                (Reply::Broken { how }, None)
            }
        };
        Control {
            of: of.to_owned(),
            check: Check::Greeting,
            nonce,
            reply,
            answer,
        }
    }

    /// Whether its domain's addresses for complaints take mail. No message is sent. Whoever shut us out, or wants a login, is not
    /// asked.
    async fn role_mailboxes(&mut self, host: &str, attempts: &[Attempt]) -> Vec<RoleMailbox> {
        let brief = self.examination.brief();
        let names = Names::new(&brief.canary.domain, brief.endpoint.ip(), host);
        let mut answered = Vec::new();
        let is_shut = |attempt: &Attempt| {
            matches!(
                attempt.reply,
                Reply::AuthRequired { .. } | Reply::Broken { .. }
            )
        };
        let Some(domain) = names.mail_domain() else {
            return answered;
        };
        if brief.tier < Tier::Envelope || attempts.last().is_none_or(is_shut) {
            return answered;
        }
        for mailbox in ["abuse", "postmaster"] {
            let address = format!("{mailbox}@{domain}");
            let author = self.nonce(&address, Role::Sender);
            let sender = names.mail_from(Sender::External, author, author);
            let (Some(Ok(sender)), Ok(recipient)) = (sender, smtp::rcpt_to(&address)) else {
                continue;
            };
            let mail = Mail {
                sender,
                recipient,
                message: None,
            };
            if self.examination.is_over() {
                break;
            }
            match self.offer(Opening::Usual, host, &mail).await {
                Ok(Outcome { reply, .. }) => answered.push(RoleMailbox { address, reply }),
                Err(_) => break,
            }
        }
        answered
    }

    /// Offers a mail, and once more over another connection where one that had served before was cut; an error if
    /// the server will not have us again.
    async fn offer(&mut self, opening: Opening, host: &str, mail: &Mail) -> Result<Outcome, Heard> {
        loop {
            let mut line = match self.line.take() {
                Some((begun, line)) if begun == opening => line,
                other => {
                    self.line = other;
                    self.leave().await;
                    let connected = self.connect(opening, host).await;
                    connected.map_err(|failure| match failure {
                        Failure::Said(reply) => Heard::at_the_door(&reply),
                        failure => Heard::from(Reply::Broken { how: how(&failure) }),
                    })?
                }
            };
            let served = line.transactions() > 0;
            let outcome = line.offer(mail).await;
            self.cuts_left -= usize::from(outcome.connection == Connection::Cut);
            match outcome.connection {
                Connection::Cut if served && !outcome.sent => continue,
                Connection::Cut => {}
                Connection::Good if line.refusals() < MAX_REFUSALS => {
                    self.line = Some((opening, line));
                }
                Connection::Good | Connection::Stuck => line.quit().await,
            }
            return Ok(outcome);
        }
    }

    /// True if no connection is left to ask on.
    fn has_no_line_left(&self) -> bool {
        self.line.is_none() && (self.lines_left == 0 || self.cuts_left == 0)
    }

    /// Takes leave of the server, if a connection is open.
    async fn leave(&mut self) {
        if let Some((_, line)) = self.line.take() {
            line.quit().await;
        }
    }

    /// A connection that begins that way; `host` is what the server calls itself.
    async fn connect(&mut self, opening: Opening, host: &str) -> Result<Line, Failure> {
        while self.lines_left > 0 && self.cuts_left > 0 {
            self.lines_left -= 1;
            let brief = self.examination.brief();
            let peer = match (Peer::from(brief.endpoint.ip()), opening) {
                (peer, Opening::Certificate) => peer.with_certificate(),
                (peer, _) => peer,
            };
            let wire = self.examination.open_to(&Smtp, peer.clone()).await?;
            let introduction = Introduction {
                name: match opening {
                    Opening::Usual | Opening::Plain | Opening::Certificate | Opening::Xclient => {
                        brief.our_name
                    }
                    Opening::AsHost => host,
                    Opening::AsLocalhost => "localhost",
                    Opening::AsLoopback => "[127.0.0.1]",
                },
                peer,
                starttls: self.starttls && opening != Opening::Plain,
                xclient: opening == Opening::Xclient,
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

    /// A connection to a server that hears nobody who does not first say for whom he calls.
    async fn connect_through_proxy(&mut self) -> Option<Line> {
        let brief = self.examination.brief();
        let may = brief.claims && brief.tier >= Tier::Envelope;
        if !may || !self.examination.may_want_a_preface() {
            return None;
        }
        self.examination.preface(Some(Preface::Text));
        let connected = self.connect(Opening::Usual, "").await;
        if connected.is_err() {
            self.examination.preface(None);
        }
        connected.ok()
    }

    /// The commands of a variant, whose sender and recipient are of these names; none if one of its paths cannot be sent. Below
    /// `deliver` there is no message, so none can be sent.
    fn mail(&self, [from, to]: [&Names; 2], variant: Variant) -> Option<Mail> {
        let brief = self.examination.brief();
        let domain = to.domain();
        let name = match domain == brief.canary.domain {
            true => self.name(variant),
            false => self.other(domain, variant),
        };
        let nonce = self.nonce(&name, Role::Destination);
        let author = self.nonce(&name, Role::Sender);
        let message = || {
            letter::write(&Letter {
                nonce,
                author,
                domain,
                endpoint: brief.endpoint,
                our_name: brief.our_name,
                about: &self.examination.about(),
                date: Timestamp::now(),
            })
        };
        let from = match variant.sender {
            Sender::Recipient => to,
            _ => from,
        };
        Some(Mail {
            sender: from.mail_from(variant.sender, author, nonce)?.ok()?,
            recipient: to.rcpt_to(variant.recipient, nonce)?.ok()?,
            message: (brief.tier >= Tier::Deliver).then(|| smtp::dot_stuffed(&message())),
        })
    }

    fn attempt(&self, variant: Variant, heard: Heard) -> Attempt {
        Attempt {
            variant: self.name(variant),
            kind: Kind::Mail,
            nonce: self.nonce(&self.name(variant), Role::Destination),
            port: None,
            reply: heard.reply,
            sent: Some(heard.sent),
            returns: variant.sender == Sender::Recipient,
            turned_away: heard.turned_away,
            answer: None,
            at: Timestamp::now(),
        }
    }

    fn nonce(&self, variant: &str, role: Role) -> Nonce {
        self.examination.nonce(&self.id, variant, role)
    }

    fn name(&self, variant: Variant) -> String {
        self.examination.named(&variant.name())
    }

    /// Names a variant of the mail to the canary's other domain.
    fn other(&self, domain: &str, variant: Variant) -> String {
        format!("{} to {domain}", self.name(variant))
    }
}

fn how(failure: &Failure) -> Broken {
    match failure {
        Failure::Broke(how) => *how,
        Failure::Starttls => Broken::Tls,
        Failure::Said(_) => Broken::Closed,
    }
}
