//! PostgreSQL, for several coordinators at once.
//!
//! Everything is in the schema `ajar`, so that it may share a database with strangers. Writes run at READ COMMITTED and
//! lock the rows they decide on.

mod at;
mod campaigns;
mod findings;
mod leases;
mod records;
mod setup;

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{PgPool, Transaction, postgres::PgPoolOptions};

use crate::{
    Access, Error, Options,
    rows::{Backend, Rows},
};

/// How long a task waits for a connection.
const QUEUE: Duration = Duration::from_secs(30);

/// Advisory locks, which PostgreSQL keeps for each database: "ajar" in ASCII, and a number.
mod lock {
    pub(super) const SETUP: i64 = 0x616a_6172_0000_0000;
    pub(super) const SITE: i64 = 0x616a_6172_0000_0001;
    pub(super) const AUDIT: i64 = 0x616a_6172_0000_0002;
}

/// A PostgreSQL database.
pub(crate) struct Postgres {
    pool: PgPool,
    access: Access,
}

/// A PostgreSQL transaction.
pub(crate) struct PostgresRows(Transaction<'static, sqlx::Postgres>);

impl Postgres {
    /// Opens a database, whose tables are made or brought up to date if it may be written.
    pub(crate) async fn open(url: &str, options: &Options) -> Result<Self, Error> {
        let connect = setup::prepare(url, options).await?;
        let pool = PgPoolOptions::new()
            .max_connections(options.connections.max(1))
            .acquire_timeout(QUEUE)
            .after_connect(|connection, _| Box::pin(setup::session(connection)))
            .connect_lazy_with(connect);
        Ok(Self {
            pool,
            access: options.access,
        })
    }
}

#[async_trait]
impl Backend for Postgres {
    async fn read(&self) -> Result<Box<dyn Rows>, Error> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        Ok(Box::new(PostgresRows(self.pool.begin_with(begin).await?)))
    }

    async fn write(&self) -> Result<Box<dyn Rows>, Error> {
        let begin = match self.access {
            Access::Write => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            Access::Read => "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
        };
        Ok(Box::new(PostgresRows(self.pool.begin_with(begin).await?)))
    }

    fn writes_overlap(&self) -> bool {
        true
    }

    async fn close(&self) -> Result<(), Error> {
        self.pool.close().await;
        Ok(())
    }
}

#[async_trait]
impl Rows for PostgresRows {
    async fn commit(self: Box<Self>) -> Result<(), Error> {
        Ok(self.0.commit().await?)
    }
}

impl PostgresRows {
    /// Waits until no other transaction holds the lock, and holds it to the end of this one.
    async fn lock(&mut self, lock: i64) -> Result<(), Error> {
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(lock)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }
}
