//! How many findings of each verdict a campaign has, kept by whoever changes one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ajar_model::{CampaignId, Verdict};

use crate::{
    Error,
    rows::{Awaits, Held, Rows},
    stored::{AWAITS_MAIL, AWAITS_REVISIT, FINISHED, LOST_REPLIES, OPEN_ENDPOINTS},
};

/// What a transaction changes in the counts of its campaign.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    by_kind: BTreeMap<&'static str, i64>,
    /// Endpoints with a finding that became open.
    opened: BTreeSet<(IpAddr, u16)>,
    /// Endpoints with a finding that is not called open any more.
    shut: BTreeSet<(IpAddr, u16)>,
}

impl Counts {
    /// Replies to SYNs were lost.
    pub(crate) fn lose(&mut self, replies: u64) {
        *self.by_kind.entry(LOST_REPLIES).or_default() += replies as i64;
    }

    /// Targets of a sweep have their outcome.
    pub(crate) fn finish(&mut self, targets: u64) {
        *self.by_kind.entry(FINISHED).or_default() += targets as i64;
    }

    /// A finding has this verdict now, and awaits this.
    pub(crate) fn change(&mut self, held: &Held, verdict: Verdict, awaits: &Awaits) {
        let before = held.finding.as_ref().map(|finding| finding.verdict);
        if let Some(before) = before {
            *self.by_kind.entry(before.as_str()).or_default() -= 1;
        }
        *self.by_kind.entry(verdict.as_str()).or_default() += 1;
        let mails = i64::from(awaits.mail) - i64::from(held.awaits.mail);
        *self.by_kind.entry(AWAITS_MAIL).or_default() += mails;
        let visits = i64::from(awaits.revisit.is_some()) - i64::from(held.awaits.revisit.is_some());
        *self.by_kind.entry(AWAITS_REVISIT).or_default() += visits;
        let endpoint = (held.key.ip, held.key.port);
        if verdict == Verdict::Open {
            self.opened.insert(endpoint);
        } else if before == Some(Verdict::Open) {
            self.shut.insert(endpoint);
        }
    }

    pub(crate) async fn put(
        mut self,
        tx: &mut dyn Rows,
        campaign: CampaignId,
        slot: i64,
    ) -> Result<(), Error> {
        let opened: Vec<(IpAddr, u16)> = self.opened.into_iter().collect();
        let new = tx.put_open_endpoints(campaign, &opened).await?;
        let mut change = new as i64;
        for endpoint in self.shut.difference(&opened.iter().copied().collect()) {
            change -= i64::from(tx.shut_endpoint(campaign, *endpoint).await?);
        }
        self.by_kind.insert(OPEN_ENDPOINTS, change);
        self.by_kind.retain(|_, change| *change != 0);
        tx.add_counts(campaign, slot, &self.by_kind).await
    }
}

/// Spreads the counts of a campaign over rows, so that writers seldom meet.
pub(crate) fn slot(number: u64) -> i64 {
    (number % 16) as i64
}
