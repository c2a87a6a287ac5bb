//! Connections to a coordinator in another process: plain on loopback, with TLS elsewhere.
//!
//! Several coordinators of a cluster are tried in turn. A connection whose certificate the other
//! side refuses says why: TLS 1.3 tells a client so only when it reads for the first time.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// The TLS configuration of a client. It changes when the certificates are renewed.
pub type Tls = watch::Receiver<Arc<ClientConfig>>;

/// Why a coordinator cannot be dialled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0:?} is not a coordinator: expected a URL such as https://scan.example.net:7400")]
    Url(String),
    /// Plain text over a network.
    #[error(
        "{0} would carry authorizations and results in plain text: use https:// with --tls-ca, or say --insecure"
    )]
    PlainText(String),
    /// TLS without an authority.
    #[error("{0} needs --tls-ca: the authority that its certificate is of")]
    NoAuthority(String),
}

/// Makes the TLS configuration of a client from trusted roots and its own chain and key.
pub fn client_config(
    roots: RootCertStore,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match identity {
        Some((chain, key)) => config.with_client_auth_cert(chain, key)?,
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// How long a connection to one address may take, with its handshake.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for the first bytes of a server. HTTP/2 servers send them at once (RFC 9113
/// section 3.4).
const PREFACE: Duration = Duration::from_secs(2);

/// The coordinators of a cluster in other processes.
pub struct Remote {
    places: Vec<Place>,
    /// The one that answered last.
    last: AtomicUsize,
}

struct Place {
    url: Uri,
    host: String,
    port: u16,
    /// Plain text if there is none.
    tls: Option<(Tls, ServerName<'static>)>,
}

impl Remote {
    /// Reads URLs that are separated by commas.
    pub(crate) fn new(urls: &str, tls: Option<Tls>, insecure: bool) -> Result<Self, Error> {
        let places = urls.split(',').map(str::trim);
        let places = places.map(|url| Place::new(url, tls.as_ref(), insecure));
        Ok(Self {
            places: places.collect::<Result<_, _>>()?,
            last: AtomicUsize::new(0),
        })
    }

    /// Hosts and ports.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, u16)> {
        let places = self.places.iter();
        places.map(|place| (place.host.as_str(), place.port))
    }

    /// Returns whether nothing leaves this machine on the way there.
    pub(crate) fn is_loopback(&self) -> bool {
        self.places.iter().all(|place| is_loopback(&place.host))
    }

    /// A channel with a connection of its own, opened when first used.
    pub(crate) fn channel(self: &Arc<Self>) -> Channel {
        let remote = Arc::clone(self);
        let connector = tower::service_fn(move |_: Uri| {
            let remote = Arc::clone(&remote);
            async move { remote.connect().await.map(TokioIo::new) }
        });
        // Every connection goes through the connector, which does TLS too.
        Endpoint::from_static("http://coordinator")
            .origin(self.places[0].url.clone())
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector)
    }

    /// Connects to the first coordinator that answers, from the one on that answered last.
    async fn connect(&self) -> io::Result<Connection> {
        let mut causes = Vec::new();
        let first = self.last.load(Ordering::Relaxed);
        for turn in 0..self.places.len() {
            let number = (first + turn) % self.places.len();
            let place = &self.places[number];
            let cause = match timeout(PATIENCE, place.connect()).await {
                Ok(Ok(connection)) => {
                    self.last.store(number, Ordering::Relaxed);
                    return Ok(connection);
                }
                Ok(Err(error)) => explained(&error),
                Err(_) => "no answer in time".to_owned(),
            };
            causes.push((place, cause));
        }
        let named = |(place, cause): &(&Place, String)| format!("{}: {cause}", place.url);
        Err(io::Error::other(match &causes[..] {
            [(_, cause)] => cause.clone(),
            several => several.iter().map(named).collect::<Vec<_>>().join("; "),
        }))
    }
}

impl Place {
    fn new(url: &str, tls: Option<&Tls>, insecure: bool) -> Result<Self, Error> {
        let malformed = || Error::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| malformed())?;
        let host = uri.host().ok_or_else(malformed)?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let (tls, usual) = match uri.scheme_str() {
            Some("https") => {
                let tls = tls.ok_or_else(|| Error::NoAuthority(url.to_owned()))?;
                let name = ServerName::try_from(host.clone()).map_err(|_| malformed())?;
                (Some((tls.clone(), name)), 443)
            }
            Some("http") if insecure || is_loopback(&host) => (None, 80),
            Some("http") => return Err(Error::PlainText(url.to_owned())),
            _ => return Err(malformed()),
        };
        Ok(Self {
            port: uri.port_u16().unwrap_or(usual),
            url: uri,
            host,
            tls,
        })
    }

    async fn connect(&self) -> io::Result<Connection> {
        #[expect(clippy::disallowed_methods, reason = "a coordinator is no target")]
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let Some((tls, name)) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let config = Arc::clone(&tls.borrow());
        let stream = TlsConnector::from(config).connect(name.clone(), stream);
        let mut stream = stream.await?;
        // It sends its settings as soon as it accepts us.
        let mut preface = vec![0; 512];
        let read = match timeout(PREFACE, stream.read(&mut preface)).await {
            Ok(read) => read?,
            // A server may wait for our bytes first.
            Err(_) => 0,
        };
        preface.truncate(read);
        let (rest, writer) = tokio::io::split(stream);
        let reader = io::Cursor::new(preface).chain(rest);
        Ok(Box::new(tokio::io::join(reader, writer)))
    }
}

/// Returns whether a URL's host is `localhost` or a loopback address.
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The connection of a channel.
type Connection = Box<dyn Stream>;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Names the certificate that is wrong, and its fault.
fn explained(error: &io::Error) -> String {
    let cause = error.get_ref();
    match cause.and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(wrong)) => {
            format!("its certificate {}", refused(wrong))
        }
        Some(rustls::Error::AlertReceived(alert)) => said(*alert).unwrap_or(error.to_string()),
        _ => error.to_string(),
    }
}

fn refused(wrong: &CertificateError) -> String {
    match wrong {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet".to_owned()
        }
        CertificateError::UnknownIssuer => "is of another authority than --tls-ca names".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "names other hosts; `ajar pki issue coordinator --host` names the ones that it is reached by".to_owned()
        }
        wrong => format!("cannot be accepted: {wrong}"),
    }
}

/// Explains an alert about our certificate (RFC 8446 section 6.2).
fn said(alert: AlertDescription) -> Option<String> {
    let about = match alert {
        AlertDescription::CertificateRequired => {
            "it wants a certificate: give --tls-cert and --tls-key"
        }
        AlertDescription::CertificateExpired => "it refuses our certificate, which has expired",
        AlertDescription::UnknownCA => {
            "it refuses our certificate, which is of an authority that it does not know"
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => {
            "it refuses our certificate; its audit log says why"
        }
        _ => return None,
    };
    Some(about.to_owned())
}
