//! The token that travels through a suspected relay or proxy, and the key it is made with.

use std::{fmt, net::SocketAddr, str::FromStr};

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::id::{CampaignId, ProbeId};

/// 128 bits that name one variant of one probe of one endpoint in one campaign from one vantage point and in one round.
/// Written as 32 lower-case hex digits: a mail local part and a URL path keep them unchanged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce([u8; 16]);

impl Nonce {
    /// Returns it with all but its first eight digits zero, for readers who must not send it.
    pub fn cut_short(self) -> Self {
        let mut cut = [0; 16];
        cut[..4].copy_from_slice(&self.0[..4]);
        Self(cut)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({self})")
    }
}

/// A text that is not a nonce.
#[derive(Debug, thiserror::Error)]
#[error("not a nonce: expected 32 hex digits")]
pub struct NotANonce;

impl FromStr for Nonce {
    type Err = NotANonce;

    /// Case is ignored: relays may fold the local part of an address.
    fn from_str(text: &str) -> Result<Self, NotANonce> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return Err(NotANonce);
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |d: u8| char::from(d).to_digit(16).ok_or(NotANonce);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Nonce {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a nonce is used as. Sender and recipient differ, so that a bounce (which goes to the sender's
/// address) is never taken for a relayed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The envelope recipient, the URL path, the line sent through a tunnel.
    Destination,
    Sender,
}

/// The visits that share their nonces: a server that put us off is offered the same envelope again.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    pub campaign: CampaignId,
    pub endpoint: SocketAddr,
    pub vantage: &'a str,
    /// See [`crate::Observation::round`].
    pub round: u32,
}

/// The campaign's secret: whoever holds it can name the nonces of the campaign.
#[derive(Clone, PartialEq, Eq)]
pub struct NonceKey(pub [u8; 32]);

impl fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceKey(secret)")
    }
}

impl NonceKey {
    /// The nonce of one variant: HMAC-SHA-256 over every field, cut to 128 bits.
    pub fn nonce(
        &self,
        occasion: &Occasion<'_>,
        probe: &ProbeId,
        variant: &str,
        role: Role,
    ) -> Nonce {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        let role = match role {
            Role::Destination => "destination",
            Role::Sender => "sender",
        };
        for field in [
            occasion.campaign.to_string().as_str(),
            occasion.endpoint.to_string().as_str(),
            probe.as_str(),
            variant,
            occasion.vantage,
            role,
            occasion.round.to_string().as_str(),
        ] {
            // Length first: two different lists of fields never hash the same bytes.
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field.as_bytes());
        }
        let digest = mac.finalize().into_bytes();
        Nonce(digest[..16].try_into().expect("SHA-256 has 32 bytes"))
    }
}
