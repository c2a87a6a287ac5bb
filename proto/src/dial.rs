//! How to reach a coordinator, in this process or elsewhere.

use std::{net::IpAddr, time::Duration};

use tonic::{
    Request, Status,
    service::interceptor::InterceptedService,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    MAX_MESSAGE, local, trace,
    v1::{
        campaign_service_client::CampaignServiceClient, canary_service_client::CanaryServiceClient,
        exclusion_service_client::ExclusionServiceClient,
        finding_service_client::FindingServiceClient,
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
    Remote(Box<Endpoint>),
}

/// PEM texts for TLS with certificates on both sides.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Our certificate chain and key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The authority that the other side must be certified by.
    pub ca: Option<Vec<u8>>,
}

/// Why a coordinator cannot be dialled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0:?} is not a coordinator: expected a URL such as https://scan.example.net:7400")]
    Url(String),
    /// Plain text over a network.
    #[error(
        "{0} would carry authorizations and results in plain text: use https:// with --tls-ca, or say --insecure"
    )]
    PlainText(String),
    /// The certificates cannot be used.
    #[error("the TLS files for {url} cannot be used: {cause}")]
    Tls { url: String, cause: String },
}

impl Coordinator {
    /// The coordinator at `url`. Plain `http://` is refused unless it stays on loopback or `insecure` is set.
    pub fn remote(url: &str, tls: &Tls, insecure: bool) -> Result<Self, Error> {
        let malformed = || Error::Url(url.to_owned());
        let uri: http::Uri = url.parse().map_err(|_| malformed())?;
        let host = uri.host().ok_or_else(malformed)?;
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| malformed())?;
        let endpoint = match uri.scheme_str() {
            Some("https") => {
                let config = client_tls(tls);
                endpoint.tls_config(config).map_err(|error| Error::Tls {
                    url: url.to_owned(),
                    // Of itself it says no more than "transport error".
                    cause: std::error::Error::source(&error)
                        .map_or_else(|| error.to_string(), ToString::to_string),
                })?
            }
            Some("http") if insecure || is_loopback(host) => endpoint,
            Some("http") => return Err(Error::PlainText(url.to_owned())),
            _ => return Err(malformed()),
        };
        Ok(Self::Remote(Box::new(
            endpoint
                .connect_timeout(Duration::from_secs(5))
                .http2_keep_alive_interval(Duration::from_secs(5))
                .keep_alive_timeout(Duration::from_secs(5))
                .keep_alive_while_idle(true)
                .tcp_nodelay(true),
        )))
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

    /// A coordinator's client for canaries.
    pub fn canary(&self) -> CanaryServiceClient<Traced> {
        CanaryServiceClient::new(self.traced())
    }

    /// True if nothing leaves this machine on the way there.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Local(_) => true,
            Self::Remote(endpoint) => endpoint.uri().host().is_some_and(is_loopback),
        }
    }

    fn traced(&self) -> Traced {
        let channel = match self {
            Self::Local(dialer) => dialer.channel(),
            Self::Remote(endpoint) => endpoint.connect_lazy(),
        };
        InterceptedService::new(channel, trace::inject)
    }
}

fn client_tls(tls: &Tls) -> ClientTlsConfig {
    let mut config = ClientTlsConfig::new();
    if let Some(ca) = &tls.ca {
        config = config.ca_certificate(Certificate::from_pem(ca));
    }
    if let Some((chain, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(chain, key));
    }
    config
}

/// True for `localhost` and loopback addresses, as they stand in a URL.
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
