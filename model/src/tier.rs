//! How far a probe may go.

use serde::{Deserialize, Serialize};

/// What a target is asked to do. Each tier includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Open a connection and close it.
    Connect,
    /// Read the banner, say EHLO, send a SOCKS greeting.
    Handshake,
    /// Name a sender and a recipient, but send no message and open no tunnel.
    Envelope,
    /// Send a message, or open a tunnel, to the operator's own canary.
    Deliver,
}

impl Tier {
    /// Every tier, the gentlest first.
    pub const ALL: [Tier; 4] = [
        Tier::Connect,
        Tier::Handshake,
        Tier::Envelope,
        Tier::Deliver,
    ];

    /// The name in authorizations and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Connect => "connect",
            Tier::Handshake => "handshake",
            Tier::Envelope => "envelope",
            Tier::Deliver => "deliver",
        }
    }
}
