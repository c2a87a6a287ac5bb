//! PostgreSQL, for several coordinators at once.
//!
//! Everything is in the schema `ajar`, so that it may share a database with strangers: each transaction begins by naming it.
//! Writes run at READ COMMITTED and lock the rows they decide on.

/// A statement that locks the rows that it reads.
macro_rules! row_lock {
    ($statement:literal, $lock:literal) => {
        concat!($statement, " ", $lock)
    };
}

mod batches;
mod partitions;
mod removal;
mod server;
mod setup;

// The statements that are the same SQL in both databases: each file is compiled once for each.
#[path = "statements/campaigns.rs"]
mod campaigns;
#[path = "statements/exclusions.rs"]
mod exclusions;
#[path = "statements/findings.rs"]
mod findings;
#[path = "statements/leases.rs"]
mod leases;
#[path = "statements/orders.rs"]
mod orders;
#[path = "statements/records.rs"]
mod records;
#[path = "statements/replicas.rs"]
mod replicas;
#[path = "statements/schedules.rs"]
mod schedules;
#[path = "statements/shards.rs"]
mod shards;

use std::time::Duration;

use ajar_model::Timestamp;
use async_trait::async_trait;
use sqlx::{
    PgPool, Transaction,
    postgres::{PgPoolOptions, PgRow},
};

use crate::{
    Access, Clock, Error, Options,
    columns::At,
    rows::{Backend, Lock, Rows, Server},
};

/// How long a task waits for a connection.
const QUEUE: Duration = Duration::from_secs(30);

/// Advisory locks, which PostgreSQL keeps for each database: "ajar" in ASCII, and a number.
mod lock {
    pub(super) const SETUP: i64 = 0x616a_6172_0000_0000;
    /// Making the tables of a month.
    pub(super) const MAKE_MONTH: i64 = SETUP + 3;
    /// Dropping those of other months, which may wait for readers.
    pub(super) const DROP_MONTHS: i64 = SETUP + 4;

    pub(super) fn key(lock: crate::rows::Lock) -> i64 {
        match lock {
            crate::rows::Lock::Site => SETUP + 1,
            crate::rows::Lock::Audit => SETUP + 2,
        }
    }
}

pub(crate) struct Postgres {
    pool: PgPool,
    access: Access,
    clock: Option<Clock>,
}

/// A transaction and what stands in for the database's clock, and a row of what it reads.
struct Tx(Transaction<'static, sqlx::Postgres>, Option<Clock>);
type DatabaseRow = PgRow;

impl Postgres {
    /// Opens a database, whose tables are made or brought up to date if it may be written.
    pub(crate) async fn open(url: &str, options: &Options) -> Result<Self, Error> {
        let connect = setup::prepare(url, options).await?;
        let access = options.access;
        let pool = PgPoolOptions::new()
            .max_connections(options.connections.max(1))
            .acquire_timeout(QUEUE)
            .after_connect(move |connection, _| Box::pin(setup::session(connection, access)))
            .connect_lazy_with(connect);
        Ok(Self {
            pool,
            access,
            clock: options.clock,
        })
    }
}

#[async_trait]
impl Backend for Postgres {
    async fn read(&self) -> Result<Box<dyn Rows>, Error> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = ajar";
        Ok(Box::new(Tx(self.pool.begin_with(begin).await?, self.clock)))
    }

    async fn write(&self) -> Result<Box<dyn Rows>, Error> {
        let begin = match self.access {
            Access::Write | Access::Scratch => {
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL search_path = ajar"
            }
            Access::Read => {
                "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL search_path = ajar"
            }
        };
        Ok(Box::new(Tx(self.pool.begin_with(begin).await?, self.clock)))
    }

    fn writes_overlap(&self) -> bool {
        true
    }

    async fn drop_unused(&self) -> Result<(), Error> {
        let now = self.read().await?.now().await?;
        let mut connection = self.pool.acquire().await?;
        partitions::drop_unused(&mut connection, now).await
    }

    async fn close(&self) -> Result<(), Error> {
        self.pool.close().await;
        Ok(())
    }
}

#[async_trait]
impl Rows for Tx {
    async fn lock(&mut self, lock: Lock) -> Result<(), Error> {
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(lock::key(lock))
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn try_lock(&mut self, lock: Lock) -> Result<bool, Error> {
        let locked = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
            .bind(lock::key(lock))
            .fetch_one(&mut *self.0)
            .await?;
        Ok(locked)
    }

    async fn now(&mut self) -> Result<Timestamp, Error> {
        if let Some(clock) = self.1 {
            return Ok(clock());
        }
        let At(now) = sqlx::query_scalar("SELECT clock_timestamp()")
            .fetch_one(&mut *self.0)
            .await?;
        Ok(now)
    }

    async fn server(&mut self) -> Result<(Server, Timestamp), Error> {
        let (changed, settles_at, At(now)): (bool, Option<At>, At) =
            sqlx::query_as("SELECT changed, settles_at, clock_timestamp() FROM server WHERE one")
                .fetch_one(&mut *self.0)
                .await?;
        let server = match settles_at {
            Some(At(at)) => Server::SettlesAt(at),
            None if changed => Server::TookOver,
            None => Server::Same,
        };
        Ok((server, self.1.map_or(now, |clock| clock())))
    }

    async fn put_settles_at(&mut self, at: Timestamp) -> Result<(), Error> {
        sqlx::query("UPDATE server SET settles_at = $1 WHERE one")
            .bind(At(at))
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), Error> {
        Ok(self.0.commit().await?)
    }
}
