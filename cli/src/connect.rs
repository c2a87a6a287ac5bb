//! The ends of connections to a coordinator, and their files for TLS.

use std::{net::IpAddr, path::Path};

use ajar_proto::dial;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::{
    args,
    exit::{self, OrRefuse, refuse},
};

/// The coordinator at a URL.
pub fn dial(url: &str, tls: &args::Tls) -> anyhow::Result<dial::Coordinator> {
    exit::COORDINATOR.get_or_init(|| url.to_owned());
    let files = dial::Tls {
        identity: identity(tls)?,
        ca: tls.tls_ca.as_deref().map(read).transpose()?,
    };
    dial::Coordinator::remote(url, &files, tls.insecure).or_refuse()
}

/// The coordinator of a cluster.
pub fn to(cluster: &args::Remote) -> anyhow::Result<dial::Coordinator> {
    dial(&cluster.coordinator, &cluster.tls)
}

/// TLS for a listener; none if it is plain text, which is refused off loopback.
pub fn server_tls(listen: IpAddr, tls: &args::Tls) -> anyhow::Result<Option<ServerTlsConfig>> {
    let Some((chain, key)) = identity(tls)? else {
        return match tls.insecure || listen.is_loopback() {
            true => Ok(None),
            false => refuse(format_args!(
                "{listen} would take authorizations and results in plain text: give --tls-cert, --tls-key and --tls-ca, or say --insecure"
            )),
        };
    };
    let Some(ca) = &tls.tls_ca else {
        return refuse(
            "without --tls-ca anybody could submit campaigns and report results: name the authority that clients are certified by",
        );
    };
    let config = ServerTlsConfig::new().identity(Identity::from_pem(chain, key));
    Ok(Some(
        config.client_ca_root(Certificate::from_pem(read(ca)?)),
    ))
}

fn identity(tls: &args::Tls) -> anyhow::Result<Option<(Vec<u8>, Vec<u8>)>> {
    match tls.tls_cert.as_deref().zip(tls.tls_key.as_deref()) {
        Some((chain, key)) => Ok(Some((read(chain)?, read(key)?))),
        None => Ok(None),
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))
        .or_refuse()
}
