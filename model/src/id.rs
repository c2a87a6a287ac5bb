//! Names of campaigns, shards and probes.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// A campaign's id: a ULID, so that ids sort by the time of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CampaignId(pub Ulid);

impl fmt::Display for CampaignId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is not a campaign's id.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a campaign id: expected 26 letters and digits such as 01JD3Y5Q9Z8K7W6V5T4S3R2Q1P"
)]
pub struct NotACampaignId(String);

impl FromStr for CampaignId {
    type Err = NotACampaignId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ulid::from_string(text)
            .map(Self)
            .map_err(|_| NotACampaignId(text.to_owned()))
    }
}

/// A shard of a campaign: the planned ones are numbered from 0, revisits follow them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId {
    /// The campaign it is part of.
    pub campaign: CampaignId,
    /// Its number within the campaign.
    pub number: u64,
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.campaign, self.number)
    }
}

/// A text that is not a shard's id.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a shard id: expected CAMPAIGN/NUMBER")]
pub struct NotAShardId(String);

impl FromStr for ShardId {
    type Err = NotAShardId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('/')
            .and_then(|(campaign, number)| {
                Some(Self {
                    campaign: campaign.parse().ok()?,
                    number: number.parse().ok()?,
                })
            })
            .ok_or_else(|| NotAShardId(text.to_owned()))
    }
}

/// A name from an open list: a string on the wire and in stores, so that coordinators and workers of neighbouring versions
/// understand each other. Known names are made at build time.
macro_rules! open_name {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Cow<'static, str>);

        impl $name {
            /// A name known at build time.
            pub const fn from_static(name: &'static str) -> Self {
                Self(Cow::Borrowed(name))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(Cow::Owned(name))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

open_name! {
    /// The name of a probe, such as `smtp-relay`.
    ProbeId
}

open_name! {
    /// The protocol that an endpoint was recognised by, such as `smtp` or `http-proxy`.
    Service
}

open_name! {
    /// What an open endpoint exposes, such as `open_relay` or `open_proxy`.
    Exposure
}
