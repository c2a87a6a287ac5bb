//! What an operator names: an address, a CIDR block or a range of addresses.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// An inclusive range of addresses of one family. IPv4-mapped IPv6 addresses (RFC 4291 section 2.5.5.2) are
/// taken as the IPv4 addresses that they stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    pub first: IpAddr,
    pub last: IpAddr,
}

/// Why a text is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither address nor block nor range.
    #[error(
        "{0:?} is not a target: expected an address, a block such as 192.0.2.0/24, or a range such as 192.0.2.1-192.0.2.9"
    )]
    Malformed(String),
    /// A range whose ends are the wrong way round, or of different families.
    #[error(
        "{0:?} is not a range: its first address must not be above its last, and both of one family"
    )]
    Backwards(String),
    /// An address inside a block, in place of the block.
    #[error(
        "{given:?} is an address inside a block: write {block} for the block, or the address alone"
    )]
    Inside { given: String, block: IpNet },
}

impl Target {
    /// A range, or none if its ends are swapped or of different families.
    pub fn range(first: IpAddr, last: IpAddr) -> Option<Self> {
        let (first, last) = (first.to_canonical(), last.to_canonical());
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    /// True if the address is in the range.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.first.is_ipv4() == ip.is_ipv4() && self.first <= ip && ip <= self.last
    }

    /// True if all of `other` is in the range.
    pub fn covers(&self, other: &Target) -> bool {
        self.contains(other.first) && self.contains(other.last)
    }

    /// The blocks that together are the range, smallest number of them, in rising order.
    pub fn networks(&self) -> Vec<IpNet> {
        match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => ipnet::Ipv4Subnets::new(first, last, 0)
                .map(IpNet::V4)
                .collect(),
            (IpAddr::V6(first), IpAddr::V6(last)) => ipnet::Ipv6Subnets::new(first, last, 0)
                .map(IpNet::V6)
                .collect(),
            _ => Vec::new(),
        }
    }
}

impl From<IpAddr> for Target {
    fn from(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self {
            first: ip,
            last: ip,
        }
    }
}

impl From<IpNet> for Target {
    fn from(net: IpNet) -> Self {
        Self::range(net.network(), net.broadcast()).unwrap_or(Self {
            // A mapped prefix shorter than /96 reaches outside the mapped space: it stays IPv6.
            first: net.network(),
            last: net.broadcast(),
        })
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let malformed = || Error::Malformed(text.to_owned());
        if let Some((address, _)) = text.split_once('/') {
            let net: IpNet = text.parse().map_err(|_| malformed())?;
            // Not the prefix's own parser alone: it would take an address with a zone or a leading zero.
            let address: IpAddr = address.parse().map_err(|_| malformed())?;
            if address != net.network() {
                return Err(Error::Inside {
                    given: text.to_owned(),
                    block: net.trunc(),
                });
            }
            return Ok(net.into());
        }
        if let Some((first, last)) = text.split_once('-') {
            let end = |end: &str| end.trim().parse::<IpAddr>().map_err(|_| malformed());
            let (first, last) = (end(first)?, end(last)?);
            return Self::range(first, last).ok_or_else(|| Error::Backwards(text.to_owned()));
        }
        text.parse::<IpAddr>()
            .map(Self::from)
            .map_err(|_| malformed())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        match self.networks().as_slice() {
            [one] => write!(f, "{one}"),
            _ => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// True if the text has the form of a host name (RFC 1123 section 2.1) and not of a mistyped address: some
/// label holds a letter, and the last one is not a number.
pub fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253
        && name.split('.').all(label)
        && name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().any(|b| b.is_ascii_alphabetic()))
}

/// A host by its name. If it has several addresses, they should all behave alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    pub name: String,
    pub addresses: Vec<IpAddr>,
}

/// A text that pairs no addresses.
#[derive(Debug, thiserror::Error)]
#[error("expected a name and its addresses, as mx1.example=192.0.2.1,2001:db8::1")]
pub struct NotAHost;

impl FromStr for Host {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        let (name, addresses) = text.split_once('=').ok_or(NotAHost)?;
        let addresses = addresses.split(',').map(|address| address.trim().parse());
        let addresses: Vec<IpAddr> = addresses.collect::<Result<_, _>>().map_err(|_| NotAHost)?;
        if !is_host_name(name) || addresses.is_empty() {
            return Err(NotAHost);
        }
        Ok(Self {
            name: name.to_owned(),
            addresses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_back() {
        let check = |text: &str, expect: &str| {
            assert_eq!(
                text.parse::<Target>().unwrap().to_string(),
                expect,
                "{text}"
            );
        };
        check("192.0.2.7", "192.0.2.7");
        check("0.0.0.0/0", "0.0.0.0/0");
        check("192.0.2.0-192.0.2.255", "192.0.2.0/24");
        check(" 192.0.2.1 - 192.0.2.9 ", "192.0.2.1-192.0.2.9");
        check("2001:db8::/64", "2001:db8::/64");
        check("::ffff:192.0.2.1", "192.0.2.1");
        check("::ffff:192.0.2.0/120", "192.0.2.0/24");
    }

    #[test]
    fn an_address_inside_a_block_does_not_stand_for_the_block() {
        let refused = "192.0.2.7/24".parse::<Target>().unwrap_err().to_string();
        assert!(refused.contains("write 192.0.2.0/24"), "{refused}");
        assert!("2001:db8::1/64".parse::<Target>().is_err());
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in [
            "",
            "192.0.2",
            "192.0.2.0/33",
            "192.0.2.256",
            "192.0.2.1-",
            "example.com",
            "010.0.0.1",
            "1.2.3.4/",
            "/8",
        ] {
            assert_eq!(
                text.parse::<Target>(),
                Err(Error::Malformed(text.to_owned())),
                "{text}"
            );
        }
        for text in ["192.0.2.9-192.0.2.1", "192.0.2.1-2001:db8::1"] {
            assert_eq!(
                text.parse::<Target>(),
                Err(Error::Backwards(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn a_mistyped_address_is_no_host_name() {
        for name in [
            "localhost",
            "mail-1.example.com",
            "a.example.",
            "xn--bcher-kva.example",
        ] {
            assert!(is_host_name(name), "{name}");
        }
        for text in [
            "192.0.2",
            "192.0.2.256",
            "10.0.0.0/8",
            "-a.example",
            "",
            "a..b",
            "192.0.2.1-5",
        ] {
            assert!(!is_host_name(text), "{text}");
        }
    }
}
