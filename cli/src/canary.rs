//! The operator's own end: the canary that this process starts, and the one that a cluster has.

use std::{net::IpAddr, path::PathBuf};

use ajar_canary::{PortChoice, Ports, Recorder};
use ajar_model::{Canary, Sighting};
use ajar_proto::{
    dial,
    v1::{self, canary_service_client::CanaryServiceClient},
};
use futures::future::{BoxFuture, FutureExt};

use crate::{
    args, directories,
    exit::{OrRefuse, from_status, refuse},
};

/// A canary's options. `before` is the canary that a campaign was begun with: its ports are then wanted exactly.
pub fn options(
    options: &args::CanaryPorts,
    before: Option<&Canary>,
    address: IpAddr,
    domains: &[&str],
    contact: Option<String>,
) -> anyhow::Result<ajar_canary::Options> {
    let ports = match (&options.canary_ports, before) {
        (Some(ports), _) => exact_ports(ports)?,
        (None, Some(canary)) => exact_ports(&[canary.smtp, canary.http, canary.https, canary.raw])?,
        (None, None) => Ports::default(),
    };
    let path = key_path(options)?;
    let (domain, other_domain) = match domains {
        [domain] => (*domain, None),
        [domain, other] if !is_within(domain, other) && !is_within(other, domain) => {
            (*domain, Some((*other).to_owned()))
        }
        [_, _] => return refuse("the canary's two mail domains must not be within each other"),
        _ => return refuse("a canary has one or two mail domains"),
    };
    Ok(ajar_canary::Options {
        address,
        advertise: None,
        ports,
        domain: domain.to_owned(),
        other_domain,
        key: ajar_canary::key::load_or_create(&path).or_refuse()?,
        contact,
        certificate: options.certificate_files(),
    })
}

/// True if a name is that of a domain, or below it.
fn is_within(name: &str, domain: &str) -> bool {
    let (name, domain) = (name.to_ascii_lowercase(), domain.to_ascii_lowercase());
    let above = name.strip_suffix(&domain);
    above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
}

fn exact_ports(ports: &[u16]) -> anyhow::Result<Ports> {
    let &[smtp, http, https, raw] = ports else {
        return refuse("--canary-ports takes four ports: SMTP,HTTP,HTTPS,RAW, as 25,80,443,7401");
    };
    let exact = PortChoice::Exact;
    Ok(Ports {
        smtp: exact(smtp),
        http: exact(http),
        https: exact(https),
        raw: exact(raw),
    })
}

fn key_path(options: &args::CanaryPorts) -> anyhow::Result<PathBuf> {
    if let Some(path) = &options.canary_key {
        return Ok(path.clone());
    }
    let Some(directory) = directories::state() else {
        return refuse(
            "there is no home directory to keep the canary's key in: give --canary-key FILE",
        );
    };
    std::fs::create_dir_all(&directory)
        .map_err(|error| format!("{} cannot be made: {error}", directory.display()))
        .or_refuse()?;
    Ok(directory.join("canary.key"))
}

/// The canary of a cluster: the first that is registered with this address and these domains, if they are given.
pub async fn registered(
    coordinator: &dial::Coordinator,
    options: &args::Request,
) -> anyhow::Result<Canary> {
    let listed = coordinator
        .campaigns()
        .list_canaries(v1::ListCanariesRequest {})
        .await;
    let canaries = listed.map_err(from_status)?.into_inner().canaries;
    for canary in canaries {
        let canary = Canary::try_from(canary)?;
        let address_fits = options
            .canary
            .is_none_or(|address| address == canary.address);
        let mut asked = options.canary_domain.iter();
        let domains_fit = asked.all(|asked| canary.domains().any(|domain| domain == asked));
        if address_fits && domains_fit {
            return Ok(canary);
        }
    }
    refuse("the cluster has no such canary: start one with `ajar canary --coordinator URL`")
}

/// A canary's reports, on their way to a coordinator over one connection.
pub struct Reporting(CanaryServiceClient<dial::Traced>);

impl Reporting {
    pub fn new(coordinator: &dial::Coordinator) -> Self {
        Self(coordinator.canary())
    }
}

impl Recorder for Reporting {
    fn record(&self, sighting: Sighting) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let request = v1::RecordRequest {
                sighting: Some((&sighting).into()),
            };
            let recorded = self.0.clone().record(request).await;
            recorded
                .map(|_| ())
                .map_err(|status| status.message().to_owned())
        }
        .boxed()
    }
}
