//! A set of TCP ports, written as in `25,465,8000-8100`.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A sorted set of ports from 1 to 65535, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports(Vec<u16>);

/// Why a list of ports was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No port at all.
    #[error("the list of ports is empty: give at least one, as in 25,3128 or 8000-8100")]
    Empty,
    /// One element is no port and no range.
    #[error("{0:?} is not a port: expected 1 to 65535, or a range such as 8000-8100")]
    Malformed(String),
}

impl Ports {
    /// The ports of a collection; duplicates count once.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Result<Self, Error> {
        let ports: BTreeSet<u16> = ports.into_iter().collect();
        if ports.contains(&0) {
            return Err(Error::Malformed("0".to_owned()));
        }
        if ports.is_empty() {
            return Err(Error::Empty);
        }
        Ok(Self(ports.into_iter().collect()))
    }

    /// Every port.
    pub fn all() -> Self {
        Self((1..=u16::MAX).collect())
    }

    /// The ports in rising order.
    pub fn as_slice(&self) -> &[u16] {
        &self.0
    }

    /// True if the port is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.0.binary_search(&port).is_ok()
    }

    /// The first port that `other` lacks.
    pub fn first_missing_from(&self, other: &Ports) -> Option<u16> {
        self.0.iter().copied().find(|&port| !other.contains(port))
    }
}

impl FromStr for Ports {
    type Err = Error;

    fn from_str(list: &str) -> Result<Self, Error> {
        let mut ports = BTreeSet::new();
        for element in list.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            let malformed = || Error::Malformed(element.to_owned());
            let port = |text: &str| text.trim().parse::<u16>().ok().filter(|&p| p > 0);
            let (first, last) = element.split_once('-').unwrap_or((element, element));
            let first = port(first).ok_or_else(malformed)?;
            let last = port(last).ok_or_else(malformed)?;
            if first > last {
                return Err(malformed());
            }
            ports.extend(first..=last);
        }
        Self::new(ports)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| a + 1 == *b);
        for (i, run) in runs.enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match run {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

impl Serialize for Ports {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read_and_written_back_in_short() {
        let check = |text: &str, expect: &str| {
            assert_eq!(text.parse::<Ports>().unwrap().to_string(), expect, "{text}");
        };
        check("25", "25");
        check("3128, 25,25", "25,3128");
        check("80-82,83,1-1", "1,80-83");
        check("1-65535", "1-65535");
        assert_eq!("1-65535".parse(), Ok(Ports::all()));
    }

    #[test]
    fn what_is_no_port_is_named_in_the_error() {
        for text in ["0", "65536", "-1", "9-8", "smtp", "1-", "0-5"] {
            assert_eq!(
                text.parse::<Ports>(),
                Err(Error::Malformed(text.to_owned()))
            );
        }
        assert_eq!(" , ".parse::<Ports>(), Err(Error::Empty));
    }
}
