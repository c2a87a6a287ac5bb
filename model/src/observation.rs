//! What became of one target, and the sums that show that none was forgotten.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    Timestamp,
    evidence::Evidence,
    id::{CampaignId, ProbeId},
};

/// What became of one (address, port) pair of a shard. Closed list: every target ends in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A connection was opened, and an observation tells the rest.
    Answered,
    /// The target refused the connection (RST).
    Refused,
    /// No answer within the time-out.
    Silent,
    /// The network said that the target cannot be reached.
    Unreachable,
    /// Egress refused to send: outside the scope, excluded or expired.
    Denied,
    /// This machine failed (descriptors, memory) or a probe panicked; the log says how.
    Failed,
}

/// How many targets ended in each outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// See [`Outcome::Answered`].
    pub answered: u64,
    /// See [`Outcome::Refused`].
    pub refused: u64,
    /// See [`Outcome::Silent`].
    pub silent: u64,
    /// See [`Outcome::Unreachable`].
    pub unreachable: u64,
    /// See [`Outcome::Denied`].
    pub denied: u64,
    /// See [`Outcome::Failed`].
    pub failed: u64,
}

/// Finished targets beyond a cursor, which waits for a slower one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ahead {
    pub finished: u64,
    /// Those with the outcome [`Outcome::Answered`].
    pub answered: u64,
}

impl Tally {
    pub fn count(&mut self, outcome: Outcome) {
        let field = match outcome {
            Outcome::Answered => &mut self.answered,
            Outcome::Refused => &mut self.refused,
            Outcome::Silent => &mut self.silent,
            Outcome::Unreachable => &mut self.unreachable,
            Outcome::Denied => &mut self.denied,
            Outcome::Failed => &mut self.failed,
        };
        *field += 1;
    }

    /// All targets that were counted.
    pub fn total(&self) -> u64 {
        let Self {
            answered,
            refused,
            silent,
            unreachable,
            denied,
            failed,
        } = self;
        answered + refused + silent + unreachable + denied + failed
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.silent += other.silent;
        self.unreachable += other.unreachable;
        self.denied += other.denied;
        self.failed += other.failed;
    }
}

/// What one probe observed at one endpoint. One exists per (campaign, endpoint, probe, vantage, round); a later one
/// of the same key replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    pub campaign: CampaignId,
    /// The address and TCP port.
    pub endpoint: SocketAddr,
    /// The probe that ran; `recognise` if no protocol was recognised.
    pub probe: ProbeId,
    /// The vantage point that it ran from.
    pub vantage: String,
    /// When its first connection was opened.
    pub started_at: Timestamp,
    /// When its last conversation ended.
    pub finished_at: Timestamp,
    /// 1 for the first visit of an endpoint, 2 for the first revisit, and so on.
    pub visit: u32,
    /// 0 for the visits that look for open doors, 1 and more for those that confirm what they found, see
    /// [`crate::confirmation`].
    pub round: u32,
    pub evidence: Evidence,
}
