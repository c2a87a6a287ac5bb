//! Between wire and model. Outward conversions cannot fail; inward ones name the field that is wrong.

mod campaign;
mod work;

use std::time::Duration;

use ajar_model::{CampaignId, ShardId, Timestamp};

use crate::v1;

pub use campaign::{canary_in, nonce_key_in, spec_in, state_in};

/// A field of a message that cannot be taken.
#[derive(Debug, thiserror::Error)]
#[error("field {field}: {cause}")]
pub struct Error {
    /// Its name, as in the .proto file.
    pub field: &'static str,
    /// What is wrong with it.
    pub cause: String,
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        tonic::Status::invalid_argument(error.to_string())
    }
}

/// Parses the text of a field.
pub fn parse<T>(field: &'static str, text: &str) -> Result<T, Error>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|cause: T::Err| Error {
        field,
        cause: cause.to_string(),
    })
}

fn missing(field: &'static str) -> Error {
    Error {
        field,
        cause: "is missing".to_owned(),
    }
}

fn wrong(field: &'static str, cause: impl std::fmt::Display) -> Error {
    Error {
        field,
        cause: cause.to_string(),
    }
}

/// Parses each text of a repeated field.
pub fn parse_all<T>(field: &'static str, texts: &[String]) -> Result<Vec<T>, Error>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    texts.iter().map(|text| parse(field, text)).collect()
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn port(field: &'static str, number: u32) -> Result<u16, Error> {
    u16::try_from(number).map_err(|_| wrong(field, format_args!("{number} is not a port")))
}

/// A point in time for the wire.
pub fn time_out(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

/// A point in time from the wire.
pub fn time_in(
    field: &'static str,
    at: Option<prost_types::Timestamp>,
) -> Result<Timestamp, Error> {
    let at = at.ok_or_else(|| missing(field))?;
    Timestamp::new(at.seconds, at.nanos).map_err(|cause| wrong(field, cause))
}

/// A span of time for the wire.
pub fn duration_out(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: duration.as_secs() as i64,
        nanos: duration.subsec_nanos() as i32,
    }
}

/// A span of time from the wire; never negative.
pub fn duration_in(
    field: &'static str,
    duration: Option<prost_types::Duration>,
) -> Result<Duration, Error> {
    let duration = duration.ok_or_else(|| missing(field))?;
    Duration::try_from(duration).map_err(|cause| wrong(field, cause))
}

impl From<ShardId> for v1::ShardId {
    fn from(shard: ShardId) -> Self {
        Self {
            campaign: shard.campaign.to_string(),
            number: shard.number,
        }
    }
}

impl TryFrom<v1::ShardId> for ShardId {
    type Error = Error;

    fn try_from(shard: v1::ShardId) -> Result<Self, Error> {
        Ok(Self {
            campaign: parse("shard.campaign", &shard.campaign)?,
            number: shard.number,
        })
    }
}

/// A shard's id that must be there.
pub fn shard_in(shard: Option<v1::ShardId>) -> Result<ShardId, Error> {
    shard.ok_or_else(|| missing("shard"))?.try_into()
}

/// A campaign's id from the wire.
pub fn campaign_id(text: &str) -> Result<CampaignId, Error> {
    parse("campaign", text)
}
