//! Who calls: the name in the audit log, and what they are certified for.

use std::{collections::BTreeSet, net::SocketAddr};

use ajar_model::Untrusted;
use sha2::{Digest, Sha256};
use tonic::{
    Request,
    codegen::http,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{
    roles::{Role, concerns_all},
    tenants::Tenants,
};

/// The subject of the caller's certificate with its fingerprint; without one, their address; in this process, its user.
pub(crate) fn name<T>(request: &Request<T>) -> String {
    if let Some(certified) = request.extensions().get::<Certified>() {
        return certified.name.clone();
    }
    match request.remote_addr().as_ref().map(SocketAddr::ip) {
        Some(ip) => format!("{ip}, without a certificate"),
        None => format!("local user {}", rustix::process::getuid().as_raw()),
    }
}

/// Which worker calls, by its certificate. None if callers cannot be told apart.
pub(crate) fn worker<T>(request: &Request<T>) -> Option<String> {
    request.extensions().get::<Certified>()?.worker.clone()
}

/// For whom this call is: everybody, unless the caller's certificate confines them.
pub(crate) fn tenants<T>(request: &Request<T>) -> Tenants {
    let certified = request.extensions().get::<Certified>();
    certified.map_or(Tenants::All, |certified| certified.tenants.clone())
}

/// Returns whether the caller may read nonces, as operators may. So may callers without
/// certificates, who all count as operators.
pub(crate) fn is_operator<T>(request: &Request<T>) -> bool {
    let certified = request.extensions().get::<Certified>();
    certified.is_none_or(|certified| {
        let mut roles = certified.roles.iter();
        roles.any(|(role, _)| *role == Role::Operator)
    })
}

/// Who a certificate was given to, and what for. The guard reads it once for each call, and leaves it with the call.
#[derive(Debug, Clone)]
pub(crate) struct Certified {
    /// The subject with the certificate's fingerprint.
    pub name: String,
    /// Each with the tenant that it is for, if it is for one alone.
    pub roles: Vec<(Role, Option<String>)>,
    /// For whom this call is.
    pub tenants: Tenants,
    /// The URI that makes it a worker's.
    pub worker: Option<String>,
}

impl Certified {
    /// By the certificate of a connection; nobody, for nothing, if it has none.
    pub(crate) fn of(connection: &http::Extensions) -> Self {
        let tls = connection.get::<TlsConnectInfo<TcpConnectInfo>>();
        let chain = tls.and_then(TlsConnectInfo::peer_certs);
        let certificate = chain.as_deref().and_then(|chain| chain.first());
        certificate.map_or_else(
            || Self {
                name: "somebody without a certificate".to_owned(),
                roles: Vec::new(),
                tenants: Tenants::These(BTreeSet::new()),
                worker: None,
            },
            |certificate| Self::by(certificate.as_ref()),
        )
    }

    fn by(der: &[u8]) -> Self {
        let digest = Sha256::digest(der);
        let fingerprint: String = digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let certificate = X509Certificate::from_der(der).ok();
        let certificate = certificate.map(|(_, certificate)| certificate);
        let uris = certificate.as_ref().map(uris).unwrap_or_default();
        let common = certificate.as_ref().and_then(common_name);
        let subject = uris.first().cloned().or(common).unwrap_or_default();
        let is_worker = |uri: &&String| Role::named_by(uri) == Some((Role::Worker, None));
        Self {
            name: format!(
                "{} (sha256 {fingerprint})",
                Untrusted::from(subject).clean()
            ),
            roles: uris.iter().filter_map(|uri| Role::named_by(uri)).collect(),
            tenants: Tenants::These(BTreeSet::new()),
            worker: uris.iter().find(is_worker).cloned(),
        }
    }
}

impl Certified {
    /// For whom the method at this path may be called; none if it may not.
    pub(crate) fn tenants_at(&self, path: &str) -> Option<Tenants> {
        let may = self.roles.iter().filter(|(role, _)| role.may(path));
        let tenants: Option<BTreeSet<String>> = may.map(|(_, tenant)| tenant.clone()).collect();
        match tenants {
            None => Some(Tenants::All),
            Some(tenants) if tenants.is_empty() || concerns_all(path) => None,
            Some(tenants) => Some(Tenants::These(tenants)),
        }
    }
}

fn uris(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let uris = names.filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    uris.collect()
}

fn common_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}
