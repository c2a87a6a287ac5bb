//! From a proxy's yes to a proof: what is said through a tunnel, whichever protocol opened it.

use std::time::Duration;

use ajar_model::{
    Attempt, Canary, Evidence, Nonce, Reply, Tier, Timestamp,
    evidence::{Broken, Control},
    nonce::Role,
    proof::{Answer, Check, Kind, MAX_ANSWER},
};
use futures::future::BoxFuture;

use crate::{
    codec::{self, Parsed},
    destination::{CanaryPort, Destination, Form, Plan},
    examination::Examination,
    http::codec as http,
    protocol::{Answered, Asking, Probe},
    smtp::codec as smtp,
    tls::Peer,
    wire::Wire,
};

/// Every port of the canary, most telling first.
pub(crate) const CANARY_PORTS: &[CanaryPort] = &[
    CanaryPort::Http,
    CanaryPort::Https,
    CanaryPort::Smtp,
    CanaryPort::Raw,
];

/// A probe of a protocol that opens tunnels.
pub(crate) trait Gateway: Probe {
    /// True if credentials are asked for before the destination is heard.
    fn asks_who_first(&self) -> bool {
        false
    }

    /// The ways to name the canary that the protocol has, best first.
    fn forms(&self, _canary: &Canary) -> &'static [Form] {
        &[Form::Literal, Form::Name]
    }

    /// The first half of a variant's name, such as `connect` in `connect:80`.
    fn label(&self, form: Form) -> &'static str;

    /// What it means that an endpoint which speaks the protocol hangs up on the request.
    fn hung_up(&self) -> Reply {
        let how = Broken::Closed;
        Reply::Broken { how }
    }

    /// True if this says that it opens no tunnels, whatever the destination.
    fn knows_no_tunnels(&self, _reply: Reply) -> bool {
        false
    }

    /// Asks for a tunnel. [`Reply::Accepted`] means that one is open, and that what is unread came through it.
    fn ask<'a>(
        &'a self,
        wire: &'a mut Wire,
        destination: &'a Destination,
        agent: &'a str,
    ) -> BoxFuture<'a, Result<Reply, Broken>>;
}

/// The first destination that [`run`] asks for; recognition asks for the same, and its answer is used.
pub(crate) fn first_destination(gateway: &dyn Gateway, canary: &Canary) -> Option<Destination> {
    Plan::new(canary, CANARY_PORTS, gateway.forms(canary)).take_next()
}

/// True if recognition may make the request that [`run`] begins with: a tunnel may be opened, and is asked for.
pub(crate) fn may_offer(gateway: &dyn Gateway, asking: &Asking<'_>) -> bool {
    asking.brief.tier >= Tier::Deliver && asking.wants_probe(&gateway.id())
}

/// Offers an endpoint the request that [`run`] begins with.
pub(crate) async fn offer(
    gateway: &dyn Gateway,
    wire: &mut Wire,
    asking: &Asking<'_>,
) -> Result<Answered, Broken> {
    let destination = first_destination(gateway, asking.brief.canary).ok_or(Broken::Garbled)?;
    let reply = gateway.ask(wire, &destination, &asking.agent).await?;
    Ok(Answered::Probe(gateway.id(), reply))
}

/// Asks for every destination, and sends a nonce through each tunnel that opens.
pub(crate) async fn run(gateway: &dyn Gateway, examination: &mut Examination<'_>) -> Evidence {
    let (attempts, controls) = tried(gateway, examination).await;
    Evidence {
        attempts,
        controls,
        ..examination.evidence_of(gateway.protocol())
    }
}

/// What came of that.
pub(crate) async fn tried(
    gateway: &dyn Gateway,
    examination: &mut Examination<'_>,
) -> (Vec<Attempt>, Vec<Control>) {
    let canary = examination.brief().canary;
    let id = gateway.id();
    let mut plan = Plan::new(canary, CANARY_PORTS, gateway.forms(canary));
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut reached: Vec<(String, Destination)> = Vec::new();
    let mut patience = examination.brief().limits.reply;
    let mut hollow: Option<(usize, Destination)> = None;
    while let Some(destination) = plan.take_next() {
        let variant = examination.named(&variant(gateway, &destination));
        let nonce = examination.nonce(&id, &variant, Role::Destination);
        let (reply, answer) = attempt(gateway, examination, &destination, nonce, patience).await;
        match (reply, &answer) {
            (Reply::Accepted { .. }, None) => {
                examination.note_hollow();
                hollow.get_or_insert((attempts.len(), destination.clone()));
            }
            (
                Reply::Broken {
                    how: Broken::TimedOut,
                },
                _,
            ) => {
                patience = examination.after_silence(patience);
            }
            _ => {}
        }
        let proven = answer
            .as_ref()
            .is_some_and(|answer| answer.proves(nonce, &canary.key));
        let mut hopeless = is_hopeless(reply, gateway);
        if gateway.knows_no_tunnels(reply) {
            // Another port may be another matter, another name for the same one is not.
            let before = attempts.last().map(|attempt| attempt.reply);
            hopeless |= before == Some(reply);
            plan.keep_to_one_form();
        }
        // Both names were as little understood: so would other ports be.
        let is_not_understood = matches!(reply, Reply::Refused { code: 400 | 404 });
        let before = attempts.last().map(|attempt| attempt.reply);
        hopeless |=
            gateway.protocol().has_plain_servers() && is_not_understood && before == Some(reply);
        plan.answered(&destination, reply, proven);
        if proven {
            reached.push((variant.clone(), destination.clone()));
        }
        attempts.push(attempted(variant, nonce, &destination, reply, answer));
        if hopeless || examination.is_over() {
            break;
        }
    }
    if let (true, Some((at, destination))) = (reached.is_empty(), hollow) {
        let of = attempts[at].variant.clone();
        if let Some(again) = ask_patiently(gateway, examination, &of, &destination).await {
            let mut answer = again.answer.iter();
            if answer.any(|answer| answer.proves(again.nonce, &canary.key)) {
                reached.push((of, destination));
            }
            attempts[at] = again;
        }
    }
    let mut controls = Vec::new();
    if let Some((of, destination)) = only(&reached) {
        let control = control(gateway, examination, of, destination).await;
        if control.was_answered(&canary.key) {
            // Whatever it said before: it is no proxy.
            examination.note_forward();
        }
        let is_decided = control.is_decided();
        controls.push(control);
        if !is_decided {
            controls.push(again(gateway, examination, of, destination).await);
        }
    }
    (attempts, controls)
}

/// Asks once more for a tunnel that opened and led nowhere, and waits longer for the canary: some
/// proxies say yes before they are connected to a far exit. Returns the attempt if it was
/// answered.
async fn ask_patiently(
    gateway: &dyn Gateway,
    examination: &mut Examination<'_>,
    of: &str,
    destination: &Destination,
) -> Option<Attempt> {
    let nonce = examination.nonce(&gateway.id(), &format!("{of} again"), Role::Destination);
    let patience = examination.brief().limits.reply * 2;
    let (wire, reply) = ask(gateway, examination, destination, patience)
        .await
        .ok()?;
    if !matches!(reply, Reply::Accepted { .. }) {
        return None;
    }
    let agent = examination.agent();
    let answer = prove(wire, destination, nonce, &agent, patience).await?;
    Some(attempted(
        of.to_owned(),
        nonce,
        destination,
        reply,
        Some(answer),
    ))
}

/// An attempt to have traffic passed on, which ended now.
pub(crate) fn attempted(
    variant: String,
    nonce: Nonce,
    destination: &Destination,
    reply: Reply,
    answer: Option<Answer>,
) -> Attempt {
    Attempt {
        variant,
        kind: Kind::Tunnel,
        nonce,
        port: Some(destination.address().port()),
        reply,
        sent: None,
        returns: false,
        turned_away: false,
        is_ignored: false,
        answer,
        at: Timestamp::now(),
    }
}

fn variant(gateway: &dyn Gateway, destination: &Destination) -> String {
    let label = gateway.label(destination.form());
    format!("{label}:{}", destination.address().port())
}

/// What was reached, if that was one port of the canary alone.
fn only(reached: &[(String, Destination)]) -> Option<&(String, Destination)> {
    let first = reached.first()?;
    let mut ports = reached
        .iter()
        .map(|(_, destination)| destination.canary_port());
    ports
        .all(|port| port == first.1.canary_port())
        .then_some(first)
}

/// Asks for a tunnel to where the canary is not. Whoever reaches several of its ports goes where it is told; whoever reaches one
/// may have no other way to go, and say yes to everything: a web server in front of the canary answers CONNECT by the
/// canary's front page, and reads what we say in the tunnel as a further request.
async fn control(
    gateway: &dyn Gateway,
    examination: &mut Examination<'_>,
    of: &str,
    reached: &Destination,
) -> Control {
    let canary = examination.brief().canary;
    let unused = Destination::unused(canary, reached.canary_port(), reached.form());
    let variant = examination.named(&variant(gateway, &unused));
    let nonce = examination.nonce(&gateway.id(), &variant, Role::Destination);
    let patience = examination.brief().limits.reply;
    let (reply, answer) = attempt(gateway, examination, &unused, nonce, patience).await;
    Control {
        of: of.to_owned(),
        check: Check::OtherPort,
        nonce,
        reply,
        answer,
    }
}

/// Makes the first request once more. An endpoint that refuses it now would have refused the
/// control whatever it asked for.
async fn again(
    gateway: &dyn Gateway,
    examination: &mut Examination<'_>,
    of: &str,
    reached: &Destination,
) -> Control {
    let variant = format!("{of} again");
    let nonce = examination.nonce(&gateway.id(), &variant, Role::Destination);
    let patience = examination.brief().limits.reply;
    let (reply, answer) = attempt(gateway, examination, reached, nonce, patience).await;
    Control {
        of: of.to_owned(),
        check: Check::Again,
        nonce,
        reply,
        answer,
    }
}

/// True if no other destination can fare better: the door is shut, or a password is wanted before it is heard where to.
fn is_hopeless(reply: Reply, gateway: &dyn Gateway) -> bool {
    match reply {
        Reply::Broken { how } => how == Broken::Connect,
        Reply::AuthRequired { .. } => gateway.asks_who_first(),
        _ => false,
    }
}

async fn attempt(
    gateway: &dyn Gateway,
    examination: &mut Examination<'_>,
    destination: &Destination,
    nonce: Nonce,
    patience: Duration,
) -> (Reply, Option<Answer>) {
    let asked = match examination.take_asked(&gateway.id()) {
        Some(asked) => Ok(asked),
        None => ask(gateway, examination, destination, patience).await,
    };
    match asked {
        Ok((wire, reply @ Reply::Accepted { .. })) => {
            let agent = examination.agent();
            let wait = examination.answer_wait();
            let answer = prove(wire, destination, nonce, &agent, wait);
            (reply, answer.await)
        }
        Ok((wire, reply)) => {
            examination.keep_idle(&gateway.protocol().service(), wire);
            (reply, None)
        }
        Err(Broken::Closed) => (gateway.hung_up(), None),
        Err(how) => (Reply::Broken { how }, None),
    }
}

async fn ask(
    gateway: &dyn Gateway,
    examination: &mut Examination<'_>,
    destination: &Destination,
    patience: Duration,
) -> Result<(Wire, Reply), Broken> {
    let agent = examination.agent();
    let mut wire = examination.open(gateway.protocol()).await?;
    wire.set_patience(patience);
    let mut asked = gateway.ask(&mut wire, destination, &agent).await;
    if wire.has_served() && matches!(asked, Err(Broken::Closed | Broken::Garbled)) {
        // It had served before, and may have been closed since.
        wire = examination.open(gateway.protocol()).await?;
        wire.set_patience(patience);
        asked = gateway.ask(&mut wire, destination, &agent).await;
    }
    Ok((wire, asked?))
}

/// Datagrams get lost: each is sent so often.
pub(crate) const SENDINGS: u32 = 3;

/// What is waited after each.
pub(crate) const SENDING_WAIT: Duration = Duration::from_millis(1500);

/// A datagram that the canary answers. It is as long as the answer, so that nobody has the canary send more than they sent.
pub(crate) fn datagram(nonce: Nonce) -> Vec<u8> {
    let mut datagram = format!("{nonce}\r\n").into_bytes();
    datagram.resize(MAX_ANSWER, b' ');
    datagram
}

/// Sends the nonce through an open tunnel in the far end's protocol, and waits for the canary's answer.
pub(crate) async fn prove(
    mut wire: Wire,
    destination: &Destination,
    nonce: Nonce,
    agent: &str,
    wait: Duration,
) -> Option<Answer> {
    match destination.canary_port() {
        CanaryPort::Http => fetch(&mut wire, destination, nonce, agent).await?,
        CanaryPort::Https => {
            let peer = Peer::named(destination.domain(), destination.address().ip());
            wire = wire.patient(wait * 2).tls(peer).await.ok()?;
            fetch(&mut wire, destination, nonce, agent).await?;
        }
        CanaryPort::Smtp => {
            let max_line = wire.limits().line;
            let greeting = wire
                .frame(wait, |bytes| smtp::Reply::parse(bytes, max_line))
                .await
                .ok()?;
            if !greeting.is_positive() {
                return None;
            }
            let hello = smtp::ehlo(&format!("{nonce}.{}", destination.domain())).ok()?;
            wire.send(&hello).await.ok()?;
        }
        CanaryPort::Raw => {
            let max_line = wire.limits().line;
            wire.frame(wait, |bytes| raw_greeting(bytes, max_line))
                .await
                .ok()?;
            wire.send(format!("{nonce}\r\n").as_bytes()).await.ok()?;
        }
    }
    wire.answer(wait).await
}

async fn fetch(
    wire: &mut Wire,
    destination: &Destination,
    nonce: Nonce,
    agent: &str,
) -> Option<()> {
    let request = http::get(&format!("/{nonce}"), &destination.authority(), agent).ok()?;
    wire.send(&request).await.ok()
}

/// The line by which the raw port of a canary greets; no other service is spoken to.
fn raw_greeting(bytes: &[u8], max_line: usize) -> Parsed<()> {
    const WORD: &[u8] = b"ajar-canary";
    let Some((line, length)) = codec::line(bytes, max_line)? else {
        return Ok(None);
    };
    let ours = line.starts_with(WORD);
    ours.then_some(Some(((), length)))
        .ok_or(codec::Unreadable::Garbled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_canary_is_answered_on_the_raw_port() {
        assert_eq!(
            raw_greeting(b"ajar-canary canary.test\r\nx", 100),
            Ok(Some(((), 25)))
        );
        assert_eq!(raw_greeting(b"ajar-can", 100), Ok(None));
        assert_eq!(
            raw_greeting(b"220 mail\r\n", 100),
            Err(codec::Unreadable::Garbled)
        );
    }
}
