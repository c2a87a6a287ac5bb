//! Keeping leases: what many workers ask at the same time is one transaction.
//!
//! While the store answers, further renewals gather. The more there are, the larger are the batches,
//! and the fewer are the commits for each lease.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use ajar_model::{CampaignId, ShardId};
use ajar_proto::{convert, v1};
use ajar_queue::Priority;
use ajar_store::{Renewal, Renewed, Store};
use tokio::sync::{mpsc, oneshot};
use tonic::{Code, Status};

use crate::{Coordinator, MARGIN, TTL, error, plans::Planned};

/// How long the first renewal of a batch waits for others.
const GATHER: Duration = Duration::from_millis(20);
/// Requests of a batch, and requests that wait for it.
const MOST: usize = 512;

/// Where renewals gather. Clones share it.
#[derive(Clone)]
pub(crate) struct Renewals(mpsc::Sender<Asked>);

/// The renewals of one request.
struct Asked {
    renewals: Vec<Renewal>,
    answer: oneshot::Sender<Result<Vec<Renewed>, Status>>,
}

impl Renewals {
    /// Renews in this store from now on, until the last clone is dropped.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let (asked, gathered) = mpsc::channel(MOST);
        tokio::spawn(renew_all(store, gathered));
        Self(asked)
    }

    /// Renews leases, and answers in their order.
    async fn renew(&self, renewals: Vec<Renewal>) -> Result<Vec<Renewed>, Status> {
        let (answer, answered) = oneshot::channel();
        let ended = |_| Status::unavailable("the coordinator ends");
        let asked = Asked { renewals, answer };
        self.0.send(asked).await.map_err(|_| ended(()))?;
        answered.await.map_err(|_| ended(()))?
    }
}

async fn renew_all(store: Arc<dyn Store>, mut gathered: mpsc::Receiver<Asked>) {
    let mut batch = Vec::new();
    while let Some(first) = gathered.recv().await {
        batch.push(first);
        tokio::time::sleep(GATHER).await;
        while batch.len() < MOST
            && let Ok(asked) = gathered.try_recv()
        {
            batch.push(asked);
        }
        let all: Vec<Renewal> = batch
            .iter()
            .flat_map(|asked| asked.renewals.iter().cloned())
            .collect();
        let renewed = store.renew(&all).await.map_err(error::store);
        let is_of_one = |status: &Status| status.code() != Code::Unavailable && batch.len() > 1;
        match renewed {
            Ok(renewed) => {
                let mut renewed = renewed.into_iter();
                for asked in batch.drain(..) {
                    let own = renewed.by_ref().take(asked.renewals.len()).collect();
                    // Whoever asked may be gone.
                    let _ = asked.answer.send(Ok(own));
                }
            }
            // One of them cannot be stored: the others are not to suffer from it.
            Err(status) if is_of_one(&status) => {
                for asked in batch.drain(..) {
                    let renewed = store.renew(&asked.renewals).await.map_err(error::store);
                    let _ = asked.answer.send(renewed);
                }
            }
            Err(status) => {
                for asked in batch.drain(..) {
                    let _ = asked.answer.send(Err(status.clone()));
                }
            }
        }
    }
}

impl Coordinator {
    /// Keeps leases of one worker, and says what became of each. Fails if one of them is another
    /// worker's, by the URI of this one's certificate.
    pub(crate) async fn keep(
        &self,
        requests: Vec<v1::RenewRequest>,
        certified: Option<&str>,
    ) -> Result<Vec<v1::LeaseNews>, Status> {
        let mut plans = BTreeMap::new();
        let mut renewals = Vec::new();
        let mut news = Vec::new();
        for request in requests {
            let shard = convert::shard_in(request.shard.clone())?;
            if certified.is_some() {
                self.check_holder(shard, request.token, certified).await?;
            }
            let planned = match plans.entry(shard.campaign) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(self.plan_or_cause(shard.campaign).await?),
            };
            match planned {
                Ok(planned) => renewals.push(self.renewal(shard, &request, planned)),
                Err(cause) => news.push(ended(shard, request.token, cause.clone())),
            }
        }
        if renewals.is_empty() {
            return Ok(news);
        }
        let asked: Vec<(ShardId, u64)> = renewals.iter().map(|r| (r.shard, r.token)).collect();
        let renewed = self.renewals.renew(renewals).await?;
        for ((shard, token), renewed) in asked.into_iter().zip(renewed) {
            let answer = match renewed {
                Renewed::Kept { .. } => "kept",
                Renewed::Fenced => "fenced",
                Renewed::Stopped => "stopped",
            };
            metrics::counter!("ajar_renewals_total", "answer" => answer).increment(1);
            news.push(match renewed {
                Renewed::Kept { rate, epoch } => kept(shard, token, rate, epoch),
                Renewed::Fenced => ended(shard, token, FENCED.to_owned()),
                Renewed::Stopped => ended(shard, token, STOPPED.to_owned()),
            });
        }
        Ok(news)
    }

    /// Returns the plan of a campaign that may go on, or else why none of its leases is kept.
    async fn plan_or_cause(&self, id: CampaignId) -> Result<Result<Arc<Planned>, String>, Status> {
        match self.permitted_plan(id).await {
            Ok(planned) => Ok(planned.map_err(|cause| cause.to_string())),
            Err(status) if status.code() == Code::NotFound => Ok(Err(status.message().to_owned())),
            Err(status) => Err(status),
        }
    }

    fn renewal(&self, shard: ShardId, request: &v1::RenewRequest, planned: &Planned) -> Renewal {
        let (each, caps) = self.terms(planned, Priority::Normal);
        Renewal {
            shard,
            token: request.token,
            number: request.number,
            rate: match request.rate {
                // A worker of an older version slows down before it asks, and never otherwise.
                0 => request.want_rate,
                rate => rate,
            },
            want_rate: request.want_rate.min(each),
            caps,
            ttl: TTL,
            margin: MARGIN,
        }
    }
}

/// Why leases end.
pub(crate) const FENCED: &str =
    "the shard is closed or another's, or its campaign has another authorization";
pub(crate) const STOPPED: &str = "the campaign is not running";

fn kept(shard: ShardId, token: u64, rate: u32, epoch: u64) -> v1::LeaseNews {
    let renewed = v1::RenewResponse {
        kept: true,
        ttl: Some(convert::duration_out(TTL)),
        rate,
        cause: String::new(),
        epoch,
    };
    news(shard, token, v1::lease_news::News::Renewed(renewed))
}

/// The news that a lease has ended.
pub(crate) fn ended(shard: ShardId, token: u64, cause: String) -> v1::LeaseNews {
    let renewed = v1::RenewResponse {
        cause,
        ..v1::RenewResponse::default()
    };
    news(shard, token, v1::lease_news::News::Renewed(renewed))
}

/// News of a lease.
pub(crate) fn news(shard: ShardId, token: u64, news: v1::lease_news::News) -> v1::LeaseNews {
    v1::LeaseNews {
        shard: Some(shard.into()),
        token,
        news: Some(news),
    }
}
