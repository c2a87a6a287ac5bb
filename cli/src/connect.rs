//! The ends of connections to a coordinator, and their files for TLS.

use std::{net::IpAddr, path::Path, sync::Arc};

use ajar_proto::dial;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

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
pub fn server_tls(listen: IpAddr, tls: &args::Tls) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let Some((certificate, key)) = tls.tls_cert.as_deref().zip(tls.tls_key.as_deref()) else {
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
    let mut roots = RootCertStore::empty();
    for authority in certificates(ca)? {
        roots
            .add(authority)
            .map_err(|e| unusable(ca, e))
            .or_refuse()?;
    }
    let clients = WebPkiClientVerifier::builder(roots.into()).build();
    let chain = certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| unusable(key, e));
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(clients.map_err(|e| unusable(ca, e)).or_refuse()?)
        .with_single_cert(chain, secret.or_refuse()?)
        .map_err(|error| unusable(certificate, error))
        .or_refuse()?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Some(Arc::new(config)))
}

/// The certificates in a PEM file, at least one.
fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let certificates = read.map_err(|error| unusable(path, error)).or_refuse()?;
    match certificates.is_empty() {
        true => refuse(format_args!(
            "{} holds no certificate in PEM",
            path.display()
        )),
        false => Ok(certificates),
    }
}

fn unusable(path: &Path, cause: impl std::fmt::Display) -> String {
    format!("{} cannot be used: {cause}", path.display())
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
