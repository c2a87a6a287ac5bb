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

/// A lease that was to be kept.
#[derive(Debug)]
pub(crate) struct Named {
    pub shard: ShardId,
    pub token: u64,
    /// The revision of its campaign that its worker goes by.
    pub revision: u64,
    /// Why it has ended, unless it was kept.
    pub kept: Result<Terms, String>,
}

/// The terms on which a lease goes on.
#[derive(Debug)]
pub(crate) struct Terms {
    pub rate: u32,
    pub epoch: u64,
}

impl From<Named> for v1::LeaseNews {
    fn from(named: Named) -> Self {
        match named.kept {
            Ok(Terms { rate, epoch }) => kept(named.shard, named.token, rate, epoch),
            Err(cause) => ended(named.shard, named.token, cause),
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
    ) -> Result<Vec<Named>, Status> {
        let mut plans = BTreeMap::new();
        let (mut renewals, mut asked, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for request in requests {
            let shard = convert::shard_in(request.shard.clone())?;
            if certified.is_some() {
                self.check_holder(shard, request.token, certified).await?;
            }
            let planned = match plans.entry(shard.campaign) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(self.plan_or_cause(shard.campaign).await?),
            };
            let (token, revision) = (request.token, request.revision);
            let named = move |kept| Named {
                shard,
                token,
                revision,
                kept,
            };
            match planned {
                Ok(planned) => {
                    renewals.push(self.renewal(shard, &request, planned));
                    asked.push(named);
                }
                Err(cause) => all.push(named(Err(cause.clone()))),
            }
        }
        if renewals.is_empty() {
            return Ok(all);
        }
        let renewed = self.renewals.renew(renewals).await?;
        for (named, renewed) in asked.into_iter().zip(renewed) {
            let (answer, kept) = match renewed {
                Renewed::Kept { rate, epoch } => ("kept", Ok(Terms { rate, epoch })),
                Renewed::Fenced => ("fenced", Err(FENCED.to_owned())),
                Renewed::Stopped => ("stopped", Err(STOPPED.to_owned())),
            };
            metrics::counter!("ajar_renewals_total", "answer" => answer).increment(1);
            all.push(named(kept));
        }
        Ok(all)
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
