//! Looks at campaigns that are watched: each is looked at once at a time, however many watch it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ajar_model::{CampaignId, campaign::State};
use ajar_proto::v1;
use futures::{Stream, stream};
use tokio::sync::watch;
use tonic::Status;

use crate::Coordinator;

/// How often a watched campaign is looked at.
const WATCH: Duration = Duration::from_millis(250);

/// What was seen; `None` before the first look.
type Seen = Option<Result<(v1::WatchResponse, State), Status>>;

/// Where the watchers of each campaign learn what was seen. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Watches(Arc<Mutex<HashMap<CampaignId, watch::Sender<Seen>>>>);

impl Coordinator {
    /// Returns what is seen of a campaign from now on, up to its end.
    pub(crate) fn looks(
        &self,
        id: CampaignId,
    ) -> impl Stream<Item = Result<v1::WatchResponse, Status>> + use<> {
        let seen = self.watch_with_others(id);
        stream::unfold(Some(seen), |seen| async move {
            let mut seen = seen?;
            seen.changed().await.ok()?;
            let look = seen.borrow_and_update().clone()?;
            let is_over = look.as_ref().map_or(true, |(_, state)| state.is_final());
            let look = look.map(|(response, _)| response);
            Some((look, (!is_over).then_some(seen)))
        })
    }

    fn watch_with_others(&self, id: CampaignId) -> watch::Receiver<Seen> {
        let Watches(watched) = &self.watches;
        let mut watched = watched.lock().expect("no holder panics");
        if let Some(watch) = watched.get(&id) {
            return watch.subscribe();
        }
        let (watch, seen) = watch::channel(None);
        watched.insert(id, watch.clone());
        tokio::spawn(self.clone().keep_looking(id, watch));
        seen
    }

    /// Looks at a campaign while somebody watches it, up to its end.
    async fn keep_looking(self, id: CampaignId, watch: watch::Sender<Seen>) {
        loop {
            tokio::time::sleep(WATCH).await;
            let look = self.look(id).await;
            let is_over = look.as_ref().map_or(true, |(_, state)| state.is_final());
            // Whoever begins to watch does so under this lock.
            let mut watched = self.watches.0.lock().expect("no holder panics");
            if is_over || watch.receiver_count() == 0 {
                watched.remove(&id);
                watch.send_replace(Some(look));
                return;
            }
            watch.send_replace(Some(look));
        }
    }
}
