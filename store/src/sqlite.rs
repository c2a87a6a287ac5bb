//! One file, for one machine.
//!
//! A single connection writes, with `BEGIN IMMEDIATE`, so that every write transaction sees the last one's result and
//! none has to be tried again; a few others read beside it. WAL with `synchronous=FULL` syncs the log at each
//! commit: an acknowledged write survives the end of the process and of the power (sqlite.org/pragma.html).

/// A statement that locks the rows that it reads. Here whoever writes is alone.
macro_rules! row_lock {
    ($statement:literal, $lock:literal) => {
        $statement
    };
}

mod batches;
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

use std::{
    fs::OpenOptions,
    io,
    path::Path,
    time::{Duration, Instant},
};

use ajar_model::{CampaignId, Timestamp};
use async_trait::async_trait;
use sqlx::{
    ConnectOptions, Connection, SqliteConnection, SqlitePool, Transaction,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};

use crate::{
    Access, Clock, Error, Options,
    rows::{Backend, Lock, PartitionRows, RemovalRows, Rows, Server},
    schema,
};

/// How long another process may keep the file locked.
const BUSY: Duration = Duration::from_secs(20);
/// Between two attempts to open it.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a task waits for a connection: many may queue up behind the one that writes.
const QUEUE: Duration = Duration::from_secs(120);
const READERS: u32 = 4;
/// "ajar" in ASCII, as the first migration sets it.
const APPLICATION_ID: i64 = 0x616a_6172;
/// SQLite's result codes (sqlite.org/rescode.html): another process holds the lock; the file is none of its own.
const LOCKED: i32 = 5;
const NOT_A_DATABASE: i32 = 26;
const MIGRATIONS: &str = "migrations";

pub(crate) struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
    clock: Clock,
}

/// A transaction with its clock, and a row of what it reads.
struct Tx(Transaction<'static, sqlx::Sqlite>, Clock);
type DatabaseRow = SqliteRow;

impl Sqlite {
    /// Opens a file, which is created if it is missing and may be written.
    pub(crate) async fn open(path: &Path, options: &Options) -> Result<Self, Error> {
        let access = options.access;
        // A file has no clock: it is this machine's.
        let clock = options.clock.unwrap_or(Timestamp::now);
        if access != Access::Read {
            create(path).map_err(|cause| Error::Unusable {
                url: path.display().to_string(),
                cause,
            })?;
        }
        let start = Instant::now();
        loop {
            match Self::try_open(path, access, clock).await {
                // Two processes that make one file's log at the same moment do not wait for each other.
                Err(error) if code(&error) == Some(LOCKED) && start.elapsed() < BUSY => {
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done.map_err(|error| explain(error, path)),
            }
        }
    }

    async fn try_open(path: &Path, access: Access, clock: Clock) -> Result<Self, Error> {
        let mut options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        if let Err(error) = look(&options, path, access).await {
            if access != Access::Read || !is_read_only(&error) || has_log(path) {
                return Err(error);
            }
            // SQLite cannot make its log beside the file, so nobody else writes either.
            options = options.immutable(true);
            look(&options, path, access).await?;
        }
        if access == Access::Read {
            let options = options.read_only(true);
            return Ok(Self {
                writer: pool(1).connect_lazy_with(options.clone()),
                readers: pool(READERS).connect_lazy_with(options),
                clock,
            });
        }
        let writing = options
            .clone()
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match access {
                Access::Scratch => SqliteSynchronous::Off,
                Access::Write | Access::Read => SqliteSynchronous::Full,
            });
        let writer = pool(1).connect_with(writing).await?;
        prepare(&writer, path).await?;
        let readers = pool(READERS).connect_lazy_with(options.read_only(true));
        Ok(Self {
            writer,
            readers,
            clock,
        })
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn read(&self) -> Result<Box<dyn Rows>, Error> {
        Ok(Box::new(Tx(self.readers.begin().await?, self.clock)))
    }

    async fn write(&self) -> Result<Box<dyn Rows>, Error> {
        let tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Box::new(Tx(tx, self.clock)))
    }

    fn writes_overlap(&self) -> bool {
        false
    }

    async fn drop_unused(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        // The last connection to end writes the log back and removes it, unless it may only read.
        self.readers.close().await;
        self.writer.close().await;
        Ok(())
    }
}

#[async_trait]
impl Rows for Tx {
    async fn lock(&mut self, _: Lock) -> Result<(), Error> {
        Ok(())
    }

    async fn try_lock(&mut self, _: Lock) -> Result<bool, Error> {
        Ok(true)
    }

    async fn now(&mut self) -> Result<Timestamp, Error> {
        Ok((self.1)())
    }

    async fn server(&mut self) -> Result<(Server, Timestamp), Error> {
        Ok((Server::Same, (self.1)()))
    }

    async fn put_settles_at(&mut self, _: Timestamp) -> Result<(), Error> {
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), Error> {
        Ok(self.0.commit().await?)
    }
}

/// One file has no partitions.
#[async_trait]
impl PartitionRows for Tx {
    async fn add_partitions(&mut self, _: CampaignId) -> Result<(), Error> {
        Ok(())
    }
}

/// Whoever writes is alone: all rows go at once.
#[async_trait]
impl RemovalRows for Tx {
    async fn retire(&mut self, id: CampaignId, _: Timestamp) -> Result<(), Error> {
        for statement in [
            "DELETE FROM sightings WHERE nonce IN (SELECT n.nonce FROM nonces n \
             JOIN findings f ON f.row = n.finding WHERE f.campaign = $1)",
            "DELETE FROM nonces WHERE finding IN (SELECT row FROM findings WHERE campaign = $1)",
            "DELETE FROM observations WHERE finding IN (SELECT row FROM findings WHERE campaign = $1)",
            "DELETE FROM lease_blocks WHERE campaign = $1",
            "DELETE FROM leases WHERE campaign = $1",
            "DELETE FROM rates WHERE campaign = $1",
            "DELETE FROM findings WHERE campaign = $1",
            "DELETE FROM shards WHERE campaign = $1",
            "DELETE FROM tokens WHERE campaign = $1",
            "DELETE FROM counts WHERE campaign = $1",
            "DELETE FROM open_endpoints WHERE campaign = $1",
            "DELETE FROM troubles WHERE campaign = $1",
            "DELETE FROM campaigns WHERE id = $1",
        ] {
            sqlx::query(statement)
                .bind(id.to_string())
                .execute(&mut *self.0)
                .await?;
        }
        Ok(())
    }

    async fn is_retired(&mut self, _: CampaignId) -> Result<bool, Error> {
        Ok(false)
    }

    async fn clear(&mut self, _: Timestamp) -> Result<bool, Error> {
        Ok(false)
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(QUEUE)
        .idle_timeout(None)
        .max_lifetime(None)
        // SQLite takes a transaction back by itself when the disk is full. The connection still
        // counts it, and would begin no other.
        .before_acquire(|connection, _| {
            let is_usable = !connection.is_in_transaction();
            Box::pin(async move { Ok(is_usable) })
        })
}

/// Creates the file, so that what is wrong with its place is said in plain words, and for its owner only: it holds the
/// keys of nonces.
fn create(path: &Path) -> Result<(), String> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let error = match options.open(path) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = directory.display();
    Err(match error.kind() {
        io::ErrorKind::NotFound => format!("the directory {directory} does not exist: create it"),
        io::ErrorKind::IsADirectory => "it is a directory: name a file in it".to_owned(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("it cannot be written ({error}): run as the owner of {directory}")
        }
        _ => error.to_string(),
    })
}

/// Fails before anything is changed: WAL mode alone would be written to a stranger's file.
async fn look(options: &SqliteConnectOptions, path: &Path, access: Access) -> Result<(), Error> {
    let mut connection = options.clone().read_only(true).connect().await?;
    check_is_ours(&mut connection, path).await?;
    if access == Access::Read {
        let url = path.display().to_string();
        let oldest = oldest(&mut connection).await?;
        schema::check(&mut connection, schema::SQLITE, MIGRATIONS, oldest, &url).await?;
    }
    Ok(connection.close().await?)
}

/// Returns whether a file could not be opened for want of the right to write beside it.
fn is_read_only(error: &Error) -> bool {
    const READ_ONLY: i32 = 8;
    const CANNOT_OPEN: i32 = 14;
    matches!(code(error), Some(READ_ONLY | CANNOT_OPEN))
}

/// Returns whether changes are in the log beside a file, and not in the file yet.
fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// Makes the tables, unless something else lives there. One process at a time does so.
async fn prepare(writer: &SqlitePool, path: &Path) -> Result<(), Error> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    check_is_ours(&mut tx, path).await?;
    let url = path.display().to_string();
    let oldest = oldest(&mut tx).await?;
    schema::migrate(&mut *tx, schema::SQLITE, MIGRATIONS, oldest, &url).await?;
    Ok(tx.commit().await?)
}

/// Returns the oldest schema whose programs may use the file, if it names one.
async fn oldest(connection: &mut SqliteConnection) -> Result<Option<i64>, Error> {
    let named = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'compatible')";
    let is_named: bool = sqlx::query_scalar(named)
        .fetch_one(&mut *connection)
        .await?;
    if !is_named {
        return Ok(None);
    }
    let oldest = sqlx::query_scalar("SELECT oldest FROM compatible WHERE one = 1");
    Ok(oldest.fetch_optional(connection).await?)
}

async fn check_is_ours(connection: &mut SqliteConnection, path: &Path) -> Result<(), Error> {
    // One statement: another process may make the tables at this moment.
    let (id, tables): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT application_id FROM pragma_application_id), \
         (SELECT count(*) FROM sqlite_schema)",
    )
    .fetch_one(connection)
    .await?;
    let is_empty = id == 0 && tables == 0;
    if id == APPLICATION_ID || is_empty {
        return Ok(());
    }
    Err(Error::NotOurs {
        url: path.display().to_string(),
    })
}

fn explain(error: Error, path: &Path) -> Error {
    let url = path.display().to_string();
    match (code(&error), error) {
        (Some(NOT_A_DATABASE), _) => Error::NotOurs { url },
        (_, Error::Database(error)) => Error::Unusable {
            url,
            cause: error.to_string(),
        },
        (_, error) => error,
    }
}

/// The primary result code.
fn code(error: &Error) -> Option<i32> {
    let Error::Database(sqlx::Error::Database(error)) = error else {
        return None;
    };
    Some(error.code()?.parse::<i32>().ok()? & 0xff)
}
