//! One connection to a mail server, from its greeting to QUIT.

use std::time::Duration;

use ajar_model::{Reply, evidence::Broken, proof::Answer};
use tokio::time::Instant;

use super::{
    codec as smtp,
    heard::Heard,
    mail::{Connection, Mail, Outcome, Told},
    parsed,
    plan::Offered,
    wait,
    weigh::{is_about_relaying, is_full, is_turned_away, refusal},
};
use crate::{tls::Peer, wire::Wire};

/// Refusals on one connection before another one is opened. Postfix makes clients wait after ten
/// (smtpd_soft_error_limit) and cuts them off after twenty.
const MAX_REFUSALS: usize = 10;

/// Mails that we take back on one connection. Exim cuts off clients after ten commands that belong
/// to no mail (smtp_accept_max_nonmail).
const MAX_RESETS: usize = 9;

/// A yes after refusals that takes longer is a punishment for them (Postfix:
/// smtpd_error_sleep_time). A new connection is quicker.
const LATE: Duration = Duration::from_secs(2);

/// A connection on which the server has taken our greeting.
pub(super) struct Line {
    wire: Wire,
    host: String,
    offered: Offered,
    refusals: usize,
    resets: usize,
    transactions: usize,
    /// We have begun a mail that the server still remembers.
    has_begun: bool,
    /// How long the server took to answer the first greeting.
    greeted_in: Duration,
    /// The server makes us wait for each yes, after refusals on this connection.
    is_tarpit: bool,
    cut: bool,
}

/// How we introduce ourselves.
pub(super) struct Introduction<'a> {
    pub(super) name: &'a str,
    /// Whom a TLS handshake asks for.
    pub(super) peer: Peer,
    /// Whether STARTTLS is used if it is offered.
    pub(super) starttls: StartTls,
    /// Whether loopback is claimed by XCLIENT.
    pub(super) xclient: bool,
}

/// Why a connection did not get past the greetings.
pub(super) enum Failure {
    /// The server said no, or later.
    Said(smtp::Reply),
    Broke(Broken),
    /// STARTTLS was offered and agreed, and the handshake failed: without it there may be a way.
    Starttls(Broken),
}

/// How STARTTLS is used if it is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartTls {
    /// By the versions of today.
    Modern,
    /// By older ones: see [`crate::old_tls`].
    Old,
    Never,
}

impl From<Broken> for Failure {
    fn from(how: Broken) -> Self {
        Self::Broke(how)
    }
}

impl Line {
    /// Waits for the banner unless it was heard before, and exchanges greetings: EHLO, then STARTTLS and EHLO again
    /// if it is offered, or HELO if EHLO is unknown.
    pub(super) async fn greet(
        mut wire: Wire,
        introduction: &Introduction<'_>,
    ) -> Result<Self, Failure> {
        let banner = wire.take_greeting().and_then(|bytes| parsed(&bytes));
        let mut line = Self {
            wire,
            host: String::new(),
            offered: Offered::default(),
            refusals: 0,
            resets: 0,
            transactions: 0,
            has_begun: false,
            greeted_in: Duration::ZERO,
            is_tarpit: false,
            cut: false,
        };
        let banner = match banner {
            Some(banner) => banner,
            None => {
                let patience = line.wire.limits().greeting;
                line.hear(patience).await?
            }
        };
        if !banner.is_positive() {
            line.quit().await;
            return Err(Failure::Said(banner));
        }
        let asked = Instant::now();
        let mut hello = line.hello(introduction.name).await?;
        line.greeted_in = asked.elapsed();
        let name = [&banner, &hello].map(smtp::Reply::first_word);
        line.host = name
            .into_iter()
            .find(|name| name.contains('.'))
            .unwrap_or("")
            .to_owned();
        let starttls = !line.wire.is_tls() && hello.offers("STARTTLS");
        if introduction.starttls != StartTls::Never
            && starttls
            && let Some(inside) = line.starttls(introduction).await?
        {
            hello = inside;
        }
        if introduction.xclient {
            hello = line.claim_loopback(introduction).await?;
        }
        line.offered = Offered {
            starttls,
            smtputf8: hello.offers("SMTPUTF8"),
            xclient: hello.offers("XCLIENT"),
            asks_who: line.wire.asks_who(),
        };
        Ok(line)
    }

    /// What the server offers us.
    pub(super) fn offered(&self) -> Offered {
        self.offered
    }

    /// What the server calls itself, in its own words.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Returns the host names in the server's certificate.
    pub(super) fn certified_as(&self) -> &[String] {
        self.wire.certified_as()
    }

    /// True inside TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.wire.is_tls()
    }

    /// Commands that it refused.
    pub(super) fn refusals(&self) -> usize {
        self.refusals
    }

    /// Offers one mail to its recipients that have no reply so far. If the server cuts us off, the
    /// recipient in question keeps no reply, unless it was the first on this connection. The next
    /// mail takes a refused one back.
    pub(super) async fn offer(&mut self, mail: &Mail<'_>, told: &mut [Told]) -> Outcome {
        let mut outcome = Outcome {
            sender_taken: false,
            sent: false,
            connection: Connection::Good,
        };
        if self.has_begun {
            outcome.connection = self.reset().await;
        }
        if outcome.connection != Connection::Good {
            return outcome;
        }
        self.transactions += 1;
        let last = self.transact(mail, told, &mut outcome).await;
        self.has_begun = outcome.sender_taken && !outcome.sent;
        if self.cut && !outcome.sent && (self.transactions > 1 || last.is_some_and(|at| at > 0)) {
            take_back(told, last);
        }
        outcome.connection = match self.cut {
            true => Connection::Cut,
            false if self.is_spent() => Connection::Spent,
            false => Connection::Good,
        };
        outcome
    }

    /// Greets by another name on the same connection (RFC 5321 section 4.1.4). That also takes a
    /// mail back. Returns whether the server agrees.
    pub(super) async fn introduce(&mut self, name: &str) -> bool {
        let Ok(ehlo) = smtp::ehlo(name) else {
            return false;
        };
        let said = self.say(&ehlo).await;
        self.has_begun = false;
        said.is_ok_and(|reply| reply.is_positive())
    }

    /// Greets once more by another name (RFC 5321 section 4.1.4), and keeps the canary's answer if one is among the reply.
    pub(super) async fn greet_again(&mut self, name: &str) -> (Reply, Option<Answer>) {
        let greeted = async {
            let ehlo = smtp::ehlo(name).map_err(|_| Broken::Garbled)?;
            self.say(&ehlo).await
        };
        match greeted.await {
            Ok(reply) => {
                let answer = Answer::find(reply.lines.join("\n").as_bytes());
                let code = reply.code;
                let reply = match reply.is_positive() {
                    true => Reply::Accepted { code },
                    false => refusal(&reply),
                };
                (reply, answer)
            }
            Err(how) => (Reply::Broken { how }, None),
        }
    }

    fn is_spent(&self) -> bool {
        self.refusals >= MAX_REFUSALS || self.resets >= MAX_RESETS || self.is_tarpit
    }

    async fn reset(&mut self) -> Connection {
        self.resets += 1;
        self.has_begun = false;
        match self.say(smtp::RSET).await {
            Ok(reply) if reply.is_positive() => Connection::Good,
            Ok(_) => Connection::Spent,
            Err(_) => Connection::Cut,
        }
    }

    /// Says the commands of a mail. Returns the index of the recipient that it asked for last.
    async fn transact(
        &mut self,
        mail: &Mail<'_>,
        told: &mut [Told],
        outcome: &mut Outcome,
    ) -> Option<usize> {
        let is_open = |told: &Told| matches!(told, Told::Nothing);
        let first = told.iter().position(is_open)?;
        let sender = self.step(mail.sender, 2).await;
        outcome.sender_taken = sender.is_yes();
        if !outcome.sender_taken {
            told[first] = Told::Said(sender);
            told.iter_mut()
                .filter(|told| is_open(told))
                .for_each(|told| *told = Told::Skipped);
            return Some(first);
        }
        let (mut taken, mut last) = (Vec::new(), None);
        for (at, rcpt) in mail.recipients.iter().enumerate() {
            if !is_open(&told[at]) {
                continue;
            }
            let before = at.checked_sub(1).and_then(|before| told[before].heard());
            if !rcpt.after.allows(before) {
                told[at] = Told::Skipped;
                continue;
            }
            if self.cut || self.is_spent() {
                break;
            }
            let heard = self.step(&rcpt.command, 2).await;
            if is_full(heard.reply) && !taken.is_empty() {
                break;
            }
            heard.is_yes().then(|| taken.push(at));
            told[at] = Told::Said(heard);
            last = Some(at);
        }
        let was_sent = |told: &Told| told.heard().is_some_and(|heard| heard.sent);
        let is_worth_it = taken.iter().any(|&at| !mail.recipients[at].is_check);
        let is_worth_it = is_worth_it || told.iter().any(was_sent);
        let Some(message) = mail
            .message
            .filter(|_| is_worth_it && !taken.is_empty() && !self.cut)
        else {
            return last;
        };
        let mut heard = self.step(smtp::DATA, 3).await;
        if heard.is_yes() {
            outcome.sent = true;
            heard = self.hand_over(&message(&taken)).await;
            heard.sent = true;
        }
        for at in taken {
            told[at] = Told::Said(heard);
        }
        last
    }

    /// Sends the message, and waits three times as long as for other replies. RFC 5321 section
    /// 4.5.3.2.6 allows ten minutes, but the visit must have time for the checks.
    async fn hand_over(&mut self, message: &[u8]) -> Heard {
        let wait = self.wire.limits().reply;
        self.wire.set_patience(wait * 3);
        let heard = self.step(message, 2).await;
        self.wire.set_patience(wait);
        heard
    }

    /// Says something that is answered by a code of the class `yes`.
    async fn step(&mut self, words: &[u8], yes: u16) -> Heard {
        match self.say(words).await {
            Ok(reply) if reply.code / 100 == yes => Reply::Accepted { code: reply.code }.into(),
            Ok(reply) => {
                self.refusals += 1;
                // After a yes of another class nobody knows whose turn it is.
                self.cut = reply.code == 421 || reply.code < 400;
                Heard {
                    turned_away: is_turned_away(&reply),
                    denies_relaying: is_about_relaying(&reply),
                    ..Heard::from(refusal(&reply))
                }
            }
            Err(how) => {
                self.cut = true;
                Reply::Broken { how }.into()
            }
        }
    }

    /// Returns whether the server makes us wait for each yes, after refusals.
    pub(super) fn is_tarpit(&self) -> bool {
        self.is_tarpit
    }

    /// Takes leave, and does not wait for the answer.
    pub(super) async fn quit_at_once(mut self) {
        let _ = self.wire.send(smtp::QUIT).await;
    }

    /// Takes leave in due form, so that the server does not log a lost connection.
    pub(super) async fn quit(mut self) {
        if self.wire.send(smtp::QUIT).await.is_ok() {
            let max_line = self.wire.limits().line;
            let wait = self.wire.limits().reply / 3;
            let _ = self
                .wire
                .frame(wait, |bytes| smtp::Reply::parse(bytes, max_line))
                .await;
        }
    }

    async fn hello(&mut self, name: &str) -> Result<smtp::Reply, Failure> {
        let ehlo = smtp::ehlo(name).map_err(|_| Broken::Garbled)?;
        let mut reply = self.say(&ehlo).await?;
        if !reply.is_positive() && reply.code != 421 {
            let helo = smtp::helo(name).map_err(|_| Broken::Garbled)?;
            reply = self.say(&helo).await?;
        }
        match reply.is_positive() {
            true => Ok(reply),
            false => Err(Failure::Said(reply)),
        }
    }

    /// The greeting inside TLS; none if the server changed its mind.
    async fn starttls(
        &mut self,
        introduction: &Introduction<'_>,
    ) -> Result<Option<smtp::Reply>, Failure> {
        let agreed = self.say(smtp::STARTTLS).await?;
        if !agreed.is_positive() {
            return Ok(None);
        }
        let shaken = match introduction.starttls {
            StartTls::Old => self.wire.secure_by_old(&introduction.peer).await,
            _ => self.wire.secure(introduction.peer.clone()).await,
        };
        shaken.map_err(Failure::Starttls)?;
        self.hello(introduction.name).await.map(Some)
    }

    /// A server that believes us greets us anew.
    async fn claim_loopback(
        &mut self,
        introduction: &Introduction<'_>,
    ) -> Result<smtp::Reply, Failure> {
        let believed = self.say(smtp::XCLIENT).await?;
        match believed.is_positive() {
            true => self.hello(introduction.name).await,
            false => Err(Failure::Said(believed)),
        }
    }

    async fn say(&mut self, words: &[u8]) -> Result<smtp::Reply, Broken> {
        let asked = Instant::now();
        self.wire.send(words).await?;
        let patience = self.wire.limits().reply;
        let reply = self.hear(patience).await?;
        let is_late = asked.elapsed() > LATE.max(self.greeted_in * 2);
        self.is_tarpit |= is_late && self.refusals > 0 && reply.is_positive();
        Ok(reply)
    }

    async fn hear(&mut self, patience: Duration) -> Result<smtp::Reply, Broken> {
        let max_line = self.wire.limits().line;
        let parse = |bytes: &[u8]| smtp::Reply::parse(bytes, max_line);
        let reply = self.wire.frame(patience, parse).await?;
        if reply.code / 100 == 4
            && let Some(wait) = wait::stated(&reply.lines.join(" "))
        {
            self.wire.note_wait(wait);
        }
        Ok(reply)
    }
}

/// Forgets the replies to recipients that got no message, and to the last one before the cut.
fn take_back(told: &mut [Told], last: Option<usize>) {
    for at in 0..told.len() {
        let is_lost = told[at]
            .heard()
            .is_some_and(|heard| heard.is_yes() && !heard.sent);
        let depends =
            matches!(told[at], Told::Skipped) && at > 0 && matches!(told[at - 1], Told::Nothing);
        if is_lost || depends || last == Some(at) {
            told[at] = Told::Nothing;
        }
    }
}
