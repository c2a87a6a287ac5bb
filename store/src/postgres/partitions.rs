//! The tables of what campaigns observed and of their nonces, by the month of their ids. Whoever
//! writes or reads them names them, and so neither locks nor plans for those of any other month; only
//! a look-up by a nonce goes through all of them.

use std::time::Duration;

use ajar_model::{CampaignId, Timestamp};
use async_trait::async_trait;
use jiff::{Span, civil::Date, tz::TimeZone};
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use ulid::Ulid;

use super::{Tx, lock};
use crate::{
    Error,
    rows::{PartitionRows, Rows},
};

/// What they are partitions of, and their keys.
const TABLES: [(&str, &str); 2] = [
    ("observations", "finding, vantage, round"),
    ("nonces", "nonce, finding"),
];
/// Campaigns that began before this have tables without a month, as the migration made them.
const FIRST_MONTH: Date = jiff::civil::date(2027, 1, 1);
/// How early a campaign may name a month, and how late: clocks differ.
const EARLY: Duration = Duration::from_secs(24 * 3600);

/// The tables of a campaign: those of its month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Month(Option<Date>);

impl Month {
    fn of(id: CampaignId) -> Self {
        let millis = i64::try_from(id.0.timestamp_ms()).unwrap_or(i64::MAX);
        let at = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX);
        let month = TimeZone::UTC.to_datetime(at).date().first_of_month();
        Self(Some(month).filter(|month| *month >= FIRST_MONTH))
    }

    /// The name of its part of a table.
    fn table(self, table: &str) -> String {
        match self.0 {
            Some(month) => format!("{table}_{}", month.strftime("%Y_%m")),
            None => format!("{table}_first"),
        }
    }
}

/// A campaign's part of a table.
pub(super) fn partition(table: &str, id: CampaignId) -> String {
    Month::of(id).table(table)
}

/// The ids of a month: the first one, and the first one after it.
fn ids(month: Date) -> Option<(CampaignId, CampaignId)> {
    let next = month.checked_add(Span::new().months(1)).ok()?;
    let first = |month: Date| {
        let begin = TimeZone::UTC.to_timestamp(month.at(0, 0, 0, 0)).ok()?;
        let millis = u64::try_from(begin.as_millisecond()).ok()?;
        Some(CampaignId(Ulid::from_parts(millis, 0)))
    };
    Some((first(month)?, first(next)?))
}

#[async_trait]
impl PartitionRows for Tx {
    async fn add_partitions(&mut self, id: CampaignId) -> Result<(), Error> {
        let Month(Some(month)) = Month::of(id) else {
            return Ok(());
        };
        for (table, key) in TABLES {
            let own = partition(table, id);
            if !is_there(self, &own).await? {
                self.make(month, table, key, &own).await?;
            }
        }
        Ok(())
    }
}

impl Tx {
    async fn make(&mut self, month: Date, table: &str, key: &str, own: &str) -> Result<(), Error> {
        let soon = self.now().await?.saturating_add(EARLY);
        let soon = TimeZone::UTC
            .to_datetime(soon.unwrap_or(Timestamp::MAX))
            .date();
        let (from, to) = ids(month)
            .filter(|_| month <= soon)
            .ok_or_else(|| Error::Invalid {
                what: "a campaign's id",
                cause: format!("it names a time in {}", month.strftime("%B %Y")),
            })?;
        // Another campaign of the new month may be about to make it.
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(lock::MAKE_MONTH)
            .execute(&mut *self.0)
            .await?;
        if is_there(self, own).await? {
            return Ok(());
        }
        // Made by itself and attached, it waits for nobody who reads or writes the others.
        let make = format!(
            "CREATE TABLE {own} (LIKE {table} INCLUDING DEFAULTS, PRIMARY KEY ({key})); \
             ALTER TABLE {table} ATTACH PARTITION {own} FOR VALUES FROM ('{from}') TO ('{to}')"
        );
        self.0.execute(AssertSqlSafe(make)).await?;
        Ok(())
    }
}

/// Whether there is a table of this name.
pub(super) async fn is_there(tx: &mut Tx, table: &str) -> Result<bool, Error> {
    let there = sqlx::query_scalar("SELECT to_regclass('ajar.' || $1) IS NOT NULL")
        .bind(table)
        .fetch_one(&mut *tx.0)
        .await?;
    Ok(there)
}

/// Drops the tables of months that are over and have no campaign any more. Nobody waits for it: it
/// waits for those who read them, and tries again at its next call.
pub(super) async fn drop_unused(
    connection: &mut PgConnection,
    now: Timestamp,
) -> Result<(), Error> {
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(lock::DROP_MONTHS)
        .fetch_one(&mut *connection)
        .await?;
    if !alone {
        return Ok(());
    }
    let dropped = drop_alone(connection, now).await;
    sqlx::query("SELECT pg_advisory_unlock($1)")
        .bind(lock::DROP_MONTHS)
        .execute(connection)
        .await?;
    dropped
}

async fn drop_alone(connection: &mut PgConnection, now: Timestamp) -> Result<(), Error> {
    let over = now.saturating_sub(EARLY).unwrap_or(Timestamp::MIN);
    let over = TimeZone::UTC.to_datetime(over).date();
    for (table, _) in TABLES {
        // Nothing is its state once it is detached, and pending while that was interrupted.
        let parts: Vec<(String, Option<bool>)> = sqlx::query_as(
            "SELECT c.relname::text, i.inhdetachpending FROM pg_class c \
             LEFT JOIN pg_inherits i ON i.inhrelid = c.oid \
             WHERE c.relnamespace = to_regnamespace('ajar') AND c.relkind = 'r' \
             AND c.relname ~ ('^' || $1 || '_[0-9]{4}_[0-9]{2}$')",
        )
        .bind(table)
        .fetch_all(&mut *connection)
        .await?;
        for (part, detached) in parts {
            let month = Date::strptime("%Y_%m_%d", format!("{}_01", &part[table.len() + 1..]));
            let Some((month, (from, to))) = month.ok().and_then(|m| Some((m, ids(m)?))) else {
                continue;
            };
            let is_over = month.last_of_month() < over;
            if !is_over || has_campaigns(connection, from, to).await? {
                continue;
            }
            let detach =
                |how| format!("ALTER TABLE ajar.{table} DETACH PARTITION ajar.{part} {how}");
            match detached {
                Some(false) => run(connection, detach("CONCURRENTLY")).await?,
                Some(true) => run(connection, detach("FINALIZE")).await?,
                None => {}
            }
            run(connection, format!("DROP TABLE ajar.{part}")).await?;
        }
    }
    Ok(())
}

async fn has_campaigns(
    connection: &mut PgConnection,
    from: CampaignId,
    to: CampaignId,
) -> Result<bool, Error> {
    let has = "SELECT EXISTS (SELECT 1 FROM ajar.campaigns WHERE id >= $1 AND id < $2)";
    let has = sqlx::query_scalar(has)
        .bind(from.to_string())
        .bind(to.to_string())
        .fetch_one(connection)
        .await?;
    Ok(has)
}

async fn run(connection: &mut PgConnection, statement: String) -> Result<(), Error> {
    connection.execute(AssertSqlSafe(statement)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_belongs_to_the_month_of_its_id() {
        let check = |at: &str, expect: &str| {
            let at: Timestamp = at.parse().unwrap();
            let millis = u64::try_from(at.as_millisecond()).unwrap();
            let id = CampaignId(Ulid::from_parts(millis, 7));
            assert_eq!(partition("nonces", id), expect, "{at}");
            if let Month(Some(month)) = Month::of(id) {
                let (from, to) = ids(month).unwrap();
                assert!(from <= id && id < to, "{from} {to}");
            }
        };
        check("1970-01-01T00:00:00Z", "nonces_first");
        check("2026-12-31T23:59:59.999Z", "nonces_first");
        check("2027-01-01T00:00:00Z", "nonces_2027_01");
        check("2028-02-29T23:59:59.999Z", "nonces_2028_02");
        check("2028-12-01T00:00:00Z", "nonces_2028_12");
        let last = CampaignId(Ulid::from_parts((1 << 48) - 1, 0));
        assert_eq!(partition("nonces", last), "nonces_9999_12");
    }

    /// As the migration has it.
    #[test]
    fn the_first_month_begins_where_the_first_table_ends() {
        let (from, _) = ids(FIRST_MONTH).unwrap();
        assert_eq!(from.to_string(), "01MB78QN000000000000000000");
    }
}
