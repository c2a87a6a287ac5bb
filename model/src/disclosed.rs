//! What something that arrived says of the way that it came: who passed it on, and for whom.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// What a request over HTTP told the canary. What is asked through a target names neither a gateway nor a client: whatever does
/// was added on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disclosed {
    Nothing,
    /// That it came through a gateway.
    Gateway,
    /// For whom: the client's address, as the gateway saw it.
    Client(IpAddr),
}

/// How much a proxy tells of its client; the field's usual words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anonymity {
    /// It names the client.
    Transparent,
    /// It says that it is a proxy, and not whose.
    Anonymous,
    /// What comes out of it looks like its own.
    Elite,
}

/// Fields that name the client, as gateways write them.
const CLIENT: [&str; 8] = [
    "forwarded",
    "x-forwarded-for",
    "x-real-ip",
    "client-ip",
    "x-client-ip",
    "true-client-ip",
    "x-cluster-client-ip",
    "x-originating-ip",
];

/// Fields that only a gateway adds.
const GATEWAY: [&str; 9] = [
    "via",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-bluecoat-via",
    "x-proxy-id",
    "proxy-connection",
    "cdn-loop",
    "surrogate-capability",
];

impl Disclosed {
    /// What the fields of a request tell: names in lower case, and values.
    pub fn by<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut disclosed = Disclosed::Nothing;
        for (name, value) in fields {
            let client = match name {
                "forwarded" => forwarded_for(value),
                _ if CLIENT.contains(&name) => value.split(',').next().and_then(address),
                _ if GATEWAY.contains(&name) => None,
                _ => continue,
            };
            match client {
                Some(client) => return Disclosed::Client(client),
                None => disclosed = Disclosed::Gateway,
            }
        }
        disclosed
    }

    pub fn anonymity(self) -> Anonymity {
        match self {
            Disclosed::Nothing => Anonymity::Elite,
            Disclosed::Gateway => Anonymity::Anonymous,
            Disclosed::Client(_) => Anonymity::Transparent,
        }
    }

    /// The address that the gateway took us for.
    pub fn client(self) -> Option<IpAddr> {
        match self {
            Disclosed::Client(client) => Some(client),
            Disclosed::Nothing | Disclosed::Gateway => None,
        }
    }
}

/// One word, as the canary signs it.
impl fmt::Display for Disclosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Disclosed::Nothing => f.write_str("nothing"),
            Disclosed::Gateway => f.write_str("gateway"),
            Disclosed::Client(client) => client.fmt(f),
        }
    }
}

/// A text that discloses nothing that is known.
#[derive(Debug, thiserror::Error)]
#[error("expected nothing, gateway or an address")]
pub struct NotDisclosed;

impl FromStr for Disclosed {
    type Err = NotDisclosed;

    fn from_str(text: &str) -> Result<Self, NotDisclosed> {
        match text {
            "nothing" => Ok(Disclosed::Nothing),
            "gateway" => Ok(Disclosed::Gateway),
            _ => text
                .parse()
                .map(Disclosed::Client)
                .map_err(|_| NotDisclosed),
        }
    }
}

impl Serialize for Disclosed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Disclosed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The client that the first mail server on a message's way saw: the address in the last `Received:` field of its header (RFC 5321
/// section 4.4; each server puts its own on top).
pub fn received_from(header: &str) -> Option<IpAddr> {
    let mut first: Option<String> = None;
    let mut inside = false;
    for line in header.lines() {
        let is_continued = line.starts_with([' ', '\t']);
        if !is_continued {
            inside = line
                .get(..9)
                .is_some_and(|name| name.eq_ignore_ascii_case("received:"));
            if inside {
                first = Some(String::new());
            }
        }
        if let (true, Some(field)) = (inside, &mut first) {
            field.push_str(line);
        }
    }
    let field = first?;
    // `from helo (name [address])`, or Exim's `from [address] (helo=helo)`: what it calls itself may look like an address too.
    let from = field.split(['\t', ' ']).take_while(|word| *word != "by");
    let known = from.filter(|word| !word.contains("helo="));
    let literals = known.filter_map(|word| Some(word.split_once('[')?.1));
    literals
        .filter_map(|rest| address(rest.split(']').next()?))
        .last()
}

/// The first address in a `Forwarded` field (RFC 7239 section 4).
fn forwarded_for(value: &str) -> Option<IpAddr> {
    let first = value.split(',').next()?;
    let mut pairs = first.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    address(node.trim().trim_matches('"'))
}

/// An address with or without a port, brackets, or the `IPv6:` of mail's address literals.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let text = match text.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => &text[5..],
        _ => text,
    };
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let with_port = || text.parse().map(|socket: SocketAddr| socket.ip()).ok();
    let ip: Option<IpAddr> = bare.parse().ok().or_else(with_port);
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_tell_who_passed_a_request_on_and_for_whom() {
        let check = |fields: &[(&str, &str)], expect: &str| {
            let disclosed = Disclosed::by(fields.iter().copied());
            assert_eq!(disclosed.to_string(), expect, "{fields:?}");
            assert_eq!(
                disclosed.to_string().parse::<Disclosed>().unwrap(),
                disclosed
            );
        };
        check(&[("host", "canary"), ("user-agent", "ajar")], "nothing");
        check(&[("via", "1.1 squid (squid/5.7)")], "gateway");
        check(
            &[("x-forwarded-for", "unknown"), ("via", "1.1 s")],
            "gateway",
        );
        check(&[("x-forwarded-for", "172.17.0.1, 10.0.0.1")], "172.17.0.1");
        check(&[("x-real-ip", "2001:db8::1")], "2001:db8::1");
        check(
            &[("forwarded", "for=192.0.2.60;proto=http;by=x, for=9.9.9.9")],
            "192.0.2.60",
        );
        check(
            &[("forwarded", r#"proto=http;For="[2001:db8::17]:4711""#)],
            "2001:db8::17",
        );
        check(&[("forwarded", "for=_hidden")], "gateway");
        check(&[("x-forwarded-for", "::ffff:192.0.2.1")], "192.0.2.1");
    }

    #[test]
    fn the_first_mail_server_says_whom_it_saw() {
        let check = |header: &str, expect: Option<&str>| {
            let expect = expect.map(|ip| ip.parse().unwrap());
            assert_eq!(received_from(header), expect, "{header}");
        };
        let postfix = "Received: from scanner.test (unknown [172.17.0.1])\r\n\tby mx.lab.test (Postfix) with ESMTP id 1\r\n\tfor <x@y>; Wed\r\nSubject: t\r\n";
        check(postfix, Some("172.17.0.1"));
        let two = format!(
            "Received: from mx.lab.test (mx [10.9.9.9])\r\n\tby out.lab.test; Wed\r\n{postfix}"
        );
        check(&two, Some("172.17.0.1"));
        let exim =
            "Received: from [10.0.0.1] (helo=[127.0.0.1])\r\n\tby mx with esmtp (Exim 4.96)\r\n";
        check(exim, Some("10.0.0.1"));
        let literal = "received: from x (h [IPv6:fd00::1]) by mx\r\n";
        check(literal, Some("fd00::1"));
        check("Subject: Received: from [1.2.3.4]\r\n", None);
        check("Received: by mx from nobody [\r\n", None);
        check("", None);
    }
}
