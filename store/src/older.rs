//! Judges findings again that older rules have judged. The evidence is kept, and rules get better.

use std::collections::BTreeSet;

use ajar_model::judge::RULES;

use crate::{
    Error, FindingKey, FindingQuery,
    ingest::{KEYS_AT_ONCE, judge_again},
    rows::{Backend, Key},
};

/// See [`crate::Store::judge_older`].
pub(crate) async fn judge_older(
    backend: &dyn Backend,
    mut after: Option<FindingKey>,
) -> Result<Option<FindingKey>, Error> {
    loop {
        let campaign = match &after {
            Some((campaign, ..)) => *campaign,
            None => match backend.read().await?.judged_by_older(RULES).await? {
                Some(campaign) => campaign,
                None => return Ok(None),
            },
        };
        let query = FindingQuery {
            campaign: Some(campaign),
            tenants: None,
            verdicts: Vec::new(),
            after: after.take(),
            limit: KEYS_AT_ONCE as u32,
        };
        let findings = backend.read().await?.findings(&query).await?;
        let Some(last) = findings.last() else {
            let mut tx = backend.write().await?;
            tx.put_judge(campaign, RULES).await?;
            tx.commit().await?;
            continue;
        };
        let last = (campaign, last.ip, last.port, last.probe.clone());
        let keys: BTreeSet<Key> = findings
            .into_iter()
            .map(|finding| Key {
                ip: finding.ip,
                port: finding.port,
                probe: finding.probe,
            })
            .collect();
        judge_again(backend, campaign, &Vec::from_iter(keys)).await?;
        return Ok(Some(last));
    }
}
