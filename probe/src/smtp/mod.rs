//! Mail servers (RFC 5321).

pub mod codec;
mod draft;
mod heard;
mod letter;
mod line;
mod lines;
mod mail;
mod names;
mod plan;
mod relay;
mod turned_away;
mod variant;
mod wait;
mod weigh;

use std::time::Duration;

use ajar_model::{Exposure, Service};
use futures::{FutureExt, future::BoxFuture};

use crate::{
    Limits,
    codec::Parsed,
    protocol::{Asking, First, Greet, Probe, Protocol},
    wire::Wire,
};
use relay::Relay;

pub(crate) struct Smtp;

impl Protocol for Smtp {
    fn service(&self) -> Service {
        Service::from_static("smtp")
    }

    fn exposure(&self) -> Exposure {
        Exposure::from_static("open_relay")
    }

    fn probes(&self) -> &'static [&'static dyn Probe] {
        &[&Relay]
    }

    fn ports(&self) -> &'static [u16] {
        &[25, 465, 587, 2525]
    }

    /// Content filters and their return ways (amavis), and second listeners.
    fn rarer_ports(&self) -> &'static [u16] {
        &[26, 2526, 10024, 10025, 10026]
    }

    fn tls_ports(&self) -> &'static [u16] {
        &[465]
    }

    fn runs_inside_tls(&self) -> bool {
        true
    }

    fn first(&self) -> First {
        First::Server(&Smtp)
    }

    /// Some greet late.
    fn claims(&self, opening: &[u8]) -> bool {
        let starts = ["220 ", "220-", "421 ", "554 ", "554-"];
        starts
            .iter()
            .any(|start| opening.starts_with(start.as_bytes()))
    }
}

impl Greet for Smtp {
    /// Servers make suspected spammers wait for their banner.
    fn patience(&self, limits: &Limits) -> Duration {
        limits.greeting
    }

    fn greeting(&self, bytes: &[u8], limits: &Limits, _quiet: bool) -> Parsed<()> {
        let reply = codec::Reply::parse(bytes, limits.line)?;
        Ok(reply.map(|(_, length)| ((), length)))
    }

    /// Tells mail servers from the others that greet with a code. The word decides, then the port, then EHLO.
    fn confirm<'a>(
        &'a self,
        greeting: &'a [u8],
        wire: &'a mut Wire,
        asking: &'a Asking<'_>,
    ) -> BoxFuture<'a, bool> {
        async move {
            let Some(greeting) = parsed(greeting) else {
                return false;
            };
            let usual = self.ports().contains(&asking.brief.endpoint.port());
            let says_mail = ["smtp", "mail"].iter().any(|word| greeting.mentions(word));
            let says_file = greeting.mentions("ftp") && !greeting.mentions("smtp");
            match greeting.code {
                _ if says_file => false,
                220 if says_mail || usual => true,
                220 => asking.wants(self) && takes_a_hello(wire, asking.brief.our_name).await,
                421 | 554 => true,
                400..=599 => usual,
                _ => false,
            }
        }
        .boxed()
    }
}

/// A greeting that was read before.
fn parsed(greeting: &[u8]) -> Option<codec::Reply> {
    let reply = codec::Reply::parse(greeting, greeting.len()).ok()??;
    Some(reply.0)
}

async fn takes_a_hello(wire: &mut Wire, our_name: &str) -> bool {
    for hello in [codec::ehlo(our_name), codec::helo(our_name)]
        .into_iter()
        .flatten()
    {
        let limits = *wire.limits();
        if wire.send(&hello).await.is_err() {
            return false;
        }
        let parse = |bytes: &[u8]| codec::Reply::parse(bytes, limits.line);
        match wire.frame(limits.reply, parse).await {
            Ok(reply) if reply.code == 250 => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}
