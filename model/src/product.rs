//! Which product an endpoint says that it is. A claim: banners can be changed.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};
use serde::{Deserialize, Serialize};

use crate::evidence::{Direction, Evidence};

/// The product behind an endpoint, by its own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// The vendor, in CPE spelling.
    pub vendor: String,
    /// The version, if it shows one.
    pub version: Option<String>,
    /// The CPE 2.3 name (NISTIR 7695 section 6.2).
    pub cpe: String,
    /// Whether a list of the reader's calls that version outdated; absent if none was given, or it cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outdated: Option<bool>,
}

/// Bytes of what a server said that are searched, its banner first.
const SEARCHED: usize = 8 * 1024;

impl Product {
    /// The product that an endpoint names in its banner, or else in what it said later.
    pub fn of(evidence: &Evidence) -> Option<Self> {
        let banner = evidence.banner.as_ref().map(|banner| banner.raw());
        if let Some(product) = banner.and_then(Self::named_in) {
            return Some(product);
        }
        let mut said = String::new();
        for entry in &evidence.transcript {
            if entry.direction == Direction::Received && said.len() < SEARCHED {
                said.push_str(entry.text.raw());
                said.push('\n');
            }
        }
        Self::named_in(&said)
    }

    fn named_in(text: &str) -> Option<Self> {
        let index = PRODUCTS.patterns.matches(text).iter().next()?;
        let Line {
            vendor,
            product,
            pattern,
        } = &PRODUCTS.lines[index];
        let version = pattern.captures(text).and_then(|found| found.get(1));
        let version = version.map(|version| version.as_str().to_owned());
        let shown = version.as_deref().map_or("*".to_owned(), quoted);
        Some(Self {
            vendor: vendor.clone(),
            cpe: format!(
                "cpe:2.3:a:{}:{}:{shown}:*:*:*:*:*:*:*",
                quoted(vendor),
                quoted(product)
            ),
            version,
            outdated: None,
        })
    }
}

/// A value as CPE writes it: what is no letter, digit, `_`, `-` or `.` stands behind a backslash.
fn quoted(value: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    let mut quoted = String::new();
    for letter in value.to_ascii_lowercase().chars() {
        if !plain(letter) {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted
}

struct Products {
    lines: Vec<Line>,
    patterns: RegexSet,
}

struct Line {
    vendor: String,
    product: String,
    pattern: Regex,
}

static PRODUCTS: LazyLock<Products> = LazyLock::new(|| {
    let mut reader = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .from_reader(include_str!("../data/products.csv").as_bytes());
    let rows = reader.deserialize::<(String, String, String)>();
    let lines: Vec<Line> = rows
        .map(|row| {
            let (vendor, product, pattern) = row.expect("three columns");
            Line {
                pattern: Regex::new(&pattern).expect("a regular expression"),
                vendor,
                product,
            }
        })
        .collect();
    let patterns = RegexSet::new(lines.iter().map(|line| line.pattern.as_str()));
    Products {
        lines,
        patterns: patterns.expect("each is a regular expression"),
    }
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{evidence::Entry, text::Untrusted};

    #[test]
    fn servers_are_known_by_what_they_say() {
        let check = |said: &str, expect: &str| {
            let product = Product::named_in(said);
            let cpe = product.as_ref().map_or("", |product| &product.cpe);
            let short = cpe.trim_end_matches(":*").trim_start_matches("cpe:2.3:a:");
            assert_eq!(short, expect, "{said}");
        };
        check(
            "220 mx.lab.test ESMTP Postfix (Debian/GNU)\r\n",
            "postfix:postfix",
        );
        check(
            "220 mx ESMTP Exim 4.96 Wed, 25 Nov 2026\r\n",
            "exim:exim:4.96",
        );
        check(
            "220 mx ESMTP Sendmail 8.17.1.9/8.17.1.9; Wed\r\n",
            "sendmail:sendmail:8.17.1.9",
        );
        check("220 mx ESMTP OpenSMTPD\r\n", "opensmtpd:opensmtpd");
        check(
            "220 mx Microsoft ESMTP MAIL Service, Version: 10.0.14393.4169 ready at\r\n",
            "microsoft:exchange_server:10.0.14393.4169",
        );
        check(
            "220 mx ESMTP Haraka/3.0.2 ready\r\n",
            "haraka_project:haraka:3.0.2",
        );
        check(
            "HTTP/1.1 403 Forbidden\r\nServer: squid/5.7\r\n",
            "squid-cache:squid:5.7",
        );
        check(
            "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nVia: 1.1 proxy (squid/6.6)\r\n",
            "squid-cache:squid:6.6",
        );
        check(
            "HTTP/1.1 405 Not Allowed\r\nServer: nginx/1.22.1\r\n",
            "f5:nginx:1.22.1",
        );
        check("HTTP/1.1 200 OK\r\nserver: nginx\r\n", "f5:nginx");
        check(
            "HTTP/1.1 400 Bad\r\nServer: Apache/2.4.57 (Debian)\r\n",
            "apache:http_server:2.4.57",
        );
        check(
            "HTTP/1.1 400 Bad\r\nServer: Apache\r\n",
            "apache:http_server",
        );
        check(
            "HTTP/1.0 403 Denied\r\nServer: tinyproxy/1.11.1\r\n",
            "tinyproxy:tinyproxy:1.11.1",
        );
        check(
            "HTTP/1.1 403 Forbidden\r\nServer: Mikrotik HttpProxy\r\n",
            "mikrotik:routeros",
        );
        check(
            "HTTP/1.1 503 Backend\r\nVia: 1.1 varnish (Varnish/7.1)\r\n",
            "varnish-software:varnish_cache:7.1",
        );
        check(
            "HTTP/1.1 200 OK\r\nProxy-agent: proxy.py v2.4.10\r\n",
            "proxy.py_project:proxy.py:2.4.10",
        );
        check(
            "CCProxy 8.0 Telnet Service Ready.\r\n",
            "youngzsoft:ccproxy:8.0",
        );
        check("WinGate>", "qbik:wingate");
        check("HTTP/1.1 200 OK\r\n\r\nServer of nginx\r\n", "");
        check("220 mx ESMTP\r\n", "");
    }

    #[test]
    fn a_name_that_came_late_counts_if_the_banner_has_none() {
        let entry = |direction, text: &str| Entry {
            at_ms: 0,
            direction,
            text: Untrusted::from(text.to_owned()),
        };
        let evidence = Evidence {
            banner: Some(Untrusted::from(
                "HTTP/1.1 200 Connection established".to_owned(),
            )),
            transcript: vec![
                entry(Direction::Sent, "Server: nginx/9"),
                entry(Direction::Received, "HTTP/1.1 200 Connection established"),
                entry(
                    Direction::Received,
                    "HTTP/1.1 200 OK\r\nVia: 1.1 p (squid/5.7)\r\n",
                ),
            ],
            ..Evidence::default()
        };
        let product = Product::of(&evidence).unwrap();
        assert_eq!(product.version.as_deref(), Some("5.7"));
        assert_eq!(Product::of(&Evidence::default()), None);
    }

    #[test]
    fn what_a_cpe_may_not_hold_is_quoted() {
        assert_eq!(quoted("8.0+b1 x"), "8.0\\+b1\\ x");
    }
}
