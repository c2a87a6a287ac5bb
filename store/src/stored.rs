//! Values as both databases keep them, and back.

use std::{fmt::Display, str::FromStr, time::Duration};

use ajar_model::{Ahead, Campaign, CampaignId, NonceKey, ShardId, Tally, Timestamp, lease::Work};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::Row;

use crate::{Error, Progress, Quarantined, columns::Document};

const MAX_NAME: usize = 255;

/// SQL integers have a sign.
pub(crate) fn signed(what: &'static str, number: u64) -> Result<i64, Error> {
    i64::try_from(number).map_err(|_| Error::Invalid {
        what,
        cause: format!("{number} is above {}", i64::MAX),
    })
}

pub(crate) fn unsigned<T: TryFrom<i64>>(what: &'static str, number: i64) -> Result<T, Error> {
    T::try_from(number).map_err(|_| corrupt(what, format!("{number} is out of range")))
}

pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// Cuts off what is finer than a microsecond.
pub(crate) fn to_micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(micros(at)).unwrap_or(at)
}

/// A lease that ended at `now - margin` or before is dead.
pub(crate) fn cutoff(now: Timestamp, margin: Duration) -> Timestamp {
    now.saturating_sub(margin).unwrap_or(Timestamp::MIN)
}

pub(crate) fn to_json<T: Serialize + ?Sized>(
    what: &'static str,
    value: &T,
) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|e| Error::Invalid {
        what,
        cause: e.to_string(),
    })
}

pub(crate) fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|e| corrupt(what, e))
}

pub(crate) fn parsed<T: FromStr<Err: Display>>(what: &'static str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|e| corrupt(what, e))
}

pub(crate) fn bytes<const N: usize>(what: &'static str, bytes: &[u8]) -> Result<[u8; N], Error> {
    bytes
        .try_into()
        .map_err(|_| corrupt(what, format!("{} bytes instead of {N}", bytes.len())))
}

/// PostgreSQL keeps no NUL in a text, so none is accepted anywhere.
pub(crate) fn plain(what: &'static str, text: &str) -> Result<(), Error> {
    if text.contains('\0') {
        return Err(Error::Invalid {
            what,
            cause: "it has a NUL character".to_owned(),
        });
    }
    Ok(())
}

/// A text that is part of an index: plain, and short enough for PostgreSQL's index rows (2,704 bytes).
pub(crate) fn name(what: &'static str, text: &str) -> Result<(), Error> {
    plain(what, text)?;
    if text.len() > MAX_NAME {
        return Err(Error::Invalid {
            what,
            cause: format!("it is longer than {MAX_NAME} bytes"),
        });
    }
    Ok(())
}

/// A campaign's columns: id, spec, nonce key, state, local, revision.
pub(crate) type CampaignColumns = (String, String, Vec<u8>, String, bool, i64);

pub(crate) fn campaign(
    (id, spec, key, state, local, revision): CampaignColumns,
    created_at: Timestamp,
) -> Result<Campaign, Error> {
    Ok(Campaign {
        id: parsed::<CampaignId>("a campaign's id", &id)?,
        spec: from_json("a campaign's spec", &spec)?,
        key: NonceKey(bytes("a campaign's key", &key)?),
        created_at,
        state: parsed("a campaign's state", &state)?,
        local,
        revision: unsigned("a revision", revision)?,
    })
}

pub(crate) fn shard(campaign: &str, number: i64) -> Result<ShardId, Error> {
    Ok(ShardId {
        campaign: parsed("a campaign's id", campaign)?,
        number: unsigned("a shard's number", number)?,
    })
}

/// First and past block, or endpoints and visit; vantage and round.
pub(crate) type WorkColumns = (
    Option<i64>,
    Option<i64>,
    Option<Document>,
    Option<i64>,
    Option<String>,
    i64,
);

pub(crate) fn work(
    (first, past, endpoints, visit, vantage, round): WorkColumns,
) -> Result<Work, Error> {
    match (first.zip(past), endpoints.zip(visit)) {
        (Some((first, past)), None) => {
            let first: u64 = unsigned("a shard's range", first)?;
            Ok(Work::Sweep(first..unsigned("a shard's range", past)?))
        }
        (None, Some((endpoints, visit))) => Ok(Work::Revisit {
            endpoints: from_json("a shard's endpoints", &endpoints.0)?,
            visit: unsigned("a shard's visit", visit)?,
            round: unsigned("a shard's round", round)?,
            vantage,
        }),
        _ => Err(corrupt("a shard", "it is neither a sweep nor a revisit")),
    }
}

/// Kinds of counts beside the verdicts.
pub(crate) const AWAITS_MAIL: &str = "awaits_mail";
pub(crate) const AWAITS_REVISIT: &str = "awaits_revisit";
pub(crate) const OPEN_ENDPOINTS: &str = "open_endpoints";
/// Outcomes of the targets before the cursors of sweeps.
pub(crate) const FINISHED: &str = "finished";
/// Replies to SYNs that a worker had no room for.
pub(crate) const LOST_REPLIES: &str = "lost_replies";

/// Number, the columns of [`work`], cursor, end and cause.
pub(crate) type QuarantinedRow = (
    i64,
    Option<i64>,
    Option<i64>,
    Option<Document>,
    Option<i64>,
    Option<String>,
    i64,
    i64,
    Option<i64>,
    Option<String>,
);

pub(crate) fn quarantined(
    campaign: CampaignId,
    (number, first, past, endpoints, visit, vantage, round, cursor, to, cause): QuarantinedRow,
) -> Result<Quarantined, Error> {
    let target = |at: i64| unsigned("a shard's targets", at);
    Ok(Quarantined {
        shard: ShardId {
            campaign,
            number: unsigned("a shard's number", number)?,
        },
        work: work((first, past, endpoints, visit, vantage, round))?,
        targets: target(cursor)?..target(to.unwrap_or(cursor))?,
        cause,
    })
}

/// How long a worker's trouble is shown.
pub(crate) const TROUBLE: Duration = Duration::from_secs(60);

/// Columns that [`progress`] reads.
pub(crate) const SUMS: usize = 11;

/// Makes a campaign's progress of the sums of its shards (all, closed, quarantined, the tally's six,
/// the two ahead) and of its counts by kind.
pub(crate) fn progress<R: Row>(row: &R, counts: Vec<(String, i64)>) -> Result<Progress, Error>
where
    usize: sqlx::ColumnIndex<R>,
    i64: for<'r> sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    let mut sums = [0; SUMS];
    for (at, sum) in sums.iter_mut().enumerate() {
        *sum = unsigned("a sum", row.try_get::<i64, _>(at)?)?;
    }
    let [
        shards,
        closed,
        quarantined,
        answered,
        refused,
        silent,
        unreachable,
        denied,
        failed,
        finished_ahead,
        answered_ahead,
    ] = sums;
    let mut progress = Progress {
        shards,
        closed,
        quarantined,
        ahead: Ahead {
            finished: finished_ahead,
            answered: answered_ahead,
        },
        tally: Tally {
            answered,
            refused,
            silent,
            unreachable,
            denied,
            failed,
        },
        ..Progress::default()
    };
    for (kind, count) in counts {
        let count = unsigned("a count", count)?;
        match kind.as_str() {
            AWAITS_MAIL => progress.awaiting_mail = count,
            AWAITS_REVISIT => progress.awaiting_revisit = count,
            OPEN_ENDPOINTS => progress.open_endpoints = count,
            FINISHED => {}
            LOST_REPLIES => progress.lost_replies = count,
            verdict => progress
                .verdicts
                .push((parsed("a verdict", verdict)?, count)),
        }
    }
    progress.verdicts.retain(|(_, count)| *count > 0);
    progress.verdicts.sort_unstable();
    Ok(progress)
}

pub(crate) fn corrupt(what: &'static str, cause: impl Display) -> Error {
    Error::Corrupt {
        what,
        cause: cause.to_string(),
    }
}
