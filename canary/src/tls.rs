//! A certificate that nobody has to trust: what is proven is proven by the answer inside.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio_rustls::TlsAcceptor;

use crate::Error;

/// Takes TLS connections for a domain.
pub(crate) fn acceptor(domain: &str) -> Result<TlsAcceptor, Error> {
    let failed = |cause: &dyn std::fmt::Display| Error::Certificate(cause.to_string());
    let made = rcgen::generate_simple_self_signed([domain.to_owned()]).map_err(|e| failed(&e))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&e))?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .map_err(|e| failed(&e))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
