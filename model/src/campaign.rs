//! A campaign: one audit, from its submission to its end.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    authorization::SignedAuthorization,
    canary::Canary,
    effort::Effort,
    id::{CampaignId, ProbeId},
    nonce::NonceKey,
    ports::Ports,
    revisit::Revisits,
    target::{Host, Target},
    tier::Tier,
};

/// How open (address, port) pairs are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sweep {
    /// The best method that this process is privileged for.
    Auto,
    /// Stateless SYN packets; needs CAP_NET_RAW.
    Syn,
    Connect,
    /// No discovery: every pair is probed.
    None,
}

impl Sweep {
    pub const ALL: [Sweep; 4] = [Sweep::Auto, Sweep::Syn, Sweep::Connect, Sweep::None];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Sweep::Auto => "auto",
            Sweep::Syn => "syn",
            Sweep::Connect => "connect",
            Sweep::None => "none",
        }
    }
}

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Whose campaign it is.
    pub tenant: String,
    /// Addresses to audit; names were resolved before.
    pub targets: Vec<Target>,
    /// Addresses that are never sent a packet.
    pub exclude: Vec<Target>,
    /// Which addresses are of one host, as far as that is known.
    #[serde(default)]
    pub hosts: Vec<Host>,
    pub ports: Ports,
    pub probes: Vec<ProbeId>,
    /// New connections a second, whole campaign; at least 1.
    pub rate: u32,
    /// New connections a second to each /24 (IPv4) or /64 (IPv6); at least 1.
    pub prefix_rate: u32,
    /// How far probes may go.
    pub tier: Tier,
    /// The number of ways in which mail servers are asked to relay.
    #[serde(default)]
    pub effort: Effort,
    /// How open pairs are found.
    pub sweep: Sweep,
    /// How many times more a target is asked that does not answer.
    #[serde(default = "once")]
    pub retries: u32,
    /// Seconds to wait for relayed mail after the last probe.
    pub settle_secs: u32,
    /// How often and how soon endpoints are visited again that were no clear yes or no.
    #[serde(default)]
    pub revisits: Revisits,
    /// The operator's own end.
    pub canary: Canary,
    /// The signed scope; absent for loopback only.
    pub authorization: Option<SignedAuthorization>,
    /// The W3C trace context of the submission, so that one trace shows the way of a campaign.
    #[serde(default)]
    pub traceparent: Option<String>,
}

impl Spec {
    /// Returns the names that the operator gave for an address.
    pub fn names_of(&self, ip: IpAddr) -> Vec<String> {
        let ip = ip.to_canonical();
        let hosts = self.hosts.iter();
        let named = hosts.filter(|host| host.addresses.iter().any(|own| own.to_canonical() == ip));
        named
            .map(|host| host.name.clone())
            .take(MAX_NAMES)
            .collect()
    }
}

/// The number of names of one address that are used.
const MAX_NAMES: usize = 4;

/// What older campaigns did.
fn once() -> u32 {
    1
}

/// Where a campaign stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Shards are handed out.
    Running,
    /// No shard is handed out until it is resumed.
    Paused,
    /// Every shard is closed; relayed mail may still arrive.
    Settling,
    /// Done: every target has an outcome.
    Finished,
    /// Done, but some shards could not be completed; they are listed.
    Incomplete,
    /// Stopped by its operator.
    Cancelled,
}

impl State {
    pub const ALL: [State; 6] = [
        State::Running,
        State::Paused,
        State::Settling,
        State::Finished,
        State::Incomplete,
        State::Cancelled,
    ];

    /// The name in results and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Paused => "paused",
            State::Settling => "settling",
            State::Finished => "finished",
            State::Incomplete => "incomplete",
            State::Cancelled => "cancelled",
        }
    }

    /// True if nothing more will happen by itself.
    pub fn is_final(self) -> bool {
        matches!(self, State::Finished | State::Incomplete | State::Cancelled)
    }
}

/// A text that is not a state.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a campaign state")]
pub struct NotAState(String);

impl std::str::FromStr for State {
    type Err = NotAState;

    fn from_str(text: &str) -> Result<Self, NotAState> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| NotAState(text.to_owned()))
    }
}

/// A campaign as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    pub id: CampaignId,
    /// What was asked for.
    pub spec: Spec,
    /// The key of its nonces.
    pub key: NonceKey,
    /// When it was submitted.
    pub created_at: Timestamp,
    pub state: State,
    /// True if it is driven by the process that started it, and by no other.
    pub local: bool,
    /// How many authorizations it had before the one that its spec names.
    pub revision: u64,
}
