//! The ends of connections: files for TLS, the canary's ports and key.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use ajar_canary::{PortChoice, Ports};
use ajar_model::Canary;
use ajar_proto::dial;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::{
    args,
    exit::{self, OrRefuse, refuse},
    request,
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

/// TLS for a listener; none where it is plain text, which is refused off loopback.
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

/// A canary's options. `before` is the canary that a campaign was begun with: its ports are then wanted exactly.
pub fn canary_options(
    options: &args::CanaryPorts,
    before: Option<&Canary>,
    address: IpAddr,
    domain: &str,
    contact: Option<&str>,
) -> anyhow::Result<ajar_canary::Options> {
    let ports = match (&options.canary_ports, before) {
        (Some(ports), _) => exact_ports(ports)?,
        (None, Some(canary)) => exact_ports(&[canary.smtp, canary.http, canary.https, canary.raw])?,
        (None, None) => Ports::default(),
    };
    let path = key_path(options)?;
    Ok(ajar_canary::Options {
        address,
        advertise: None,
        ports,
        domain: domain.to_owned(),
        key: ajar_canary::key::load_or_create(&path).or_refuse()?,
        contact: contact.map(str::to_owned),
    })
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
    let Some(directory) = request::state_directory() else {
        return refuse(
            "there is no home directory to keep the canary's key in: give --canary-key FILE",
        );
    };
    std::fs::create_dir_all(&directory)
        .map_err(|error| format!("{} cannot be made: {error}", directory.display()))
        .or_refuse()?;
    Ok(directory.join("canary.key"))
}
