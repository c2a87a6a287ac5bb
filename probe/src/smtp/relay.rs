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
    draft::{Addressed, Draft, Offered},
    heard::Heard,
    letter::{self, Letter},
    line::{Failure, Line},
    lines::{self, Lines},
    mail::{After, Connection, Mail, Rcpt, Told},
    names::Names,
    plan::{Ask, Plan},
    variant::{FIRST, Opening, Sender, Variant},
};
use crate::{
    examination::Examination,
    protocol::{Probe, Protocol},
};

/// Messages in one visit. A server that took four and relayed none will not relay the fifth.
const MAX_MESSAGES: usize = 4;

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
    lines: Lines<'r, 'v>,
    id: ProbeId,
    attempts: Vec<Attempt>,
    controls: Vec<Control>,
    messages: usize,
    /// The server took mail for one of the canary's domains and refused the other. From now on it
    /// is asked for the other one first.
    other_first: bool,
}

/// A sign that the server is to be asked for nothing more.
struct LeftInPeace;

impl<'r, 'v> Relaying<'r, 'v> {
    fn new(examination: &'r mut Examination<'v>, id: ProbeId) -> Self {
        Self {
            lines: Lines::new(examination),
            id,
            attempts: Vec::new(),
            controls: Vec::new(),
            messages: 0,
            other_first: false,
        }
    }

    async fn run(mut self) -> Evidence {
        let (mut broken, mut mailboxes) = (None, Vec::new());
        let line = match self.lines.connect(Opening::Usual, "").await {
            Err(Failure::Said(reply)) => {
                let line = self.lines.connect_through_proxy().await;
                if line.is_none() {
                    let attempt = self.attempt(FIRST, Heard::at_the_door(&reply));
                    self.attempts.push(attempt);
                }
                line
            }
            Err(failure) => {
                broken = Some(lines::how(&failure));
                None
            }
            Ok(line) => Some(line),
        };
        if let Some(line) = line {
            let brief = self.lines.examination.brief();
            let (ip, greeted_as) = (brief.endpoint.ip(), line.host().to_owned());
            let known_as = [brief.names, line.certified_as()].concat();
            let names_for = |domain: &str| Names::new(domain, ip, &greeted_as, &known_as);
            let names = names_for(&brief.canary.domain);
            let other = brief.canary.other_domain.as_deref().map(names_for);
            self.converse(line, &names, other.as_ref()).await;
            mailboxes = self.role_mailboxes(&names).await;
        }
        self.lines.leave().await;
        let evidence = self.lines.examination.evidence_of(&Smtp);
        Evidence {
            attempts: self.attempts,
            controls: self.controls,
            mailboxes,
            broken,
            shut_out_after: self.lines.shut_out_after.map(|refusals| refusals as u32),
            tls: evidence.tls || self.lines.tls,
            ..evidence
        }
    }

    /// Asks in every way of the plan, as long as the server answers.
    async fn converse(&mut self, line: Line, names: &Names, other: Option<&Names>) {
        let brief = self.lines.examination.brief();
        let mut offered = line.offered();
        offered.xclient &= brief.claims;
        self.lines
            .put_back(Opening::Usual, line, Connection::Good)
            .await;
        let mut plan = Plan::new(offered, names.own().len(), brief.effort);
        while brief.tier >= Tier::Envelope && !self.lines.examination.is_over() {
            let Some(ask) = plan.take_next() else {
                break;
            };
            let nameless = ask.opening == Opening::AsHost && names.host().is_none();
            let draft = self.draft(names, other, &ask);
            let Some(draft) = draft.filter(|_| !nameless) else {
                continue;
            };
            if self.ask(names, &ask, draft, &mut plan).await.is_err() {
                break;
            }
        }
        let taken = self.attempts.iter().find(|attempt| {
            attempt.sent == Some(true) || matches!(attempt.reply, Reply::Accepted { .. })
        });
        if let Some(attempt) = taken {
            let of = attempt.variant.clone();
            let greeting = self.greeting(of).await;
            self.controls.push(greeting);
        }
    }

    /// Makes one transaction, and checks the recipients that the server took.
    async fn ask(
        &mut self,
        names: &Names,
        ask: &Ask,
        draft: Draft,
        plan: &mut Plan,
    ) -> Result<(), LeftInPeace> {
        let offered = self.offer(ask.opening, names, &draft).await;
        offered.sender_taken.then(|| plan.took_sender(ask.sender));
        let (mut taken, mut is_put_off) = (Vec::new(), false);
        for &recipient in &ask.recipients {
            let variant = ask.variant(recipient);
            let own = offered.said(&draft, variant, false);
            let check = offered.said(&draft, variant, true);
            // The refusal of the other domain, if that came first, counts for both.
            let refused = check.filter(|(_, said)| !said.is_yes());
            let Some((_, said)) = own.or(refused) else {
                continue;
            };
            self.attempts.push(self.attempt(variant, said));
            is_put_off |= said.sent && said.is_later();
            let mut is_whole = said.is_yes();
            if let (Some(_), Some((to, check))) = (own, check) {
                self.controls.push(Control {
                    of: self.name(variant),
                    check: Check::OtherDomain,
                    nonce: to.nonce,
                    reply: check.reply,
                    answer: None,
                });
                is_whole &= check.is_yes();
                self.other_first |= said.is_yes() && matches!(check.reply, Reply::Refused { .. });
            }
            said.is_yes().then(|| taken.push(variant));
            is_whole.then(|| plan.accepted(recipient));
        }
        if let Some(said) = offered.failed {
            self.failed(ask, said, plan)?;
        }
        if !taken.is_empty() {
            self.other_mailboxes(names, &taken).await;
        }
        // It wants no message now, and every further way would send one.
        match is_put_off || self.messages >= MAX_MESSAGES {
            true => Err(LeftInPeace),
            false => Ok(()),
        }
    }

    /// Notes that there was no connection for a transaction. A server that refuses one of our
    /// names may take another.
    fn failed(&mut self, ask: &Ask, said: Heard, plan: &Plan) -> Result<(), LeftInPeace> {
        let is_shut_out = self.lines.shut_out_after.is_some();
        // Strict servers cut off every client soon: their answers to the likeliest ways stand.
        let stands = plan.is_past_likeliest() && self.lines.are_over();
        if !is_shut_out && !stands {
            let variant = ask.variant(ask.recipients[0]);
            self.attempts.push(self.attempt(variant, said));
        }
        match is_shut_out || stands || ask.opening == Opening::Usual {
            true => Err(LeftInPeace),
            false => Ok(()),
        }
    }

    /// Checks recipients that the server took, by two kinds of mailboxes that get no mail: one of
    /// its own that cannot exist, since it may have taken ours for a local one, and ones of no
    /// domain of the canary's, since it may be in charge of those.
    async fn other_mailboxes(&mut self, names: &Names, taken: &[Variant]) {
        let brief = self.lines.examination.brief();
        let opening = taken[0].opening;
        let author = self.nonce("any mailbox", Role::Sender);
        let mut draft = Draft {
            author,
            from: names.domain().to_owned(),
            sender: match names.mail_from(taken[0].sender, author, author) {
                Some(Ok(sender)) => sender,
                _ => return,
            },
            to: Vec::new(),
            is_letter: false,
        };
        // Recipients with the same home share a check.
        let mut checks: Vec<(Option<Option<&str>>, Vec<Variant>)> = Vec::new();
        for &variant in taken {
            let home = names.home_of(variant.recipient);
            if let Some((_, variants)) = checks.iter_mut().find(|(other, _)| *other == home) {
                variants.push(variant);
                continue;
            }
            let name = format!("any mailbox of {}", self.name(variant));
            let nonce = self.nonce(&name, Role::Destination);
            for mailbox in names.no_mailboxes(variant.recipient, nonce, brief.canary.address) {
                if let Ok(command) = smtp::rcpt_to(&mailbox) {
                    checks.push((home, vec![variant]));
                    draft.to.push(Addressed::alone(variant, nonce, command));
                }
            }
        }
        if draft.to.is_empty() || self.lines.examination.is_over() {
            return;
        }
        let offered = self.offer(opening, names, &draft).await;
        for ((home, variants), (to, told)) in checks.iter().zip(draft.to.iter().zip(&offered.told))
        {
            let Some(said) = told.heard() else {
                continue;
            };
            let check = match home {
                Some(_) => Check::AnyMailbox,
                None => Check::Literal,
            };
            // Some servers take no address for a domain, and none that does not exist.
            if check == Check::Literal && !said.is_yes() && !said.denies_relaying {
                continue;
            }
            for &variant in variants {
                self.controls.push(Control {
                    of: self.name(variant),
                    check,
                    nonce: to.nonce,
                    reply: said.reply,
                    answer: None,
                });
            }
        }
    }

    /// Writes the commands of a transaction. Each recipient is checked by one at the canary's
    /// other domain, which a server in charge of the first has no business with. Returns `None`
    /// if no path can be sent.
    fn draft(&self, names: &Names, other: Option<&Names>, ask: &Ask) -> Option<Draft> {
        let first = ask.variant(*ask.recipients.first()?);
        let author = self.nonce(&self.name(first), Role::Sender);
        let mut to = Vec::new();
        for &recipient in &ask.recipients {
            let variant = ask.variant(recipient);
            let own = self.addressed(names, variant, false, After::Anything);
            let check = match (self.other_first, variant.is_plain()) {
                (true, _) => After::Anything,
                // A greylisting server lets in only mails that it has seen before.
                (false, true) => After::NotNo,
                (false, false) => After::Yes,
            };
            let check = other.and_then(|other| self.addressed(other, variant, true, check));
            match (own, check) {
                (Some(mut own), Some(check)) if self.other_first => {
                    own.rcpt.after = After::Yes;
                    to.extend([check, own]);
                }
                (Some(own), check) => to.extend(std::iter::once(own).chain(check)),
                (None, _) => {}
            }
        }
        let own = to.iter().find(|to| !to.rcpt.is_check)?.nonce;
        Some(Draft {
            sender: names.mail_from(ask.sender, author, own)?.ok()?,
            author,
            from: names.domain().to_owned(),
            to,
            is_letter: true,
        })
    }

    fn addressed(
        &self,
        names: &Names,
        variant: Variant,
        is_check: bool,
        after: After,
    ) -> Option<Addressed> {
        let domain = names.domain().to_owned();
        let name = match is_check {
            false => self.name(variant),
            true => format!("{} to {domain}", self.name(variant)),
        };
        let nonce = self.nonce(&name, Role::Destination);
        let command = names.rcpt_to(variant.recipient, nonce)?.ok()?;
        Some(Addressed {
            variant,
            nonce,
            domain,
            rcpt: Rcpt {
                command,
                after,
                is_check,
            },
        })
    }

    /// Offers a mail, over several connections if need be. Below tier `deliver` it has no message.
    async fn offer(&mut self, opening: Opening, names: &Names, draft: &Draft) -> Offered {
        let brief = self.lines.examination.brief();
        let about = self.lines.examination.about();
        let host = names.host().unwrap_or_default();
        let write = |taken: &[usize]| {
            let to = taken.iter().map(|&at| &draft.to[at]);
            let to: Vec<(Nonce, &str)> = to.map(|to| (to.nonce, to.domain.as_str())).collect();
            smtp::dot_stuffed(&letter::write(&Letter {
                to: &to,
                author: draft.author,
                domain: &draft.from,
                endpoint: brief.endpoint,
                our_name: brief.our_name,
                about: &about,
                date: Timestamp::now(),
            }))
        };
        let recipients: Vec<Rcpt> = draft.to.iter().map(|to| to.rcpt.clone()).collect();
        let mail = Mail {
            sender: &draft.sender,
            recipients: &recipients,
            message: match draft.is_letter && brief.tier >= Tier::Deliver {
                true => Some(&write),
                false => None,
            },
        };
        let mut offered = Offered {
            sender_taken: false,
            told: vec![Told::Nothing; recipients.len()],
            failed: None,
        };
        let is_open = |told: &Told| matches!(told, Told::Nothing);
        // Each turn ends with one more reply or one connection less.
        while offered.told.iter().any(is_open) && !self.is_over() {
            let mut line = match self.lines.get(opening, host).await {
                Ok(line) => line,
                Err(heard) => {
                    offered.failed = Some(heard);
                    break;
                }
            };
            let outcome = line.offer(&mail, &mut offered.told).await;
            self.lines.put_back(opening, line, outcome.connection).await;
            offered.sender_taken |= outcome.sender_taken;
            self.messages += usize::from(outcome.sent);
        }
        offered
    }

    /// Asks a server that took our mail whether it is the canary itself.
    async fn greeting(&mut self, of: String) -> Control {
        let nonce = self.nonce("greeting", Role::Destination);
        let name = format!("{nonce}.{}", self.lines.examination.brief().canary.domain);
        let how = Broken::Connect;
        let (mut reply, mut answer) = (Reply::Broken { how }, None);
        if let Ok(mut line) = self.lines.get(Opening::Usual, "").await {
            (reply, answer) = line.greet_again(&name).await;
            line.quit().await;
        }
        Control {
            of,
            check: Check::Greeting,
            nonce,
            reply,
            answer,
        }
    }

    /// Asks whether the domain's addresses for complaints take mail, and sends no message. A
    /// server that shut us out or wants a login is not asked.
    async fn role_mailboxes(&mut self, names: &Names) -> Vec<RoleMailbox> {
        let is_shut = |attempt: &Attempt| {
            matches!(
                attempt.reply,
                Reply::AuthRequired { .. } | Reply::Broken { .. }
            )
        };
        let Some(domain) = names.mail_domain() else {
            return Vec::new();
        };
        let may_ask = self.lines.examination.brief().tier >= Tier::Envelope && !self.is_over();
        if !may_ask || self.attempts.last().is_none_or(is_shut) {
            return Vec::new();
        }
        let author = self.nonce(&format!("abuse@{domain}"), Role::Sender);
        let Some(Ok(sender)) = names.mail_from(Sender::External, author, author) else {
            return Vec::new();
        };
        let addresses = ["abuse", "postmaster"].map(|mailbox| format!("{mailbox}@{domain}"));
        let commands = addresses
            .iter()
            .filter_map(|address| smtp::rcpt_to(address).ok());
        let draft = Draft {
            sender,
            author,
            from: names.domain().to_owned(),
            to: commands
                .map(|command| Addressed::alone(FIRST, author, command))
                .collect(),
            is_letter: false,
        };
        let offered = self.offer(Opening::Usual, names, &draft).await;
        let told = offered.told.iter().filter_map(|told| told.heard());
        let answered = addresses.into_iter().zip(told);
        answered
            .map(|(address, said)| RoleMailbox {
                address,
                reply: said.reply,
            })
            .collect()
    }

    fn is_over(&self) -> bool {
        let is_over = self.lines.examination.is_over() || self.lines.shut_out_after.is_some();
        is_over || self.messages >= MAX_MESSAGES
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
            is_ignored: false,
            answer: None,
            at: Timestamp::now(),
        }
    }

    fn nonce(&self, variant: &str, role: Role) -> Nonce {
        self.lines.examination.nonce(&self.id, variant, role)
    }

    fn name(&self, variant: Variant) -> String {
        self.lines.examination.named(&variant.name())
    }
}
