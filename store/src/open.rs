//! From what stands after `--store` to a store.

use std::{path::Path, sync::Arc, time::Duration};

use ajar_model::{Timestamp, url::unescaped};

use crate::{Error, Store, engine::Engine, postgres::Postgres, sqlite::Sqlite};

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a PostgreSQL server that is away is waited for.
    pub wait: Duration,
    /// Most connections to PostgreSQL at a time; at least 1.
    pub connections: u32,
    /// What may be done with it.
    pub access: Access,
    /// Stands in for the database's clock where time is simulated.
    pub clock: Option<Clock>,
}

/// Returns the time.
pub type Clock = fn() -> Timestamp;

/// What may be done with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everything. It is created if it is missing, and its tables are brought up to date.
    Write,
    /// The same, in a store that nobody keeps: an SQLite file is not synced.
    Scratch,
    /// It is read as it is, and nothing in it changes.
    Read,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(10),
            connections: 10,
            access: Access::Write,
            clock: None,
        }
    }
}

/// Opens the store that `url` names: `postgres://` or `postgresql://` for a PostgreSQL database, where everything is kept
/// in the schema `ajar`; `sqlite:PATH` or a bare path for an SQLite file. No message holds a password.
pub async fn open(url: &str, options: &Options) -> Result<Arc<dyn Store>, Error> {
    if let (Some((scheme, _)), Some(found)) = (url.split_once("://"), unescaped(url)) {
        return Err(Error::Password {
            scheme: scheme.to_owned(),
            found,
        });
    }
    match url.split_once("://") {
        Some(("postgres" | "postgresql", _)) => {
            Ok(Arc::new(Engine(Postgres::open(url, options).await?)))
        }
        Some(("sqlite", path)) => open_file(path, options).await,
        // What comes after may hold a password.
        Some((scheme, _)) => Err(Error::Url {
            url: format!("{scheme}://…"),
        }),
        None => open_file(url.strip_prefix("sqlite:").unwrap_or(url), options).await,
    }
}

async fn open_file(path: &str, options: &Options) -> Result<Arc<dyn Store>, Error> {
    // SQLite would take these for a database that dies with its connection.
    if path.is_empty() || path == ":memory:" {
        return Err(Error::Url {
            url: path.to_owned(),
        });
    }
    Ok(Arc::new(Engine(
        Sqlite::open(Path::new(path), options).await?,
    )))
}
