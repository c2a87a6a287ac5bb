//! Why the store refused or failed.

use ajar_model::ShardId;

use crate::orders::Stop;

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a URL of a known kind.
    #[error(
        "{url:?} is not a store: expected a file such as ajar.db, or postgres://USER@HOST/DATABASE"
    )]
    Url {
        /// What was given, without its password.
        url: String,
    },
    /// A password that is not escaped.
    #[error("the password in {scheme}://… has a {found:?}, which ends it: write it as %{:02X}", u32::from(*.found))]
    Password {
        /// The URL's scheme.
        scheme: String,
        /// The character that must be escaped.
        found: char,
    },
    /// It does not answer.
    #[error("the store {url} does not answer ({cause}): start it, or correct --store")]
    Unavailable {
        /// Where, without the password.
        url: String,
        cause: String,
    },
    /// It is there, and cannot serve.
    #[error("the store {url} cannot be used: {cause}")]
    Unusable {
        /// Where, without the password.
        url: String,
        /// What is wrong with it, and what to do.
        cause: String,
    },
    /// It was opened to be read, and an older version made its tables.
    #[error(
        "the store {url} cannot be used: its schema {schema} is of an older ajar: run `ajar scan` or `ajar coordinator` on it once"
    )]
    Older {
        /// Its address, without the password.
        url: String,
        /// The schema that it has.
        schema: i64,
    },
    /// Something else lives there.
    #[error(
        "{url} holds something that ajar did not make: give an empty database or a new file with --store"
    )]
    NotOurs {
        /// Where, without the password.
        url: String,
    },
    /// A newer program wrote it.
    #[error(
        "{url} was written by a newer ajar (schema {found}, this program knows {known}): use that one"
    )]
    Newer {
        /// Where, without the password.
        url: String,
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The id is taken by something else.
    #[error("{what} exists already, with other content")]
    Conflict { what: String },
    /// A tenant, or the whole site, was stopped.
    #[error(
        "{} stopped by {} at {}: `ajar campaign start-again` lifts that",
        .0.tenant.as_ref().map_or("everything was".to_owned(), |tenant| format!("tenant {tenant} was")), .0.by, .0.at
    )]
    Stopped(Stop),
    /// There is nothing of that name.
    #[error("{what} does not exist in this store")]
    Unknown { what: String },
    /// The token was never issued for the shard.
    #[error("token {token} was never issued for shard {shard}")]
    Fenced { shard: ShardId, token: u64 },
    /// The outcomes do not add up.
    #[error("shard {shard} has {counted} outcomes for {expected} targets and cannot be closed")]
    Incomplete {
        shard: ShardId,
        /// Outcomes.
        counted: u64,
        /// Targets.
        expected: u64,
    },
    /// A value that no honest caller stores.
    #[error("{what} cannot be stored: {cause}")]
    Invalid { what: &'static str, cause: String },
    /// An entry of the audit log was changed or removed.
    #[error("the audit log is broken at entry {entry}: it was changed outside ajar")]
    AuditBroken {
        /// Its number, from 1.
        entry: u64,
    },
    /// A stored value cannot be read.
    #[error("{what} in the store cannot be read: {cause}")]
    Corrupt { what: &'static str, cause: String },
    /// Anything else the database says.
    #[error("the store failed: {0}")]
    Database(#[from] sqlx::Error),
}

impl Error {
    /// True if trying again later may help: the database was away, busy or short of something, or broke a
    /// deadlock. What it refused for its content stays refused.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Unavailable { .. } => true,
            Error::Database(error) => is_transient(error),
            _ => false,
        }
    }
}

/// See [`Error::is_transient`].
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_transient_code(&code)),
        _ => false,
    }
}

/// SQLSTATE has five characters (PostgreSQL manual, appendix A). SQLite's extended result codes are shorter, and
/// their low byte is the primary code (sqlite.org/rescode.html).
fn is_transient_code(code: &str) -> bool {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const IO: i32 = 10;
    const FULL: i32 = 13;
    const CANNOT_OPEN: i32 = 14;
    if code.len() == 5 {
        return is_transient_class(code);
    }
    code.parse::<i32>()
        .is_ok_and(|code| matches!(code & 0xff, BUSY | LOCKED | IO | FULL | CANNOT_OPEN))
}

/// 08: connection; 25006: a standby that is not promoted yet; 40: rolled back, deadlock; 53: out of resources;
/// 55: lock not available; 57: operator intervention; 58: system error.
fn is_transient_class(code: &str) -> bool {
    code == "25006"
        || ["08", "40", "53", "55", "57", "58"]
            .iter()
            .any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_by_itself_is_transient() {
        let check =
            |code: &str, expect: bool| assert_eq!(is_transient_code(code), expect, "{code}");
        check("40P01", true);
        check("40001", true);
        check("57P03", true);
        check("53300", true);
        check("08006", true);
        check("22P05", false);
        check("23505", false);
        check("5", true);
        check("261", true);
        check("2067", false);
        check("26", false);
    }
}
