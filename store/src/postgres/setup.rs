//! Reaching the server, and making the schema.

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use super::{lock, server};
use crate::{Access, Error, Options, error::is_transient, schema};

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(500);
const MIGRATIONS: &str = "ajar.migrations";

/// Waits for the server, and makes the tables unless something else lives there or it may only be read. Returns how to
/// connect.
pub(super) async fn prepare(url: &str, how: &Options) -> Result<PgConnectOptions, Error> {
    let Ok(options) = PgConnectOptions::from_str(url) else {
        // What cannot be parsed cannot be shown either: the password may be anywhere in it.
        return Err(Error::Url {
            url: "postgres://…".to_owned(),
        });
    };
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("ajar"),
    };
    let shown = shown(&options);
    let mut connection = connect(&options, &shown, how.wait).await?;
    let made = match how.access {
        Access::Write | Access::Scratch => {
            server::warn_of_loss(&mut connection).await?;
            make(&mut connection, &shown).await
        }
        Access::Read => {
            let oldest = oldest(&mut connection).await?;
            schema::check(
                &mut connection,
                schema::POSTGRES,
                MIGRATIONS,
                oldest,
                &shown,
            )
            .await
        }
    };
    made.map_err(|error| match error {
        Error::Database(error) => explain(&error, shown),
        error => error,
    })?;
    connection.close().await.map_err(Error::from)?;
    Ok(options)
}

/// Settings of every session. An acknowledged write must outlast the server's crash: overrides only the setting that would
/// not let it. And a coordinator that is frozen in a transaction must not hold its locks for ever: the others would wait.
pub(super) async fn session(
    connection: &mut PgConnection,
    access: Access,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT set_config('synchronous_commit', 'on', false) \
         WHERE current_setting('synchronous_commit') = 'off'",
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "SELECT set_config('lock_timeout', '5s', false), \
         set_config('statement_timeout', '60s', false), \
         set_config('idle_in_transaction_session_timeout', '10s', false)",
    )
    .execute(&mut *connection)
    .await?;
    // Every statement has an index that it is to use. A plan is made while the tables are small, and kept: one that reads them
    // whole would do so for every batch until they are analysed next. Where there is none, as for a table of one row, such a plan counts as so
    // dear that it would be compiled each time, for longer than it runs.
    sqlx::query(
        "SELECT set_config('jit', 'off', false), \
         set_config('enable_seqscan', 'off', false), \
         set_config('enable_hashjoin', 'off', false), \
         set_config('enable_mergejoin', 'off', false)",
    )
    .execute(&mut *connection)
    .await?;
    // A later program may have changed the tables while this one runs.
    let oldest = oldest(connection).await?;
    if oldest.is_some_and(|oldest| oldest > schema::newest(schema::POSTGRES)) {
        let cause = "a newer ajar has changed the store: upgrade this one";
        return Err(sqlx::Error::Configuration(cause.into()));
    }
    match access {
        Access::Write | Access::Scratch => server::note(connection).await,
        Access::Read => Ok(()),
    }
}

async fn connect(
    options: &PgConnectOptions,
    shown: &str,
    wait: Duration,
) -> Result<PgConnection, Error> {
    let start = Instant::now();
    loop {
        let left = wait.saturating_sub(start.elapsed()).max(PAUSE);
        let error = match tokio::time::timeout(left, options.connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::PoolTimedOut,
        };
        if !is_transient(&error) || start.elapsed() + PAUSE >= wait {
            return Err(explain(&error, shown.to_owned()));
        }
        tracing::warn!(store = shown, cause = %cause(&error), "waiting for the store");
        tokio::time::sleep(PAUSE).await;
    }
}

/// One coordinator at a time, all or nothing.
async fn make(connection: &mut PgConnection, shown: &str) -> Result<(), Error> {
    let mut tx = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(lock::SETUP)
        .execute(&mut *tx)
        .await?;
    let encoding: String = sqlx::query_scalar("SELECT current_setting('server_encoding')")
        .fetch_one(&mut *tx)
        .await?;
    if encoding != "UTF8" {
        return Err(Error::Unusable {
            url: shown.to_owned(),
            cause: format!("its encoding is {encoding}: create a database with ENCODING 'UTF8'"),
        });
    }
    let (exists, relations, ours): (bool, i64, bool) = sqlx::query_as(
        "SELECT to_regnamespace('ajar') IS NOT NULL, \
         (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('ajar')), \
         to_regclass('ajar.migrations') IS NOT NULL AND to_regclass('ajar.lease_blocks') IS NOT NULL",
    )
    .fetch_one(&mut *tx)
    .await?;
    if relations > 0 && !ours {
        return Err(Error::NotOurs {
            url: format!("the schema ajar in {shown}"),
        });
    }
    if !exists {
        sqlx::query("CREATE SCHEMA ajar").execute(&mut *tx).await?;
    }
    // The migrations table's IF NOT EXISTS would be logged at every start.
    sqlx::query("SET LOCAL client_min_messages = warning")
        .execute(&mut *tx)
        .await?;
    let oldest = oldest(&mut tx).await?;
    schema::migrate(&mut *tx, schema::POSTGRES, MIGRATIONS, oldest, shown).await?;
    Ok(tx.commit().await?)
}

/// Returns the oldest schema whose programs may use the store, if it names one.
async fn oldest(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    let is_named: bool = sqlx::query_scalar("SELECT to_regclass('ajar.compatible') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !is_named {
        return Ok(None);
    }
    let oldest = sqlx::query_scalar("SELECT oldest FROM ajar.compatible WHERE one");
    oldest.fetch_optional(connection).await
}

fn explain(error: &sqlx::Error, url: String) -> Error {
    let cause = cause(error);
    if is_transient(error) {
        return Error::Unavailable { url, cause };
    }
    Error::Unusable { url, cause }
}

fn cause(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::PoolTimedOut => "no answer in time".to_owned(),
        error => error.to_string(),
    }
}

/// The URL without its password.
fn shown(options: &PgConnectOptions) -> String {
    let user = options.get_username();
    let database = options.get_database().unwrap_or(user);
    match options.get_socket() {
        Some(socket) => format!(
            "postgres:///{database}?host={}&user={user}",
            socket.display()
        ),
        None => {
            let (host, port) = (options.get_host(), options.get_port());
            format!("postgres://{user}@{host}:{port}/{database}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        let check = |url: &str, expect: &str| {
            let options = PgConnectOptions::from_str(url).unwrap();
            assert_eq!(shown(&options), expect, "{url}");
        };
        check(
            "postgres://ajar:s3cret@db.example:5433/audit",
            "postgres://ajar@db.example:5433/audit",
        );
        check(
            "postgresql://db.example/audit?user=ajar&password=s3cret",
            "postgres://ajar@db.example:5432/audit",
        );
        check(
            "postgres:///audit?host=/run/postgresql&user=ajar&password=s3cret",
            "postgres:///audit?host=/run/postgresql&user=ajar",
        );
    }
}
