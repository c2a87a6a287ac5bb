//! A zone of addresses with an open door, for rbldnsd (RFC 5782).

use std::{collections::BTreeMap, io::Write, net::IpAddr};

use ajar_model::{Finding, Timestamp};

use super::{Format, Out, Writer, name, one_file};

pub const FORMAT: Format = Format {
    name: "rbldnsd",
    help: "A zone of what is open, for rbldnsd's dataset `combined`",
    for_owners: true,
    prepare: |options| {
        one_file(options, |out| {
            Box::new(Zone {
                out,
                entries: BTreeMap::new(),
                newest: None,
            })
        })
    },
};

/// The last octet of the address that is answered, by service: the codes that lists of the field use.
const CODES: &[(&str, u8)] = &[
    ("smtp", 5),
    ("socks4", 8),
    ("socks5", 8),
    ("http-proxy", 9),
    ("telnet", 14),
];
/// For what has no code of its own.
const OTHER: u8 = 2;

struct Zone {
    out: Out,
    /// What is said of an address, by its code.
    entries: BTreeMap<(IpAddr, u8), String>,
    newest: Option<Timestamp>,
}

impl Writer for Zone {
    fn write(&mut self, finding: &Finding) -> anyhow::Result<()> {
        let service = name(&finding.service);
        let code = CODES.iter().find(|(known, _)| *known == service);
        let code = code.map_or(OTHER, |(_, code)| *code);
        let text = format!(
            "{} on port {}, proven at {:.0}, see {}",
            name(&finding.exposure),
            finding.port,
            finding
                .proof
                .as_ref()
                .map_or(finding.last_seen, |proof| proof.received_at),
            finding.id
        );
        self.entries.entry((finding.ip, code)).or_insert(text);
        self.newest = self.newest.max(Some(finding.last_seen));
        Ok(())
    }

    /// The newest finding dates the zone: the same findings are the same zone.
    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        let newest = self.newest.map(|newest| format!("; newest {newest:.0}"));
        writeln!(
            self.out,
            "# open relays and proxies that ajar proved{}",
            newest.unwrap_or_default()
        )?;
        // RFC 5782 section 5: tests that a list is up, and that it does not list everything.
        self.dataset("ip4set", "127.0.0.2", |ip| ip.is_ipv4())?;
        self.dataset("ip6trie", "::ffff:7f00:2", |ip| ip.is_ipv6())?;
        Ok(self.out.flush()?)
    }
}

impl Zone {
    fn dataset(
        &mut self,
        kind: &str,
        test: &str,
        is_of: fn(&IpAddr) -> bool,
    ) -> std::io::Result<()> {
        writeln!(self.out, "$DATASET {kind} @")?;
        writeln!(
            self.out,
            "{test} :127.0.0.{OTHER}:the test entry of RFC 5782"
        )?;
        let of_kind = self.entries.iter().filter(|((ip, _), _)| is_of(ip));
        for ((ip, code), text) in of_kind {
            writeln!(self.out, "{ip} :127.0.0.{code}:{text}")?;
        }
        Ok(())
    }
}
