//! The certificates of this process: checked at its start, and read again when their files change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ajar_proto::dial;
use jiff::Timestamp;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{sync::watch, time::Instant};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{args, exit::OrRefuse};

/// How often the files are read.
const EVERY: Duration = Duration::from_secs(1);
/// Time between two warnings of the same end.
const REMINDER: Duration = Duration::from_secs(24 * 3600);

/// What a server does TLS by, from one renewal to the next.
pub fn server(
    certificate: &Path,
    key: &Path,
    authority: &Path,
) -> anyhow::Result<watch::Receiver<Arc<ServerConfig>>> {
    let files = Files {
        identity: Some((certificate.to_owned(), key.to_owned())),
        authority: authority.to_owned(),
        usage: Usage::Server,
    };
    files.follow(Pem::server)
}

/// What a client does TLS by, from one renewal to the next, if an authority is named.
pub fn client(tls: &args::Tls) -> anyhow::Result<Option<watch::Receiver<Arc<ClientConfig>>>> {
    let Some(authority) = &tls.tls_ca else {
        return Ok(None);
    };
    let files = Files {
        identity: tls.tls_cert.clone().zip(tls.tls_key.clone()),
        authority: authority.clone(),
        usage: Usage::Client,
    };
    files.follow(Pem::client).map(Some)
}

/// Where the certificates are.
struct Files {
    /// Our chain and its key.
    identity: Option<(PathBuf, PathBuf)>,
    /// Whom the other side must be certified by.
    authority: PathBuf,
    usage: Usage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usage {
    Server,
    Client,
}

/// What the files hold.
#[derive(Clone, PartialEq, Eq)]
struct Texts {
    identity: Option<(Vec<u8>, Vec<u8>)>,
    authority: Vec<u8>,
}

type Build<C> = fn(Pem) -> Result<C, rustls::Error>;

impl Files {
    fn follow<C: Send + Sync + 'static>(
        self,
        build: Build<C>,
    ) -> anyhow::Result<watch::Receiver<Arc<C>>> {
        let texts = self.read().or_refuse()?;
        let (config, life) = self.built(&texts, build).or_refuse()?;
        let (sender, receiver) = watch::channel(Arc::new(config));
        tokio::spawn(self.reread(texts, life, build, sender));
        Ok(receiver)
    }

    fn read(&self) -> Result<Texts, String> {
        let identity = self.identity.as_ref();
        let identity = identity.map(|(chain, key)| Ok::<_, String>((read(chain)?, read(key)?)));
        Ok(Texts {
            identity: identity.transpose()?,
            authority: read(&self.authority)?,
        })
    }

    /// Checks what was read.
    fn built<C>(&self, texts: &Texts, build: Build<C>) -> Result<(C, Option<Life>), String> {
        let mut pem = Pem {
            identity: None,
            roots: roots(&texts.authority, &self.authority)?,
        };
        let Some(((path, key_path), (chain, key))) =
            self.identity.as_ref().zip(texts.identity.as_ref())
        else {
            let config = build(pem).map_err(|error| unusable(&self.authority, error))?;
            return Ok((config, None));
        };
        let chain = certificates(chain, path)?;
        let life = Life::of(&chain[0], self.usage).map_err(|cause| unusable(path, cause))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unusable(key_path, error))?;
        pem.identity = Some((chain, key));
        let config = build(pem).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => unusable(
                key_path,
                format_args!("it is not the key of {}", path.display()),
            ),
            error => unusable(path, error),
        })?;
        Ok((config, Some(life)))
    }

    /// Reads the files again for as long as somebody listens.
    async fn reread<C>(
        self,
        mut known: Texts,
        mut life: Option<Life>,
        build: Build<C>,
        sender: watch::Sender<Arc<C>>,
    ) {
        let mut before = known.clone();
        let mut reminded: Option<Instant> = None;
        loop {
            if let (Some(life), Some((path, _))) = (&life, &self.identity) {
                life.count();
                let is_due = reminded.is_none_or(|at| at.elapsed() >= REMINDER);
                if is_due && life.remind(path) {
                    reminded = Some(Instant::now());
                }
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = sender.closed() => return,
            }
            let Ok(texts) = self.read() else {
                // A renewal may be replacing the files. What was read is still good.
                continue;
            };
            // Read twice alike: the chain and its key are not replaced at the same moment.
            let is_settled = std::mem::replace(&mut before, texts.clone()) == texts;
            if !is_settled || texts == known {
                continue;
            }
            match self.built(&texts, build) {
                Ok((config, new)) => {
                    tracing::info!(
                        until = new.as_ref().map(|life| life.end.to_string()),
                        "the certificates were read again"
                    );
                    sender.send_replace(Arc::new(config));
                    (life, reminded) = (new, None);
                }
                Err(cause) => tracing::error!(cause, "the certificates stay as they were"),
            }
            known = texts;
        }
    }
}

/// Certificates that were parsed.
struct Pem {
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    roots: RootCertStore,
}

impl Pem {
    fn client(self) -> Result<ClientConfig, rustls::Error> {
        dial::client_config(self.roots, self.identity)
    }

    fn server(self) -> Result<ServerConfig, rustls::Error> {
        let (chain, key) = self.identity.expect("a server has one");
        let clients = WebPkiClientVerifier::builder(self.roots.into()).build();
        let clients = clients.map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = ServerConfig::builder()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// How long a certificate is valid.
struct Life {
    start: Timestamp,
    end: Timestamp,
}

impl Life {
    /// Reads the life of a certificate that is valid for its use, or says why it is not.
    fn of(certificate: &[u8], usage: Usage) -> Result<Self, String> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        let time = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).map_err(|error| error.to_string())
        };
        let life = Self {
            start: time(parsed.validity.not_before)?,
            end: time(parsed.validity.not_after)?,
        };
        let now = Timestamp::now();
        if now < life.start {
            return Err(format!(
                "it is valid from {} on, and it is {now:.0}",
                life.start
            ));
        }
        if now > life.end {
            return Err(format!(
                "it expired at {}; `ajar pki issue` makes another",
                life.end
            ));
        }
        let usages = parsed
            .extended_key_usage()
            .map_err(|error| error.to_string())?;
        let serves = usages
            .as_ref()
            .is_none_or(|usages| usages.value.server_auth || usages.value.any);
        let calls = usages
            .as_ref()
            .is_none_or(|usages| usages.value.client_auth || usages.value.any);
        match usage {
            Usage::Server if !serves => Err(
                "it is a client's, and a coordinator needs a server's: `ajar pki issue coordinator NAME --host HOST`".to_owned(),
            ),
            Usage::Client if !calls => Err(
                "it is a server's, and this command needs a client's: `ajar pki issue` with the role of its user".to_owned(),
            ),
            _ => Ok(life),
        }
    }

    /// Shows the end to monitoring.
    fn count(&self) {
        metrics::gauge!("ajar_certificate_expiry_timestamp_seconds")
            .set(self.end.as_second() as f64);
    }

    /// Warns of an end that is near: when a fifth of its life is left. Returns whether it did.
    fn remind(&self, path: &Path) -> bool {
        let now = Timestamp::now().as_second();
        let left = self.end.as_second() - now;
        let whole = self.end.as_second() - self.start.as_second();
        let (file, end) = (path.display(), self.end);
        if left < 0 {
            tracing::error!(%file, %end, "our certificate has expired: put a new one into its file");
        } else if left < whole / 5 {
            tracing::warn!(%file, %end, "our certificate ends soon: put a new one into its file");
        }
        left < whole / 5
    }
}

fn roots(text: &[u8], path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(text, path)? {
        let added = roots.add(authority);
        added.map_err(|error| unusable(path, error))?;
    }
    Ok(roots)
}

/// The certificates in a PEM text, at least one.
fn certificates(text: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let certificates = read.map_err(|error| unusable(path, error))?;
    if certificates.is_empty() {
        return Err(format!("{} holds no certificate in PEM", path.display()));
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

fn unusable(path: &Path, cause: impl std::fmt::Display) -> String {
    format!("{} cannot be used: {cause}", path.display())
}
