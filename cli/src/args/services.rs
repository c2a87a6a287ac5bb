//! The services of a cluster, and how to reach it.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::Args;

use super::{CanaryPorts, names};

/// TLS with certificates on both sides.
#[derive(Debug, Clone, Default, Args)]
pub struct Tls {
    /// Our certificate chain, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// The authority that the other side must be certified by, PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Take plain text over a network.
    #[arg(long)]
    pub insecure: bool,
}

/// A cluster, if one is named.
#[derive(Debug, Clone, Args)]
pub struct MaybeRemote {
    /// The coordinator's URL, or several with commas between; the run stays in this process if not given.
    #[arg(long, value_name = "URL")]
    pub coordinator: Option<String>,
    #[command(flatten)]
    pub tls: Tls,
}

/// A cluster.
#[derive(Debug, Clone, Args)]
pub struct Remote {
    /// The coordinator's URL, or several with commas between: whichever answers.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7400")]
    pub coordinator: String,
    #[command(flatten)]
    pub tls: Tls,
}

/// What a service shows to monitoring.
#[derive(Debug, Clone, Copy, Args)]
pub struct Metrics {
    /// Serve /metrics for Prometheus, /healthz and /readyz here, over plain HTTP.
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<std::net::SocketAddr>,
}

/// `ajar coordinator`.
#[derive(Debug, Args)]
pub struct Coordinator {
    /// Where to listen.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7400")]
    pub listen: std::net::SocketAddr,
    /// Shards on offer: redis://HOST, redis-sentinel://HOST,HOST/0#MASTER, redis-cluster://HOST,HOST, or rediss for TLS; memory: for a
    /// single coordinator.
    #[arg(long, value_name = "URL", default_value = "memory:")]
    pub redis: String,
    /// The store: postgres:// or a SQLite file.
    #[arg(long, value_name = "URL", default_value = "ajar.db")]
    pub store: String,
    /// Most connections to PostgreSQL at a time.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(4..=1000))]
    pub store_connections: u32,
    /// Most new connections a second over all campaigns; no limit if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub site_rate: Option<u32>,
    /// Give a tenant N parts of shared rates and workers; others have 1. May be repeated.
    #[arg(long, value_name = "TENANT=N", value_delimiter = ',', value_parser = tenant_weight)]
    pub tenant_weight: Vec<(String, u32)>,
    /// Remove ended campaigns and their findings once their whole month is this old, as in 180d.
    /// Without it they stay.
    #[arg(long, value_name = "DAYS", value_parser = days)]
    pub keep_evidence: Option<Duration>,
    /// Whose signatures are accepted. Read again every second.
    #[arg(long, value_name = "FILE")]
    pub allowed_signers: Option<PathBuf>,
    #[command(flatten)]
    pub metrics: Metrics,
    #[command(flatten)]
    pub tls: Tls,
}

/// `ajar worker`.
#[derive(Debug, Args)]
pub struct Worker {
    #[command(flatten)]
    pub remote: Remote,
    /// The vantage point's name, in results. A certificate's name takes its place.
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub vantage: String,
    #[command(flatten)]
    pub standpoint: Standpoint,
    /// Whose signatures are accepted.
    #[arg(long, value_name = "FILE")]
    pub allowed_signers: Option<PathBuf>,
    /// Targets visited at the same time; as many as descriptors allow if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub capacity: Option<u32>,
    #[command(flatten)]
    pub metrics: Metrics,
}

/// The place of a worker, as its targets see it.
#[derive(Debug, Clone, Default, Args)]
pub struct Standpoint {
    /// The address that targets see, if this machine is behind NAT: a cloud's, a pod's, an
    /// office's. Its private address would count as inside. The canary must see the same one.
    #[arg(long, value_name = "ADDR")]
    pub public_address: Option<IpAddr>,
    /// The name by which mail servers are greeted; that of the address that they see if it leads
    /// back to the address, or else the canary's domain.
    #[arg(long, value_name = "NAME", value_parser = names::host_name)]
    pub helo: Option<String>,
}

/// `ajar canary`.
#[derive(Debug, Args)]
pub struct CanaryService {
    /// The address to bind.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    pub listen: IpAddr,
    /// The address that targets reach it by, if that is another one: a load balancer's, or a host's.
    #[arg(long, value_name = "ADDR")]
    pub advertise: Option<IpAddr>,
    /// A mail domain that is delivered here. Give two unrelated ones, so that a server in charge of one is not taken for a
    /// relay.
    #[arg(long, value_name = "NAME", value_delimiter = ',', required = true, value_parser = names::domain)]
    pub domain: Vec<String>,
    /// Whom an owner can write to, in probing.txt.
    #[arg(long, value_name = "MAIL", value_parser = names::mail_address)]
    pub contact: Option<String>,
    #[command(flatten)]
    pub metrics: Metrics,
    #[command(flatten)]
    pub ports: CanaryPorts,
    #[command(flatten)]
    pub remote: Remote,
}

/// Reads a number of days, at least 31: a mail proves a finding up to 30 days after the visit.
fn days(text: &str) -> Result<Duration, String> {
    const DAY: u64 = 24 * 3600;
    let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
    let days = days.filter(|days: &u64| (31..=36_500).contains(days));
    let days = days.ok_or("expected a number of days from 31 to 36500, as in 180d")?;
    Ok(Duration::from_secs(days * DAY))
}

fn tenant_weight(text: &str) -> Result<(String, u32), String> {
    let weight = |number: &str| number.parse().ok().filter(|weight| *weight > 0);
    let named = text
        .split_once('=')
        .filter(|(tenant, _)| !tenant.is_empty());
    let read = named.and_then(|(tenant, number)| Some((tenant.to_owned(), weight(number)?)));
    read.ok_or_else(|| {
        "expected a tenant's name and a whole number from 1 on, as in acme=3".to_owned()
    })
}
