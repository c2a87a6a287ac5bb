//! One connection to a mail server, from its greeting to QUIT.

use ajar_model::{Reply, evidence::Broken, proof::Answer};

use super::{codec as smtp, parsed, plan::Offered, turned_away, wait};
use crate::{tls::Peer, wire::Wire};

/// A connection on which the server has taken our greeting.
pub(super) struct Line {
    wire: Wire,
    host: String,
    offered: Offered,
    refusals: usize,
    transactions: usize,
    turned_away: bool,
    cut: bool,
}

/// How we introduce ourselves.
pub(super) struct Introduction<'a> {
    pub(super) name: &'a str,
    /// Whom a TLS handshake asks for.
    pub(super) peer: Peer,
    /// Whether STARTTLS is used if it is offered.
    pub(super) starttls: bool,
    /// Whether loopback is claimed by XCLIENT.
    pub(super) xclient: bool,
}

/// Why a connection did not get past the greetings.
pub(super) enum Failure {
    /// The server said no, or later.
    Said(smtp::Reply),
    Broke(Broken),
    /// STARTTLS was offered and agreed, and the handshake failed: without it there may be a way.
    Starttls,
}

impl From<Broken> for Failure {
    fn from(how: Broken) -> Self {
        Self::Broke(how)
    }
}

/// One mail, as commands. Without a message it ends at RCPT.
pub(super) struct Mail {
    pub(super) sender: Vec<u8>,
    pub(super) recipient: Vec<u8>,
    pub(super) message: Option<Vec<u8>>,
}

/// How far one mail got.
pub(super) struct Outcome {
    /// The reply at the furthest step.
    pub(super) reply: Reply,
    /// The server took the sender.
    pub(super) sender_taken: bool,
    /// The message was sent, so the mail must not be repeated.
    pub(super) sent: bool,
    /// The last refusal was of us: see [`turned_away`].
    pub(super) turned_away: bool,
    /// What became of the connection.
    pub(super) connection: Connection,
}

impl Outcome {
    /// True if the server took all of the mail that was offered.
    pub(super) fn is_accepted(&self) -> bool {
        matches!(self.reply, Reply::Accepted { .. })
    }
}

/// What a connection is good for after a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    /// Another mail.
    Good,
    /// Taking leave: the server does not forget the last mail.
    Stuck,
    /// Nothing.
    Cut,
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
            transactions: 0,
            turned_away: false,
            cut: false,
        };
        let banner = match banner {
            Some(banner) => banner,
            None => line.hear(2).await?,
        };
        if !banner.is_positive() {
            line.quit().await;
            return Err(Failure::Said(banner));
        }
        let mut hello = line.hello(introduction.name).await?;
        let name = [&banner, &hello].map(smtp::Reply::first_word);
        line.host = name
            .into_iter()
            .find(|name| name.contains('.'))
            .unwrap_or("")
            .to_owned();
        let starttls = !line.wire.is_tls() && hello.offers("STARTTLS");
        if introduction.starttls
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

    /// True inside TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.wire.is_tls()
    }

    /// Mails that were tried on it.
    pub(super) fn transactions(&self) -> usize {
        self.transactions
    }

    /// Commands that it refused.
    pub(super) fn refusals(&self) -> usize {
        self.refusals
    }

    /// Offers one mail, and leaves the connection ready for the next.
    pub(super) async fn offer(&mut self, mail: &Mail) -> Outcome {
        self.transactions += 1;
        self.turned_away = false;
        let mut outcome = self.transact(mail).await;
        outcome.turned_away = self.turned_away;
        outcome.connection = match (self.cut, outcome.sender_taken && !outcome.sent) {
            (true, _) => Connection::Cut,
            (false, false) => Connection::Good,
            (false, true) => self.reset().await,
        };
        outcome
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

    async fn reset(&mut self) -> Connection {
        match self.say(smtp::RSET).await {
            Ok(reply) if reply.is_positive() => Connection::Good,
            Ok(_) => Connection::Stuck,
            Err(_) => Connection::Cut,
        }
    }

    async fn transact(&mut self, mail: &Mail) -> Outcome {
        let mut outcome = Outcome {
            reply: Reply::Broken {
                how: Broken::Closed,
            },
            sender_taken: false,
            sent: false,
            turned_away: false,
            connection: Connection::Good,
        };
        outcome.reply = self.step(&mail.sender, 2).await;
        if !outcome.is_accepted() {
            return outcome;
        }
        outcome.sender_taken = true;
        outcome.reply = self.step(&mail.recipient, 2).await;
        let (Reply::Accepted { .. }, Some(message)) = (outcome.reply, &mail.message) else {
            return outcome;
        };
        outcome.reply = self.step(smtp::DATA, 3).await;
        if let Reply::Accepted { .. } = outcome.reply {
            outcome.sent = true;
            outcome.reply = self.hand_over(message).await;
        }
        outcome
    }

    /// Sends the message, and waits three times as long as for other replies. RFC 5321 section
    /// 4.5.3.2.6 allows ten minutes, but the visit must have time for the checks.
    async fn hand_over(&mut self, message: &[u8]) -> Reply {
        let wait = self.wire.limits().reply;
        self.wire.set_patience(wait * 3);
        let reply = self.step(message, 2).await;
        self.wire.set_patience(wait);
        reply
    }

    /// Says something that is answered by a code of the class `yes`.
    async fn step(&mut self, words: &[u8], yes: u16) -> Reply {
        match self.say(words).await {
            Ok(reply) if reply.code / 100 == yes => Reply::Accepted { code: reply.code },
            Ok(reply) => {
                self.refusals += 1;
                self.turned_away = is_turned_away(&reply);
                // After a yes of another class nobody knows whose turn it is.
                self.cut = reply.code == 421 || reply.code < 400;
                refusal(&reply)
            }
            Err(how) => {
                self.cut = true;
                Reply::Broken { how }
            }
        }
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
        let shaken = self.wire.secure(introduction.peer.clone()).await;
        shaken.map_err(|_| Failure::Starttls)?;
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
        self.wire.send(words).await?;
        self.hear(1).await
    }

    /// Waits for a reply, `patience` times as long as for a usual one.
    async fn hear(&mut self, patience: u32) -> Result<smtp::Reply, Broken> {
        let limits = *self.wire.limits();
        let parse = |bytes: &[u8]| smtp::Reply::parse(bytes, limits.line);
        let reply = self.wire.frame(limits.reply * patience, parse).await?;
        if reply.code / 100 == 4
            && let Some(wait) = wait::stated(&reply.lines.join(" "))
        {
            self.wire.note_wait(wait);
        }
        Ok(reply)
    }
}

/// What a reply means that is not the one that was hoped for.
pub(super) fn refusal(reply: &smtp::Reply) -> Reply {
    let code = reply.code;
    match code {
        // RFC 3207 section 4: it wants TLS first, not credentials.
        530 if reply.mentions("STARTTLS") => Reply::Broken { how: Broken::Tls },
        530 | 534 | 535 | 538 => Reply::AuthRequired { code },
        400..=499 if is_about_names(reply) || is_about_relaying(reply) => Reply::Refused { code },
        400..=499 => Reply::Temporary { code },
        500..=599 => Reply::Refused { code },
        _ => Reply::Broken {
            how: Broken::Garbled,
        },
    }
}

/// Returns whether a server refuses us, and not to relay.
pub(super) fn is_turned_away(reply: &smtp::Reply) -> bool {
    let is_refusal = matches!(
        refusal(reply),
        Reply::Refused { .. } | Reply::Temporary { .. }
    );
    is_refusal && !is_about_relaying(reply) && turned_away::is_of_us(reply)
}

/// True if the server cannot find the domain of the sender or of the recipient, or dislikes how the sender is written (RFC 3463
/// section 3.2: X.1.2, X.1.7, X.1.8). Servers call that temporary, since it may be the DNS; the domain that does not exist today
/// will not exist later either.
fn is_about_names(reply: &smtp::Reply) -> bool {
    matches!(reply.enhanced, Some([4, 1, 2 | 7 | 8]))
}

/// True if a server will not relay, and says so in a way that lets mail wait for its operator to mend that: Postfix as it comes
/// (defer_unauth_destination), or with soft_bounce, Sendmail for clients whose names it cannot look up.
fn is_about_relaying(reply: &smtp::Reply) -> bool {
    let mut refusals = ["denied", "not permitted", "not allowed", "prohibited"].iter();
    reply.mentions("relay") && refusals.any(|word| reply.mentions(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_weighed_by_its_code() {
        let check = |code: u16, text: &str, expect: Reply| {
            let reply = smtp::Reply {
                code,
                enhanced: smtp::enhanced(text),
                lines: vec![text.to_owned()],
            };
            assert_eq!(refusal(&reply), expect, "{code} {text}");
        };
        check(
            530,
            "5.7.0 Authentication required",
            Reply::AuthRequired { code: 530 },
        );
        check(535, "", Reply::AuthRequired { code: 535 });
        check(
            530,
            "5.7.0 Must issue a STARTTLS command first",
            Reply::Broken { how: Broken::Tls },
        );
        check(450, "greylisted", Reply::Temporary { code: 450 });
        check(421, "", Reply::Temporary { code: 421 });
        check(
            450,
            "4.1.8 sender's domain not found",
            Reply::Refused { code: 450 },
        );
        check(
            450,
            "4.1.1 verification in progress",
            Reply::Temporary { code: 450 },
        );
        check(
            454,
            "4.7.1 <u@canary.test>: Relay access denied",
            Reply::Refused { code: 454 },
        );
        check(
            450,
            "4.7.1 <u@canary.test>... Relaying temporarily denied. Cannot resolve PTR record",
            Reply::Refused { code: 450 },
        );
        check(
            454,
            "4.7.0 TLS not available",
            Reply::Temporary { code: 454 },
        );
        check(550, "5.7.1 relaying denied", Reply::Refused { code: 550 });
        check(
            250,
            "out of turn",
            Reply::Broken {
                how: Broken::Garbled,
            },
        );
        check(
            354,
            "out of turn",
            Reply::Broken {
                how: Broken::Garbled,
            },
        );
    }
}
