//! For which campaigns something may be sent at present: looked at for all sessions together, so
//! that a stop reaches workers before they ask.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ajar_model::CampaignId;
use ajar_store::Sending;
use tokio::sync::watch;

use crate::{Coordinator, Drives, error};

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// When the store was asked.
    pub asked: Instant,
    /// The campaigns for which something may be sent.
    pub campaigns: BTreeMap<CampaignId, Sending>,
}

/// Where sessions learn that it changed. Clones share it.
pub(crate) type Looks = watch::Sender<Look>;

/// Before the first look.
pub(crate) fn none() -> Looks {
    let look = Look {
        asked: Instant::now(),
        campaigns: BTreeMap::new(),
    };
    watch::Sender::new(look)
}

impl Coordinator {
    /// Looks while there are sessions. Without an answer nothing is said: leases end by themselves.
    pub(crate) async fn keep_looking_what_may_send(self) {
        if self.options.drives == Drives::Nothing {
            return;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            if self.looks.receiver_count() == 0 {
                continue;
            }
            let asked = Instant::now();
            let sending = match self.options.store.sending().await {
                Ok(sending) => sending,
                Err(cause) => {
                    let cause = error::store(cause);
                    tracing::debug!(cause = cause.message(), "what may be sent is not known");
                    continue;
                }
            };
            let campaigns = sending.into_iter().map(|one| (one.campaign, one)).collect();
            self.looks.send_if_modified(|look| {
                let changed = look.campaigns != campaigns;
                *look = Look { asked, campaigns };
                changed
            });
        }
    }
}
