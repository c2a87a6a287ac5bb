//! The audit log's chain: each entry's hash covers the entry and the hash before it.

use ajar_model::{CampaignId, Timestamp};
use sha2::{Digest, Sha256};

use crate::{Error, rows::Rows, stored};

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub at: Timestamp,
    /// Who: the subject of the caller's certificate, their address, or the local user.
    pub actor: String,
    /// What: `campaign.submit`, `campaign.cancel` and so on.
    pub action: String,
    /// The authorization's id, if there is one.
    pub authorization: Option<String>,
    pub campaign: Option<CampaignId>,
    /// Details for a person who reads it.
    pub detail: String,
}

/// An entry of the audit log with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLink {
    /// From 1, without a gap.
    pub number: u64,
    pub entry: AuditEntry,
    /// SHA-256 over the hash before, the number and the entry.
    pub hash: [u8; 32],
}

/// Stands before the first entry.
const START: [u8; 32] = [0; 32];

/// Appends an entry. No other one is appended until the transaction ends, so this comes last in it.
pub(crate) async fn append(tx: &mut dyn Rows, entry: &AuditEntry) -> Result<(), Error> {
    let entry = AuditEntry {
        at: stored::to_micros(entry.at),
        ..entry.clone()
    };
    check(&entry)?;
    let (number, previous) = match tx.lock_audit().await? {
        Some((number, hash)) => (number + 1, hash),
        None => (1, START),
    };
    let hash = link(&previous, number, &entry);
    tx.insert_audit(&AuditLink {
        number,
        entry,
        hash,
    })
    .await
}

/// Checks a log entry by entry, from its first. That the last ones were cut off is seen by
/// comparing with a head that was kept elsewhere.
#[derive(Debug)]
pub struct AuditChain {
    number: u64,
    hash: [u8; 32],
}

impl AuditChain {
    pub fn new() -> Self {
        Self {
            number: 0,
            hash: START,
        }
    }

    /// Takes the next entry. Fails if it is not as it was written, or one before it is missing.
    pub fn check(&mut self, stored: &AuditLink) -> Result<(), Error> {
        let number = self.number + 1;
        if stored.number != number || stored.hash != link(&self.hash, number, &stored.entry) {
            return Err(Error::AuditBroken { entry: number });
        }
        *self = Self {
            number,
            hash: stored.hash,
        };
        Ok(())
    }

    /// Returns how many entries were checked.
    pub fn entries(&self) -> u64 {
        self.number
    }
}

impl Default for AuditChain {
    fn default() -> Self {
        Self::new()
    }
}

fn check(entry: &AuditEntry) -> Result<(), Error> {
    stored::plain("an audit entry's actor", &entry.actor)?;
    stored::plain("an audit entry's action", &entry.action)?;
    stored::plain("an audit entry's detail", &entry.detail)?;
    stored::plain(
        "an audit entry's authorization",
        entry.authorization.as_deref().unwrap_or_default(),
    )
}

fn link(previous: &[u8; 32], number: u64, entry: &AuditEntry) -> [u8; 32] {
    let AuditEntry {
        at,
        actor,
        action,
        authorization,
        campaign,
        detail,
    } = entry;
    let campaign = campaign.map(|id| id.to_string());
    let fields = [
        Some(actor.as_str()),
        Some(action.as_str()),
        authorization.as_deref(),
        campaign.as_deref(),
        Some(detail.as_str()),
    ];
    let mut hash = Sha256::new_with_prefix(previous);
    hash.update(number.to_be_bytes());
    hash.update(stored::micros(*at).to_be_bytes());
    for field in fields {
        // Presence and length first: two different entries never hash the same bytes.
        hash.update([u8::from(field.is_some())]);
        let field = field.unwrap_or_default();
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use ajar_model::Timestamp;

    use super::*;

    fn verified(links: &[AuditLink]) -> Result<(), Error> {
        let mut chain = AuditChain::new();
        links.iter().try_for_each(|link| chain.check(link))
    }

    fn chain(details: &[&str]) -> Vec<AuditLink> {
        let mut previous = START;
        details
            .iter()
            .zip(1..)
            .map(|(detail, number)| {
                let entry = AuditEntry {
                    at: Timestamp::UNIX_EPOCH,
                    actor: "alice".to_owned(),
                    action: "campaign.submit".to_owned(),
                    authorization: None,
                    campaign: None,
                    detail: (*detail).to_owned(),
                };
                previous = link(&previous, number, &entry);
                AuditLink {
                    number,
                    entry,
                    hash: previous,
                }
            })
            .collect()
    }

    fn check(change: impl FnOnce(&mut Vec<AuditLink>), broken_at: Option<u64>) {
        let mut rows = chain(&["a", "b", "c"]);
        change(&mut rows);
        let found = match verified(&rows) {
            Err(Error::AuditBroken { entry }) => Some(entry),
            other => {
                other.unwrap();
                None
            }
        };
        assert_eq!(found, broken_at);
    }

    #[test]
    fn any_change_but_a_cut_tail_is_found() {
        check(|_| (), None);
        check(|rows| rows[1].entry.detail.push('!'), Some(2));
        check(
            |rows| rows[1].entry.authorization = Some(String::new()),
            Some(2),
        );
        check(|rows| rows[2].hash[0] ^= 1, Some(3));
        check(|rows| rows[0].number = 7, Some(1));
        check(|rows| rows.swap(0, 1), Some(1));
        check(|rows| drop(rows.remove(1)), Some(2));
        check(|rows| drop(rows.pop()), None);
    }
}
