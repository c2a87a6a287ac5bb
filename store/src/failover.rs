//! After a failover of the database.
//!
//! The server that takes over may lack the last transactions of the one before: leases that it knows nothing of are valid
//! until their time is over, over blocks and rates that it takes for free. Nothing is granted or renewed until then.

use std::time::Duration;

use ajar_model::Timestamp;

use crate::{
    AuditEntry, Error, audit,
    rows::{Rows, Server},
    stored,
};

/// Whether leases that this server does not know may still be valid.
pub(crate) fn is_settling(server: Server, now: Timestamp) -> bool {
    match server {
        Server::Same => false,
        Server::TookOver => true,
        Server::SettlesAt(at) => now < at,
    }
}

/// The same for who is about to grant a lease. The first one that asks decides when the leases of the server before are over, and
/// puts it on record.
pub(crate) async fn settle(
    tx: &mut dyn Rows,
    server: Server,
    now: Timestamp,
    lease: Duration,
) -> Result<bool, Error> {
    if server == Server::TookOver {
        let at = now.saturating_add(lease).unwrap_or(Timestamp::MAX);
        tx.put_settles_at(stored::to_micros(at)).await?;
        let entry = AuditEntry {
            at: now,
            actor: "coordinator".to_owned(),
            action: "store.failover".to_owned(),
            authorization: None,
            campaign: None,
            detail: format!(
                "another database server took over; what the one before did last may be lost, so nothing is leased for {} seconds",
                lease.as_secs()
            ),
        };
        audit::append(tx, &entry).await?;
    }
    Ok(is_settling(server, now))
}
