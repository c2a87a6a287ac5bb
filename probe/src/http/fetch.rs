//! From a request to a proof, for whatever fetches on a stranger's behalf: the ways to ask, and the control after each.

use std::time::Duration;

use ajar_model::{
    Attempt, Evidence, Nonce, ProbeId, Reply, Timestamp,
    evidence::{Broken, Control},
    nonce::Role,
    proof::{Answer, Check, Kind},
};
use tokio::time::Instant;

use super::{Http, exchange, refused, weigh_failures};
use crate::{
    codec::Injection,
    destination::{CanaryPort, Destination, Form, Plan},
    examination::Examination,
    protocol::{Probe, Protocol},
};

/// Pages in a row that a server may forbid before it is asked for no more.
const MAX_FORBIDDEN: usize = 3;

/// A way to ask for something at a destination.
pub(super) struct Way {
    /// The first half of a variant's name, such as `get` in `get:80`.
    pub(super) label: &'static str,
    /// The ways to name the canary in it, best first.
    pub(super) forms: &'static [Form],
    /// Whether it claims that we are at loopback.
    pub(super) claims: bool,
    pub(super) request: fn(&Asked<'_>) -> Result<Vec<u8>, Injection>,
}

/// The parts of a request.
pub(super) struct Asked<'a> {
    pub(super) destination: &'a Destination,
    pub(super) nonce: Nonce,
    /// Our User-Agent.
    pub(super) agent: &'a str,
    /// The host of the server itself.
    pub(super) host: &'a str,
}

impl Asked<'_> {
    /// `host:port` of the destination.
    pub(super) fn authority(&self) -> String {
        self.destination.authority()
    }

    /// The page that is asked for, without its scheme.
    pub(super) fn page(&self) -> String {
        format!("{}/{}", self.authority(), self.nonce)
    }
}

/// A probe that has one or more ways.
pub(super) trait Fetcher: Probe {
    fn ways(&self) -> &'static [Way];

    /// True if its requests are in origin form (RFC 9112 section 3.2.1), which a proxy that serves no
    /// pages does not take.
    fn asks_in_origin_form(&self) -> bool {
        false
    }

    /// What shows that a server goes where it is told. A port tells most; some follow the name alone.
    fn check(&self) -> Check {
        Check::OtherPort
    }
}

/// Tries each way until one leads to the canary, and not because everything does.
pub(super) async fn run(fetcher: &dyn Fetcher, examination: &mut Examination<'_>) -> Evidence {
    let mut fetching = Fetching {
        fetcher,
        id: fetcher.id(),
        examination,
        attempts: Vec::new(),
        controls: Vec::new(),
        patience: Duration::ZERO,
    };
    fetching.patience = fetching.examination.brief().limits.reply;
    let may_claim = fetching.examination.brief().claims;
    for way in fetcher.ways().iter().filter(|way| may_claim || !way.claims) {
        if fetching.tried(way).await || fetching.examination.is_open() {
            break;
        }
        if fetcher.asks_in_origin_form() && fetching.is_unwelcome() {
            break;
        }
    }
    let Fetching {
        examination,
        mut attempts,
        controls,
        ..
    } = fetching;
    weigh_failures(examination, &mut attempts).await;
    Evidence {
        attempts,
        controls,
        ..examination.evidence_of(&Http)
    }
}

struct Fetching<'r, 'v> {
    fetcher: &'r dyn Fetcher,
    id: ProbeId,
    examination: &'r mut Examination<'v>,
    attempts: Vec<Attempt>,
    controls: Vec<Control>,
    /// How long the next answer is awaited.
    patience: Duration,
}

impl Fetching<'_, '_> {
    /// True if nothing is left to learn: it led to the canary, or the door is shut.
    async fn tried(&mut self, way: &Way) -> bool {
        let canary = self.examination.brief().canary;
        // Another name for an open door tells nothing new.
        let forms = match self.examination.is_open() {
            true => &way.forms[..1],
            false => way.forms,
        };
        let mut plan = Plan::new(canary, &[CanaryPort::Http], forms);
        while let Some(destination) = plan.take_next() {
            let variant = self.examination.named(&variant(way, &destination));
            let (nonce, reply, answer) = self.fetch(way, &destination, &variant).await;
            let proven = answer
                .as_ref()
                .is_some_and(|answer| answer.proves(nonce, &canary.key));
            plan.answered(&destination, reply, proven);
            self.attempts.push(Attempt {
                variant: variant.clone(),
                kind: Kind::Fetch,
                nonce,
                port: Some(destination.address().port()),
                reply,
                sent: None,
                returns: false,
                turned_away: false,
                is_ignored: false,
                answer,
                at: Timestamp::now(),
            });
            if proven {
                self.check(way, &destination, variant).await;
                return true;
            }
            let how = Broken::Connect;
            if reply == (Reply::Broken { how }) || self.examination.is_over() {
                return true;
            }
        }
        false
    }

    /// Returns whether further pages are not worth a connection each: a forward proxy has said
    /// that it serves none, or a server has forbidden several in a row.
    fn is_unwelcome(&self) -> bool {
        let is_proxy = self.examination.saw_proxy();
        let said = |code| Reply::Refused { code };
        let mut last = self.attempts.iter().rev().map(|attempt| attempt.reply);
        let is_misunderstood = last.clone().next() == Some(said(400));
        let forbidden = last
            .by_ref()
            .take_while(|&reply| reply == said(403))
            .count();
        let is_forbidden = forbidden >= MAX_FORBIDDEN;
        (is_misunderstood && is_proxy)
            || (is_forbidden && (is_proxy || !self.examination.has_idle()))
    }

    /// Asks for a port or a name that does not exist. A web server in front of the canary hands
    /// that request to it as well. If the answer decides nothing, the first request is made once
    /// more.
    async fn check(&mut self, way: &Way, reached: &Destination, of: String) {
        let canary = self.examination.brief().canary;
        let check = self.fetcher.check();
        let elsewhere = match check {
            Check::OtherName => Destination::missing(canary),
            _ => Destination::unused(canary, CanaryPort::Http, reached.form()),
        };
        let control = self.control(way, &elsewhere, &of, check).await;
        if control.was_answered(&canary.key) {
            self.examination.note_forward();
        }
        let is_decided = control.is_decided();
        self.controls.push(control);
        if !is_decided {
            let again = self.control(way, reached, &of, Check::Again).await;
            self.controls.push(again);
        }
        // A server with a table of names knows neither the canary's address nor its other name.
        if check == Check::OtherName && reached.form() == Form::Name {
            let literal = Destination::new(canary, CanaryPort::Http, Form::Literal);
            let others = [Some(literal), Destination::by_other_domain(canary)];
            for other in others.into_iter().flatten() {
                let second = self.control(way, &other, &of, Check::SecondName).await;
                let is_answered = second.was_answered(&canary.key);
                self.controls.push(second);
                if is_answered {
                    break;
                }
            }
        }
    }

    async fn control(&mut self, way: &Way, asked: &Destination, of: &str, check: Check) -> Control {
        let named = self.examination.named(&variant(way, asked));
        let variant = format!("{named} {} {}", check.as_str(), asked.domain());
        let (nonce, reply, answer) = self.fetch(way, asked, &variant).await;
        Control {
            of: of.to_owned(),
            check,
            nonce,
            reply,
            answer,
        }
    }

    async fn fetch(
        &mut self,
        way: &Way,
        destination: &Destination,
        variant: &str,
    ) -> (Nonce, Reply, Option<Answer>) {
        let nonce = self.examination.nonce(&self.id, variant, Role::Destination);
        let fetched = self.try_fetch(way, destination, nonce).await;
        if let Err(Broken::TimedOut) = fetched {
            self.patience = self.examination.after_silence(self.patience);
        }
        let (reply, answer) = fetched.unwrap_or_else(|how| (Reply::Broken { how }, None));
        (nonce, reply, answer)
    }

    /// A success without an answer is the server's own page: it refused to fetch ours.
    async fn try_fetch(
        &mut self,
        way: &Way,
        destination: &Destination,
        nonce: Nonce,
    ) -> Result<(Reply, Option<Answer>), Broken> {
        let examination = &mut *self.examination;
        let request = (way.request)(&Asked {
            destination,
            nonce,
            agent: &examination.agent(),
            host: &examination.host(),
        });
        let request = request.map_err(|_| Broken::Garbled)?;
        let (mut wire, head) = exchange::ask(examination, &request, self.patience).await?;
        let code = head.status;
        if code / 100 != 2 {
            exchange::read_out(&mut wire, &head).await;
            examination.keep_idle(&Http.service(), wire);
            return Ok((refused(&head, destination.form()), None));
        }
        let (asked, wait) = (Instant::now(), examination.answer_wait());
        let answer = exchange::finish(examination, wire, &head, wait).await;
        let reply = match answer {
            Some(_) => Reply::Accepted { code },
            None => Reply::Refused { code },
        };
        if answer.is_none() && asked.elapsed() >= wait {
            examination.note_hollow();
        }
        Ok((reply, answer))
    }
}

fn variant(way: &Way, destination: &Destination) -> String {
    let (label, port) = (way.label, destination.address().port());
    match destination.form() {
        Form::Literal => format!("{label}:{port}"),
        Form::Name => format!("{label}-name:{port}"),
    }
}
