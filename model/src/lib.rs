//! What ajar reasons about: targets, scope, authorization, shards, evidence and verdicts.
//!
//! Architecture invariant: this crate is pure. It has no async code, reads no clock, draws no
//! randomness and does no I/O; callers pass `now` and keys in. Everything above it may therefore be
//! tested by calling functions.

pub mod addresses;
pub mod admission;
pub mod authorization;
pub mod campaign;
pub mod canary;
pub mod confirmation;
pub mod disclosed;
mod doubt;
pub mod effort;
pub mod evidence;
pub mod finding;
pub mod id;
pub mod judge;
pub mod lease;
pub mod nonce;
pub mod observation;
pub mod permutation;
pub mod plan;
pub mod ports;
pub mod product;
pub mod proof;
pub mod quiet;
pub mod revisit;
pub mod schedule;
pub mod scope;
pub mod shard;
pub mod shares;
mod signed;
pub mod signers;
pub mod space;
pub mod special;
pub mod target;
pub mod text;
pub mod tier;
pub mod url;

pub use admission::Permission;
pub use authorization::{Authorization, SignedAuthorization};
pub use campaign::{Campaign, Spec};
pub use canary::Canary;
pub use effort::Effort;
pub use evidence::{Attempt, Evidence, Reply};
pub use finding::Finding;
pub use id::{CampaignId, Exposure, ProbeId, Service, ShardId};
pub use judge::Verdict;
pub use lease::Lease;
pub use nonce::{Nonce, NonceKey};
pub use observation::{Ahead, Observation, Outcome, Tally};
pub use plan::{Plan, Targets};
pub use ports::Ports;
pub use proof::{Proof, Sighting};
pub use revisit::Revisits;
pub use schedule::Schedule;
pub use scope::Scope;
pub use space::TargetSpace;
pub use target::{Host, Target};
pub use text::Untrusted;
pub use tier::Tier;

/// A point in time, always UTC, printed as RFC 3339.
pub type Timestamp = jiff::Timestamp;
