//! Entries of the audit log, and reading it.

use ajar_model::{CampaignId, Timestamp};
use ajar_proto::{convert, v1};
use ajar_store::{AuditEntry, AuditLink};
use futures::stream::{BoxStream, StreamExt};
use tonic::Status;

use crate::{Coordinator, error};

/// Entries of one message.
const PAGE: u32 = 500;

/// Makes an entry, as of now, about something that is no campaign's alone.
pub(crate) fn entry(actor: &str, action: &str, detail: String) -> AuditEntry {
    AuditEntry {
        at: Timestamp::now(),
        actor: actor.to_owned(),
        action: action.to_owned(),
        authorization: None,
        campaign: None,
        detail,
    }
}

/// Makes an entry, as of now, about one campaign.
pub(crate) fn of(id: CampaignId, actor: &str, action: &str, detail: String) -> AuditEntry {
    AuditEntry {
        campaign: Some(id),
        ..entry(actor, action, detail)
    }
}

impl Coordinator {
    /// Returns the log as it is stored, a page at a time; its readers check the chain.
    pub(crate) fn audit_pages(&self) -> BoxStream<'static, Result<v1::AuditResponse, Status>> {
        let begun = Some((self.clone(), 0));
        let pages = futures::stream::unfold(begun, |state| async move {
            let (coordinator, after) = state?;
            let links = coordinator.options.store.audit_log(after, PAGE).await;
            let links = match links.map_err(error::store) {
                Ok(links) => links,
                Err(status) => return Some((Err(status), None)),
            };
            let last = links.last()?.number;
            let links = links.iter().map(out).collect();
            Some((Ok(v1::AuditResponse { links }), Some((coordinator, last))))
        });
        pages.boxed()
    }
}

fn out(link: &AuditLink) -> v1::AuditLink {
    let entry = &link.entry;
    let campaign = entry.campaign.map(|id| id.to_string());
    v1::AuditLink {
        number: link.number,
        hash: link.hash.to_vec(),
        at: Some(convert::time_out(entry.at)),
        actor: entry.actor.clone(),
        action: entry.action.clone(),
        authorization: entry.authorization.clone(),
        campaign: campaign.unwrap_or_default(),
        detail: entry.detail.clone(),
    }
}
