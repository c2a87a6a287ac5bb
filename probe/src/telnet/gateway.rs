//! Prompts that connect to any host.

use std::time::Duration;

use ajar_model::{Evidence, ProbeId, Reply, Tier, evidence::Broken};
use futures::{FutureExt, future::BoxFuture};

use super::{Telnet, codec};
use crate::{
    destination::{Destination, Form},
    examination::Examination,
    protocol::{Greet, Probe, Protocol},
    tunnel,
    wire::Wire,
};

/// Does it connect strangers to anything?
pub(crate) struct Gateway;

impl Probe for Gateway {
    fn id(&self) -> ProbeId {
        ProbeId::from_static("telnet-proxy")
    }

    fn protocol(&self) -> &'static dyn Protocol {
        &Telnet
    }

    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn summary(&self) -> &'static str {
        "telnet-style proxy (WinGate) that connects anybody to the host and port that it is told"
    }

    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence> {
        tunnel::run(self, examination).boxed()
    }
}

impl tunnel::Gateway for Gateway {
    fn asks_who_first(&self) -> bool {
        true
    }

    fn label(&self, form: Form) -> &'static str {
        match form {
            Form::Literal => "telnet",
            Form::Name => "telnet-name",
        }
    }

    fn ask<'a>(
        &'a self,
        wire: &'a mut Wire,
        destination: &'a Destination,
        _agent: &'a str,
    ) -> BoxFuture<'a, Result<Reply, Broken>> {
        ask(wire, destination).boxed()
    }
}

/// The prompt has no codes: 0 stands for them all.
async fn ask(wire: &mut Wire, destination: &Destination) -> Result<Reply, Broken> {
    let greeting = match wire.take_greeting() {
        Some(greeting) => greeting,
        None => hear_prompt(wire).await?,
    };
    let prompt = codec::prompt(&greeting).ok_or(Broken::Garbled)?;
    if prompt.wants_credentials {
        return Ok(Reply::AuthRequired { code: 0 });
    }
    let host = match destination.form() {
        Form::Literal => destination.address().ip().to_string(),
        Form::Name => destination.domain().to_owned(),
    };
    let requests = codec::requests(&host, destination.address().port());
    let [first, second] = requests.map_err(|_| Broken::Garbled)?;
    let limits = *wire.limits();
    match tell(wire, &first, limits.reply / 3).await? {
        Heard::Connected | Heard::Silence => Ok(Reply::Accepted { code: 0 }),
        Heard::Credentials => Ok(Reply::AuthRequired { code: 0 }),
        // Perhaps it knows the other way; it may also listen no more.
        Heard::Refused => Ok(match tell(wire, &second, limits.banner).await {
            Ok(Heard::Connected) => Reply::Accepted { code: 0 },
            _ => Reply::Refused { code: 0 },
        }),
    }
}

async fn tell(wire: &mut Wire, request: &[u8], wait: Duration) -> Result<Heard, Broken> {
    wire.send(request).await?;
    hear_answer(wire, wait).await
}

async fn hear_prompt(wire: &mut Wire) -> Result<Vec<u8>, Broken> {
    let limits = *wire.limits();
    let parse = |bytes: &[u8], quiet| {
        let greeting = Telnet.greeting(bytes, &limits, quiet)?;
        Ok(greeting.map(|((), length)| (bytes[..length].to_vec(), length)))
    };
    wire.frame_or_quiet(limits.banner, parse).await
}

enum Heard {
    Connected,
    /// Nothing: it may have connected without a word, and the far end waits for us.
    Silence,
    Refused,
    Credentials,
}

/// What came of a request. One that refused shows its prompt again.
async fn hear_answer(wire: &mut Wire, wait: Duration) -> Result<Heard, Broken> {
    let limits = *wire.limits();
    let whole = |bytes: &[u8], quiet: bool| Ok(quiet.then_some(((), bytes.len())));
    match wire.frame(wait, codec::Said::parse).await {
        Ok(codec::Said::Connected) => {
            // The line goes on where the word has ended.
            let _ = wire.frame(limits.banner / 5, codec::rest_of_line).await;
            Ok(Heard::Connected)
        }
        Ok(codec::Said::Refused) => {
            let _ = wire.frame_or_quiet(limits.banner, whole).await;
            Ok(Heard::Refused)
        }
        Err(Broken::TimedOut) => match codec::prompt(wire.unread()) {
            Some(prompt) => {
                wire.frame_or_quiet(Duration::ZERO, whole).await?;
                match prompt.wants_credentials {
                    true => Ok(Heard::Credentials),
                    false => Ok(Heard::Refused),
                }
            }
            None => Ok(Heard::Silence),
        },
        Err(how) => Err(how),
    }
}
