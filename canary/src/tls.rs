//! The certificate of the canary's HTTPS port. Any certificate will do, since the answer inside
//! proves itself. Proxies that end TLS and check certificates need one that verifies.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

use crate::Error;

/// How often the files are read again: ACME clients renew them.
const AGAIN: Duration = Duration::from_secs(60);

/// A certificate chain and its key, PEM, as ACME clients write them.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// Takes TLS connections for a domain, with the certificate of these files or else one that it
/// signs itself.
pub(crate) fn acceptor(
    domain: &str,
    files: Option<CertificateFiles>,
) -> Result<TlsAcceptor, Error> {
    let certificate: Arc<dyn ResolvesServerCert> = match files {
        Some(files) => Arc::new(Renewed::read(files)?),
        None => Arc::new(Fixed(Arc::new(self_signed(domain)?))),
    };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn failed(cause: impl std::fmt::Display) -> Error {
    Error::Certificate(cause.to_string())
}

fn self_signed(domain: &str) -> Result<CertifiedKey, Error> {
    let made = rcgen::generate_simple_self_signed([domain.to_owned()]).map_err(failed)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let key = ring::sign::any_supported_type(&key).map_err(failed)?;
    Ok(CertifiedKey::new(vec![made.cert.der().clone()], key))
}

#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A certificate that is renewed while the canary runs.
#[derive(Debug)]
struct Renewed {
    files: CertificateFiles,
    current: Mutex<(Instant, Arc<CertifiedKey>)>,
}

impl Renewed {
    fn read(files: CertificateFiles) -> Result<Self, Error> {
        let certificate = Arc::new(certified(&files)?);
        Ok(Self {
            files,
            current: Mutex::new((Instant::now(), certificate)),
        })
    }
}

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut current = self.current.lock().expect("no holder panics");
        let (read_at, certificate) = &mut *current;
        if read_at.elapsed() >= AGAIN {
            *read_at = Instant::now();
            match certified(&self.files) {
                Ok(renewed) => *certificate = Arc::new(renewed),
                Err(error) => {
                    tracing::warn!(%error, "the canary keeps the certificate that it has");
                }
            }
        }
        Some(Arc::clone(certificate))
    }
}

fn certified(files: &CertificateFiles) -> Result<CertifiedKey, Error> {
    let unusable = |path: &PathBuf, cause: &dyn std::fmt::Display| {
        failed(format_args!("{} cannot be used: {cause}", path.display()))
    };
    let (chain, key) = (&files.chain, &files.key);
    let bytes = fs::read(chain).map_err(|error| unusable(chain, &error))?;
    let certificates: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| unusable(chain, &error))?;
    if certificates.is_empty() {
        return Err(unusable(chain, &"it holds no certificate"));
    }
    let bytes = fs::read(key).map_err(|error| unusable(key, &error))?;
    let secret = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| unusable(key, &error))?;
    let secret = ring::sign::any_supported_type(&secret).map_err(|error| unusable(key, &error))?;
    let certified = CertifiedKey::new(certificates, secret);
    certified
        .keys_match()
        .map_err(|error| unusable(key, &error))?;
    Ok(certified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_and_its_key_are_taken_and_what_does_not_fit_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let made = rcgen::generate_simple_self_signed(["canary.test".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["canary.test".to_owned()]).unwrap();
        let chain = write("chain.pem", &made.cert.pem());
        let key = write("key.pem", &made.signing_key.serialize_pem());
        let strange = write("strange.pem", &other.signing_key.serialize_pem());
        let missing = directory.path().join("missing.pem");
        let check = |chain: &PathBuf, key: &PathBuf, refused: Option<&str>| {
            let files = CertificateFiles {
                chain: chain.clone(),
                key: key.clone(),
            };
            let error = acceptor("canary.test", Some(files)).err();
            let error = error.map(|error| error.to_string());
            match (error, refused) {
                (None, None) => {}
                (Some(error), Some(path)) => assert!(error.contains(path), "{error}"),
                other => panic!("{other:?}"),
            }
        };
        check(&chain, &key, None);
        check(&chain, &strange, Some("strange.pem"));
        check(&missing, &key, Some("missing.pem"));
        check(&key, &key, Some("key.pem"));
        assert!(acceptor("canary.test", None).is_ok());
    }
}
