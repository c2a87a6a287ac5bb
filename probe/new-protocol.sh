#!/bin/sh
# Makes the skeleton of a protocol: its folder, its fuzz target with a corpus of one input, and a conversation test that fails until
# the protocol is written. See docs/adding-a-probe.md.
set -eu

name=${1:-}
case $name in
'' | *[!a-z0-9]* | [0-9]*)
    echo "usage: make new-protocol NAME=gopher (lower-case letters and digits)" >&2
    exit 2
    ;;
esac
cd "$(dirname "$0")/.."
if [ -e "probe/src/$name" ]; then
    echo "probe/src/$name is there already" >&2
    exit 2
fi
type=$(printf %s "$name" | cut -c1 | tr a-z A-Z)$(printf %s "$name" | cut -c2-)

mkdir -p "probe/src/$name" "fuzz/corpus/$name"
cat >"probe/src/$name/mod.rs" <<END
//! $type proxies: say here what they are, and which document describes them.

pub mod codec;
mod gateway;

use ajar_model::{Exposure, Service, Tier, evidence::Broken};
use futures::{FutureExt, future::BoxFuture};

use crate::{
    protocol::{Answered, Asking, First, Offer, Probe, Protocol},
    tunnel,
    wire::Wire,
};
use gateway::Gateway;

/// $type, whose clients speak first.
pub(crate) struct $type;

impl Protocol for $type {
    fn service(&self) -> Service {
        Service::from_static("$name")
    }

    fn exposure(&self) -> Exposure {
        Exposure::from_static("open_proxy")
    }

    fn probes(&self) -> &'static [&'static dyn Probe] {
        &[&Gateway]
    }

    fn ports(&self) -> &'static [u16] {
        &[65535]
    }

    fn first(&self) -> First {
        First::Client(&$type)
    }
}

impl Offer for $type {
    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn offer<'a>(
        &'a self,
        wire: &'a mut Wire,
        asking: &'a Asking<'_>,
    ) -> BoxFuture<'a, Result<Answered, Broken>> {
        tunnel::offer(&Gateway, wire, asking).boxed()
    }
}
END
cat >"probe/src/$name/codec.rs" <<END
//! $type requests and answers.

use crate::codec::{Injection, Parsed, Unreadable, line};

/// Asks for a tunnel.
pub fn connect(authority: &str) -> Result<Vec<u8>, Injection> {
    match authority.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(format!("$name {authority}\\r\\n").into_bytes()),
        false => Err(Injection(authority.to_owned())),
    }
}

/// What a server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// True if a tunnel is open.
    pub is_yes: bool,
}

impl Reply {
    /// Reads one line, which is at most 512 bytes long.
    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        let Some((line, length)) = line(bytes, 512)? else {
            return Ok(None);
        };
        match line {
            b"yes" => Ok(Some((Self { is_yes: true }, length))),
            b"no" => Ok(Some((Self { is_yes: false }, length))),
            _ => Err(Unreadable::Garbled),
        }
    }
}
END
cat >"probe/src/$name/gateway.rs" <<END
//! Does it open tunnels for anybody?

use ajar_model::{Evidence, ProbeId, Reply, Tier, evidence::Broken};
use futures::{FutureExt, future::BoxFuture};

use super::{$type, codec};
use crate::{
    destination::{Destination, Form},
    examination::Examination,
    protocol::{Probe, Protocol},
    tunnel,
    wire::Wire,
};

/// Does it tunnel strangers' traffic?
pub(crate) struct Gateway;

impl Probe for Gateway {
    fn id(&self) -> ProbeId {
        ProbeId::from_static("$name-proxy")
    }

    fn protocol(&self) -> &'static dyn Protocol {
        &$type
    }

    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn summary(&self) -> &'static str {
        "$type proxy that opens tunnels for anybody"
    }

    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence> {
        tunnel::run(self, examination).boxed()
    }
}

impl tunnel::Gateway for Gateway {
    fn label(&self, form: Form) -> &'static str {
        match form {
            Form::Literal => "$name",
            Form::Name => "$name-name",
        }
    }

    fn ask<'a>(
        &'a self,
        wire: &'a mut Wire,
        destination: &'a Destination,
        _agent: &'a str,
    ) -> BoxFuture<'a, Result<Reply, Broken>> {
        async move {
            let request = codec::connect(&destination.authority()).map_err(|_| Broken::Garbled)?;
            wire.send(&request).await?;
            let reply = wire.frame(wire.limits().reply, codec::Reply::parse).await?;
            Ok(match reply.is_yes {
                true => Reply::Accepted { code: 0 },
                false => Reply::Refused { code: 0 },
            })
        }
        .boxed()
    }
}
END
cat >"probe/tests/conversations/$name.rs" <<END
//! $type servers, open and closed.

use crate::{canary, exam::Exam};

#[tokio::test(start_paused = true)]
async fn a_proxy_is_proven_through_every_port_of_the_canary() {
    let exam = Exam::of(65535).only(&["$name-proxy"]);
    let exam = exam
        .run(|mut conn| async move {
            let Some(request) = conn.line().await else {
                return;
            };
            let port = request.rsplit(':').next().unwrap().parse().unwrap();
            conn.say("yes\\r\\n").await;
            canary::serve(conn, port, canary::key()).await;
        })
        .await;
    let proven = [80, 443, 25, 7401].map(|port| format!("$name:{port}"));
    assert_eq!(exam.proven("$name-proxy"), proven);
    panic!("replace the words of this conversation by the protocol's own, then this line");
}
END
cat >"fuzz/fuzz_targets/$name.rs" <<END
//! $type answers.
#![cfg_attr(fuzzing, no_main)]

use ajar_fuzz::framed;
use ajar_probe::$name::codec::{self, Reply};

pub fn check(data: &[u8]) {
    framed(data, Reply::parse);
    if let Ok(request) = codec::connect(&String::from_utf8_lossy(data)) {
        assert_eq!(request.iter().filter(|&&byte| byte == b'\\n').count(), 1);
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));
END
printf 'yes\r\n' >"fuzz/corpus/$name/yes"
cat >>fuzz/Cargo.toml <<END

[[bin]]
name = "$name"
path = "fuzz_targets/$name.rs"
test = false
doc = false
bench = false
END
# The three lines outside: the folder, the list, and the test's own list.
sed -i "s/^pub mod http;/pub mod $name;\n&/" probe/src/lib.rs
sed -i "s/^    &crate::sni::Sni,/&\n    \&crate::$name::$type,/" probe/src/registry.rs
sed -i "s/^mod http;/mod $name;\n&/" probe/tests/conversations/main.rs
cargo fmt
echo "probe/src/$name is made; go on with docs/adding-a-probe.md"
