//! Which server a session is of, and whether it is the one that wrote before.

use sqlx::{Connection, PgConnection};

/// Tokens that a server before may have issued and this one does not know: none of them is issued again.
const TOKENS: i64 = 1 << 32;

/// Notes the server of a session that is to write. A server stays at one timeline for as long as it can write, so that a look at the
/// beginning of each session is enough. Fails on a standby, whose sessions would outlast its promotion.
pub(super) async fn note(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let name: Option<String> = sqlx::query_scalar(
        "SELECT CASE WHEN NOT pg_is_in_recovery() \
         THEN (SELECT system_identifier FROM pg_control_system()) || ' ' || \
         left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END",
    )
    .fetch_one(&mut *connection)
    .await?;
    let name = name.ok_or_else(|| {
        sqlx::Error::Io(std::io::Error::other(
            "it is a standby: name the server that takes writes",
        ))
    })?;
    let known: Option<String> = sqlx::query_scalar("SELECT name FROM ajar.server WHERE one")
        .fetch_optional(&mut *connection)
        .await?;
    if known.as_ref() == Some(&name) {
        return Ok(());
    }
    let mut tx = connection.begin().await?;
    let changed: Option<bool> = sqlx::query_scalar(
        "INSERT INTO ajar.server AS s (name) VALUES ($1) \
         ON CONFLICT (one) DO UPDATE SET name = $1, changed = true, settles_at = NULL \
         WHERE s.name <> $1 RETURNING changed",
    )
    .bind(&name)
    .fetch_optional(&mut *tx)
    .await?;
    if changed == Some(true) {
        tracing::warn!(
            "another database server took over: what the one before did last may be lost, and nothing is leased for a while"
        );
        sqlx::query(
            "SELECT setval(s, nextval(s) + $1) \
             FROM (SELECT pg_get_serial_sequence('ajar.tokens', 'token')::regclass) AS t (s)",
        )
        .bind(TOKENS)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await
}

/// Warns if a failover would lose what was acknowledged: there are standbys, and a commit waits for none.
pub(super) async fn warn_of_loss(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let loses: bool = sqlx::query_scalar(
        "SELECT current_setting('synchronous_standby_names') = '' \
         AND EXISTS (SELECT FROM pg_stat_replication)",
    )
    .fetch_one(connection)
    .await?;
    if loses {
        tracing::warn!(
            "the database has standbys, and a commit waits for none of them: a failover would lose the last results, pauses and \
             cancellations (set synchronous_standby_names)"
        );
    }
    Ok(())
}
