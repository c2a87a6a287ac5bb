//! The cluster that a command talks to.

use ajar_model::{CampaignId, signers::AllowedSigners};
use ajar_probe::Limits;
use ajar_proto::dial;
use ajar_store::Access;
use tokio::sync::watch;

use crate::{args, connect, local::LocalCluster};

/// A coordinator with its workers.
pub enum Cluster {
    Here(Box<LocalCluster>),
    Remote(dial::Coordinator),
}

impl Cluster {
    /// The cluster that is named, or one in this process that drives the campaign `id` in the store.
    pub async fn open(
        remote: &args::MaybeRemote,
        store_url: &str,
        signers: watch::Receiver<AllowedSigners>,
        id: CampaignId,
    ) -> anyhow::Result<Self> {
        match &remote.coordinator {
            Some(url) => connect::dial(url, &remote.tls).map(Self::Remote),
            None => {
                let local = LocalCluster::start(store_url, signers, id, Access::Write).await?;
                Ok(Self::Here(Box::new(local)))
            }
        }
    }

    /// What the options name, to read what is there.
    pub async fn read(source: &args::Source) -> anyhow::Result<Self> {
        match &source.remote.coordinator {
            Some(url) => connect::dial(url, &source.remote.tls).map(Self::Remote),
            None => {
                let local = LocalCluster::read(&source.store).await?;
                Ok(Self::Here(Box::new(local)))
            }
        }
    }

    /// How to reach its coordinator.
    pub fn coordinator(&self) -> &dial::Coordinator {
        match self {
            Cluster::Here(local) => &local.coordinator,
            Cluster::Remote(coordinator) => coordinator,
        }
    }

    /// Starts a worker in this process; another cluster has its own.
    pub fn work(&mut self, signers: watch::Receiver<AllowedSigners>, standpoint: args::Standpoint) {
        if let Cluster::Here(local) = self {
            local.work(signers, Limits::default(), standpoint);
        }
    }

    /// Ends what runs in this process; everything that was seen is stored.
    pub async fn stop(self) -> anyhow::Result<()> {
        match self {
            Cluster::Here(local) => local.stop().await,
            Cluster::Remote(_) => Ok(()),
        }
    }
}
