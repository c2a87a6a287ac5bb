//! How to reach a coordinator, in this process or elsewhere.

use std::sync::Arc;

use tonic::{Request, Status, service::interceptor::InterceptedService, transport::Channel};

pub use crate::remote::{Error, Remote, Tls, client_config};
use crate::{
    MAX_MESSAGE, local, trace,
    v1::{
        campaign_service_client::CampaignServiceClient, canary_service_client::CanaryServiceClient,
        exclusion_service_client::ExclusionServiceClient,
        finding_service_client::FindingServiceClient, fleet_service_client::FleetServiceClient,
        schedule_service_client::ScheduleServiceClient, work_service_client::WorkServiceClient,
    },
};

/// A channel whose calls carry the trace context.
pub type Traced = InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>;

/// A coordinator, near or far. Every client made from it has a connection of its own: control must not wait behind
/// bulk results.
#[derive(Clone)]
pub enum Coordinator {
    Local(local::Dialer),
    Remote(Arc<Remote>),
}

impl Coordinator {
    /// Returns the coordinator at one of these URLs, which commas separate. Refuses plain
    /// `http://` unless it stays on loopback or `insecure` is set.
    pub fn remote(urls: &str, tls: Option<Tls>, insecure: bool) -> Result<Self, Error> {
        Remote::new(urls, tls, insecure).map(|remote| Self::Remote(Arc::new(remote)))
    }

    /// A coordinator's client for workers.
    pub fn work(&self) -> WorkServiceClient<Traced> {
        WorkServiceClient::new(self.traced())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// A coordinator's client for operators.
    pub fn campaigns(&self) -> CampaignServiceClient<Traced> {
        CampaignServiceClient::new(self.traced())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// A coordinator's client for operators who let campaigns be run again and again.
    pub fn schedules(&self) -> ScheduleServiceClient<Traced> {
        ScheduleServiceClient::new(self.traced())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// Returns a coordinator's client for operators who exclude addresses.
    pub fn exclusions(&self) -> ExclusionServiceClient<Traced> {
        ExclusionServiceClient::new(self.traced())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// A coordinator's client for readers of findings.
    pub fn findings(&self) -> FindingServiceClient<Traced> {
        FindingServiceClient::new(self.traced()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// A coordinator's client for those who look after workers and canaries.
    pub fn fleet(&self) -> FleetServiceClient<Traced> {
        FleetServiceClient::new(self.traced()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// A coordinator's client for canaries.
    pub fn canary(&self) -> CanaryServiceClient<Traced> {
        CanaryServiceClient::new(self.traced())
    }

    /// True if nothing leaves this machine on the way there.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Local(_) => true,
            Self::Remote(remote) => remote.is_loopback(),
        }
    }

    fn traced(&self) -> Traced {
        let channel = match self {
            Self::Local(dialer) => dialer.channel(),
            Self::Remote(remote) => remote.channel(),
        };
        InterceptedService::new(channel, trace::inject)
    }
}
