//! The ends of connections to a coordinator.

use std::{net::IpAddr, sync::Arc};

use ajar_proto::dial;
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::{
    args, certificates,
    exit::{self, OrRefuse, refuse},
};

/// The coordinator at a URL.
pub fn dial(url: &str, tls: &args::Tls) -> anyhow::Result<dial::Coordinator> {
    exit::COORDINATOR.get_or_init(|| url.to_owned());
    dial::Coordinator::remote(url, certificates::client(tls)?, tls.insecure).or_refuse()
}

/// The coordinator of a cluster.
pub fn to(cluster: &args::Remote) -> anyhow::Result<dial::Coordinator> {
    dial(&cluster.coordinator, &cluster.tls)
}

/// TLS for a listener; none if it is plain text, which is refused off loopback.
pub fn server_tls(
    listen: IpAddr,
    tls: &args::Tls,
) -> anyhow::Result<Option<watch::Receiver<Arc<ServerConfig>>>> {
    let Some((certificate, key)) = tls.tls_cert.as_deref().zip(tls.tls_key.as_deref()) else {
        return match tls.insecure || listen.is_loopback() {
            true => Ok(None),
            false => refuse(format_args!(
                "{listen} would take authorizations and results in plain text: give --tls-cert, --tls-key and --tls-ca, or say --insecure"
            )),
        };
    };
    let Some(authority) = &tls.tls_ca else {
        return refuse(
            "without --tls-ca anybody could submit campaigns and report results: name the authority that clients are certified by",
        );
    };
    certificates::server(certificate, key, authority).map(Some)
}
