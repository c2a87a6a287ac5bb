//! Who calls: the name in the audit log.

use std::net::SocketAddr;

use ajar_model::Untrusted;
use sha2::{Digest, Sha256};
use tonic::Request;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The subject of the caller's certificate with its fingerprint; without one, their address; in this process, its user.
pub(crate) fn name<T>(request: &Request<T>) -> String {
    let certificate = request
        .peer_certs()
        .and_then(|certificates| Some(of_certificate(certificates.first()?.as_ref())));
    let address = request.remote_addr().as_ref().map(SocketAddr::ip);
    match (certificate, address) {
        (Some(certificate), _) => certificate,
        (None, Some(ip)) => format!("{ip}, without a certificate"),
        (None, None) => format!("local user {}", rustix::process::getuid().as_raw()),
    }
}

fn of_certificate(der: &[u8]) -> String {
    let digest = Sha256::digest(der);
    let fingerprint: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let subject = X509Certificate::from_der(der).map(|(_, certificate)| subject(&certificate));
    let subject = subject.ok().flatten().unwrap_or_default();
    format!(
        "{} (sha256 {fingerprint})",
        Untrusted::from(subject).clean()
    )
}

/// A SPIFFE id or another URI, else the common name.
fn subject(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let uri = names.and_then(|names| {
        names
            .value
            .general_names
            .iter()
            .find_map(|name| match name {
                GeneralName::URI(uri) => Some((*uri).to_owned()),
                _ => None,
            })
    });
    let common = certificate.subject().iter_common_name().next();
    uri.or_else(|| common?.as_str().ok().map(str::to_owned))
}
