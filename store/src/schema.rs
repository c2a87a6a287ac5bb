//! The tables of both databases, and bringing them up to date.

use sqlx::{
    SqlSafeStr,
    migrate::{Migrate, MigrateError, Migration, MigrationType},
};

use crate::Error;

/// The scripts of one database: version, name and SQL, oldest first. A script that was released is never edited.
pub(crate) type Scripts = &'static [(i64, &'static str, &'static str)];

/// See [`Scripts`].
pub(crate) const SQLITE: Scripts = &[
    (
        1,
        "first",
        include_str!("../migrations/sqlite/0001_first.sql"),
    ),
    (
        2,
        "campaign ends",
        include_str!("../migrations/sqlite/0002_campaign_ends.sql"),
    ),
    (
        3,
        "shard ends",
        include_str!("../migrations/sqlite/0003_shard_ends.sql"),
    ),
    (
        4,
        "revisits",
        include_str!("../migrations/sqlite/0004_revisits.sql"),
    ),
    (
        5,
        "confirmation",
        include_str!("../migrations/sqlite/0005_confirmation.sql"),
    ),
    (
        6,
        "schedules",
        include_str!("../migrations/sqlite/0006_schedules.sql"),
    ),
    (
        7,
        "planned rounds",
        include_str!("../migrations/sqlite/0007_planned_rounds.sql"),
    ),
    (
        8,
        "orders",
        include_str!("../migrations/sqlite/0008_orders.sql"),
    ),
    (
        9,
        "replicas",
        include_str!("../migrations/sqlite/0009_replicas.sql"),
    ),
    (
        10,
        "vantage points",
        include_str!("../migrations/sqlite/0010_vantage_points.sql"),
    ),
    (
        11,
        "summaries",
        include_str!("../migrations/sqlite/0011_summaries.sql"),
    ),
    (
        12,
        "tenants' schedules",
        include_str!("../migrations/sqlite/0012_tenants_schedules.sql"),
    ),
    (
        13,
        "exclusions",
        include_str!("../migrations/sqlite/0013_exclusions.sql"),
    ),
    (
        14,
        "old tokens",
        include_str!("../migrations/sqlite/0014_old_tokens.sql"),
    ),
    (
        15,
        "strays",
        include_str!("../migrations/sqlite/0015_strays.sql"),
    ),
    (
        16,
        "compatible",
        include_str!("../migrations/sqlite/0016_compatible.sql"),
    ),
    (
        17,
        "leases",
        include_str!("../migrations/sqlite/0017_leases.sql"),
    ),
    (
        18,
        "removed",
        include_str!("../migrations/sqlite/0018_removed.sql"),
    ),
    (
        19,
        "mute",
        include_str!("../migrations/sqlite/0019_mute.sql"),
    ),
    (
        20,
        "judge",
        include_str!("../migrations/sqlite/0020_judge.sql"),
    ),
    (
        21,
        "canaries",
        include_str!("../migrations/sqlite/0021_canaries.sql"),
    ),
];

/// See [`Scripts`].
pub(crate) const POSTGRES: Scripts = &[
    (
        1,
        "first",
        include_str!("../migrations/postgres/0001_first.sql"),
    ),
    (
        2,
        "campaign ends",
        include_str!("../migrations/postgres/0002_campaign_ends.sql"),
    ),
    (
        3,
        "shard ends",
        include_str!("../migrations/postgres/0003_shard_ends.sql"),
    ),
    (
        4,
        "revisits",
        include_str!("../migrations/postgres/0004_revisits.sql"),
    ),
    (
        5,
        "confirmation",
        include_str!("../migrations/postgres/0005_confirmation.sql"),
    ),
    (
        6,
        "unchecked",
        include_str!("../migrations/postgres/0006_unchecked.sql"),
    ),
    (
        7,
        "schedules",
        include_str!("../migrations/postgres/0007_schedules.sql"),
    ),
    (
        8,
        "failovers",
        include_str!("../migrations/postgres/0008_failovers.sql"),
    ),
    (
        9,
        "partitions",
        include_str!("../migrations/postgres/0009_partitions.sql"),
    ),
    (
        10,
        "readers",
        include_str!("../migrations/postgres/0010_readers.sql"),
    ),
    (
        11,
        "planned rounds",
        include_str!("../migrations/postgres/0011_planned_rounds.sql"),
    ),
    (
        12,
        "orders",
        include_str!("../migrations/postgres/0012_orders.sql"),
    ),
    (
        13,
        "replicas",
        include_str!("../migrations/postgres/0013_replicas.sql"),
    ),
    (
        14,
        "vantage points",
        include_str!("../migrations/postgres/0014_vantage_points.sql"),
    ),
    (
        15,
        "summaries",
        include_str!("../migrations/postgres/0015_summaries.sql"),
    ),
    (
        16,
        "tenants' schedules",
        include_str!("../migrations/postgres/0016_tenants_schedules.sql"),
    ),
    (
        17,
        "exclusions",
        include_str!("../migrations/postgres/0017_exclusions.sql"),
    ),
    (
        18,
        "old tokens",
        include_str!("../migrations/postgres/0018_old_tokens.sql"),
    ),
    (
        19,
        "strays",
        include_str!("../migrations/postgres/0019_strays.sql"),
    ),
    (
        20,
        "compatible",
        include_str!("../migrations/postgres/0020_compatible.sql"),
    ),
    (
        21,
        "leases",
        include_str!("../migrations/postgres/0021_leases.sql"),
    ),
    (
        22,
        "months",
        include_str!("../migrations/postgres/0022_months.sql"),
    ),
    (
        23,
        "mute",
        include_str!("../migrations/postgres/0023_mute.sql"),
    ),
    (
        24,
        "judge",
        include_str!("../migrations/postgres/0024_judge.sql"),
    ),
    (
        25,
        "canaries",
        include_str!("../migrations/postgres/0025_canaries.sql"),
    ),
];

/// The last script of a database that this program knows.
pub(crate) fn newest(scripts: Scripts) -> i64 {
    scripts.last().map_or(0, |script| script.0)
}

/// Fails unless the later program that wrote a store says that this one may use it.
fn refuse_newer(found: i64, known: i64, oldest: Option<i64>, url: &str) -> Result<(), Error> {
    if oldest.is_some_and(|oldest| oldest <= known) {
        return Ok(());
    }
    Err(Error::Newer {
        url: url.to_owned(),
        found,
        known,
    })
}

/// Runs the scripts that `table` does not list; `url` names the store in errors. A store of a later
/// program is left as it is, and is used if the `oldest` schema that it names as compatible is
/// known. The caller has begun a transaction and holds a lock.
///
/// Not [`sqlx::migrate::Migrator::run`]: its future cannot be spawned.
pub(crate) async fn migrate<C: Migrate>(
    connection: &mut C,
    scripts: Scripts,
    table: &'static str,
    oldest: Option<i64>,
    url: &str,
) -> Result<(), Error> {
    let done = connection.ensure_migrations_table(table).await;
    done.map_err(failed)?;
    let applied = connection.list_applied_migrations(table).await;
    let applied = applied.map_err(failed)?;
    let known = newest(scripts);
    let found = applied.iter().map(|script| script.version).max();
    if let Some(found) = found.filter(|found| *found > known) {
        return refuse_newer(found, known, oldest, url);
    }
    for &(version, name, sql) in scripts {
        let sql = sql.into_sql_str();
        let script = Migration::new(version, name.into(), MigrationType::Simple, sql, false);
        match applied.iter().find(|applied| applied.version == version) {
            None => drop(connection.apply(table, &script).await.map_err(failed)?),
            Some(applied) if applied.checksum == script.checksum => (),
            Some(_) => {
                return Err(Error::Unusable {
                    url: url.to_owned(),
                    cause: format!(
                        "its schema {version} is of another build of ajar: use that one"
                    ),
                });
            }
        }
    }
    Ok(())
}

/// Fails unless every script was run, and no other that this program is too old for: for a store
/// that is only read.
pub(crate) async fn check<C: Migrate>(
    connection: &mut C,
    scripts: Scripts,
    table: &'static str,
    oldest: Option<i64>,
    url: &str,
) -> Result<(), Error> {
    let applied = connection.list_applied_migrations(table).await;
    let applied = applied.map_err(|_| Error::NotOurs {
        url: url.to_owned(),
    })?;
    let known = newest(scripts);
    let found = applied.iter().map(|script| script.version).max();
    match found.unwrap_or(0) {
        found if found > known => refuse_newer(found, known, oldest, url),
        found if found < known => Err(Error::Older {
            url: url.to_owned(),
            schema: found,
        }),
        _ => Ok(()),
    }
}

fn failed(error: MigrateError) -> Error {
    Error::Database(error.into())
}
