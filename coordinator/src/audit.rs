//! Reading the audit log.

use ajar_proto::{convert, v1};
use ajar_store::AuditLink;
use futures::stream::{BoxStream, StreamExt};
use tonic::Status;

use crate::{Coordinator, error};

/// Entries of one message.
const PAGE: usize = 500;

impl Coordinator {
    /// The log as it is stored; whoever reads it checks the chain.
    pub(crate) async fn audit_pages(
        &self,
    ) -> Result<BoxStream<'static, Result<v1::AuditResponse, Status>>, Status> {
        let links = self.options.store.audit_log().await.map_err(error::store)?;
        let pages: Vec<_> = links
            .chunks(PAGE)
            .map(|links| {
                Ok(v1::AuditResponse {
                    links: links.iter().map(out).collect(),
                })
            })
            .collect();
        Ok(futures::stream::iter(pages).boxed())
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
