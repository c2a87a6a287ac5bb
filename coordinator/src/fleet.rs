//! Who works in a cluster, for operators.

use std::{collections::BTreeMap, time::Duration};

use ajar_model::CampaignId;
use ajar_proto::{
    convert,
    v1::{self, fleet_service_server::FleetService},
};
use tonic::{Request, Response, Status};

use crate::{Coordinator, error, holders};

/// A worker that was not heard of for so long is not there any more. Signs of life are stored every
/// thirty seconds.
const LATELY: Duration = Duration::from_secs(75);

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FleetService for Coordinator {
    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Reply<v1::ListWorkersResponse> {
        let store = &self.options.store;
        let there = store.workers(LATELY).await.map_err(error::store)?;
        let mut workers: BTreeMap<String, v1::Worker> = BTreeMap::new();
        for seen in there {
            let worker = v1::Worker {
                name: seen.worker.clone(),
                vantage: seen.vantage,
                last_seen: Some(convert::time_out(seen.last_seen)),
                ..v1::Worker::default()
            };
            workers.insert(seen.worker, worker);
        }
        for held in store.leases_by_worker().await.map_err(error::store)? {
            if let Some(worker) = workers.get_mut(holders::worker_of(&held.owner)) {
                worker.leases.push(v1::WorkerLeases {
                    campaign: held.campaign.to_string(),
                    leases: held.leases,
                    rate: held.rate,
                });
            }
        }
        let active = store.active_campaigns(None).await.map_err(error::store)?;
        for campaign in active.iter().map(|active| active.campaign) {
            self.add_troubles(campaign, &mut workers).await?;
        }
        let mut workers: Vec<v1::Worker> = workers.into_values().collect();
        workers.sort_by(|one, other| (&one.vantage, &one.name).cmp(&(&other.vantage, &other.name)));
        Ok(Response::new(v1::ListWorkersResponse { workers }))
    }

    async fn list_canaries(
        &self,
        _: Request<v1::ListFleetCanariesRequest>,
    ) -> Reply<v1::ListFleetCanariesResponse> {
        let listed = self.options.store.listed_canaries().await;
        let canaries = listed.map_err(error::store)?.into_iter();
        let canaries = canaries.map(|listed| v1::FleetCanary {
            canary: Some((&listed.canary).into()),
            first_seen: listed.first_seen.map(convert::time_out),
            last_seen: listed.last_seen.map(convert::time_out),
        });
        Ok(Response::new(v1::ListFleetCanariesResponse {
            canaries: canaries.collect(),
        }))
    }
}

impl Coordinator {
    async fn add_troubles(
        &self,
        campaign: CampaignId,
        workers: &mut BTreeMap<String, v1::Worker>,
    ) -> Result<(), Status> {
        let troubles = self.options.store.troubles(campaign).await;
        for trouble in troubles.map_err(error::store)? {
            if let Some(worker) = workers.get_mut(&trouble.worker) {
                worker.troubles.push(v1::WorkerTrouble {
                    campaign: campaign.to_string(),
                    cause: trouble.cause,
                });
            }
        }
        Ok(())
    }
}
