//! Proxies that fetch: GET with an absolute URI (RFC 9112 section 3.2.2).

use ajar_model::{
    Attempt, Evidence, Nonce, ProbeId, Reply, Tier, Timestamp,
    evidence::{Broken, Control},
    nonce::Role,
    proof::{Answer, Check, Kind},
};
use futures::{FutureExt, future::BoxFuture};

use super::{Http, codec, head, refusal};
use crate::{
    destination::{CanaryPort, Destination, Form, Plan},
    examination::Examination,
    protocol::{Probe, Protocol},
};

/// Does it fetch for strangers?
pub(crate) struct Get;

impl Probe for Get {
    fn id(&self) -> ProbeId {
        ProbeId::from_static("http-get")
    }

    fn protocol(&self) -> &'static dyn Protocol {
        &Http
    }

    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn summary(&self) -> &'static str {
        "HTTP proxy that fetches for anybody (GET with an absolute URI)"
    }

    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence> {
        run(examination, Probe::id(self)).boxed()
    }
}

async fn run(examination: &mut Examination<'_>, id: ProbeId) -> Evidence {
    let canary = examination.brief().canary;
    let mut plan = Plan::new(canary, &[CanaryPort::Http], &[Form::Literal, Form::Name]);
    let mut attempts = Vec::new();
    let mut controls = Vec::new();
    while let Some(destination) = plan.take_next() {
        let variant = variant(&destination);
        let nonce = examination.nonce(&id, &variant, Role::Destination);
        let (reply, answer) = fetch(examination, &destination, nonce).await;
        let proven = answer
            .as_ref()
            .is_some_and(|answer| answer.proves(nonce, &canary.key));
        plan.answered(&destination, reply, proven);
        if proven {
            controls.push(control(examination, &id, &variant, destination.form()).await);
        }
        attempts.push(Attempt {
            variant,
            kind: Kind::Fetch,
            nonce,
            port: Some(destination.address().port()),
            reply,
            answer,
            at: Timestamp::now(),
        });
        if reply
            == (Reply::Broken {
                how: Broken::Connect,
            })
            || examination.is_over()
        {
            break;
        }
    }
    Evidence {
        attempts,
        controls,
        ..examination.evidence_of(&Http)
    }
}

fn variant(destination: &Destination) -> String {
    let label = match destination.form() {
        Form::Literal => "get",
        Form::Name => "get-name",
    };
    format!("{label}:{}", destination.address().port())
}

/// A web server in front of the canary hands it any request as it is: so it does one for a port where the canary is not.
async fn control(examination: &mut Examination<'_>, id: &ProbeId, of: &str, form: Form) -> Control {
    let unused = Destination::unused(examination.brief().canary, form);
    let nonce = examination.nonce(id, &variant(&unused), Role::Destination);
    let (reply, answer) = fetch(examination, &unused, nonce).await;
    Control {
        of: of.to_owned(),
        check: Check::OtherPort,
        nonce,
        reply,
        answer,
    }
}

async fn fetch(
    examination: &mut Examination<'_>,
    destination: &Destination,
    nonce: Nonce,
) -> (Reply, Option<Answer>) {
    let fetched = try_fetch(examination, destination, nonce).await;
    fetched.unwrap_or_else(|how| (Reply::Broken { how }, None))
}

/// A success without an answer is the server's own page: it refused to fetch ours.
async fn try_fetch(
    examination: &mut Examination<'_>,
    destination: &Destination,
    nonce: Nonce,
) -> Result<(Reply, Option<Answer>), Broken> {
    let mut wire = examination.open(&Http).await?;
    let authority = destination.authority();
    let request = codec::get(
        &format!("http://{authority}/{nonce}"),
        &authority,
        &examination.agent(),
    );
    wire.send(&request.map_err(|_| Broken::Garbled)?).await?;
    let code = head(&mut wire).await?.status;
    if code / 100 != 2 {
        return Ok((refusal(code, destination.form()), None));
    }
    let answer = wire.answer(wire.limits().reply / 2).await;
    let reply = match answer {
        Some(_) => Reply::Accepted { code },
        None => Reply::Refused { code },
    };
    Ok((reply, answer))
}
