//! TLS towards targets.
//!
//! Architecture invariant: nothing outside this file names the verifier. It believes every certificate, because
//! a relay with a bad certificate is still a relay and nothing secret is ever said to a target; the connections of
//! ajar's own services must never be made with it.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
        client::{
            ResolvesClientCert, Resumption,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
        sign::CertifiedKey,
    },
};

use crate::{BoxStream, certificate};

/// Whom a handshake asks for (RFC 6066 section 3), and whether we show a certificate of our own if we are asked for one.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    name: ServerName<'static>,
    certificate: bool,
    /// What we want to speak inside, if that is asked for (RFC 7301). A server may have no opinion.
    alpn: Option<&'static [u8]>,
}

impl From<IpAddr> for Peer {
    /// No name is sent: the extension takes no addresses.
    fn from(ip: IpAddr) -> Self {
        ServerName::IpAddress(ip.into()).into()
    }
}

impl From<ServerName<'static>> for Peer {
    fn from(name: ServerName<'static>) -> Self {
        Self {
            name,
            certificate: false,
            alpn: None,
        }
    }
}

impl Peer {
    /// Asks for a name, or for the address if it is none.
    pub(crate) fn named(name: &str, ip: IpAddr) -> Self {
        ServerName::try_from(name.to_owned()).map_or_else(|_| ip.into(), Self::from)
    }

    /// Shows a certificate that nobody has reason to believe.
    pub(crate) fn with_certificate(self) -> Self {
        Self {
            certificate: true,
            ..self
        }
    }

    /// Returns the name that it asks for, if that is one.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.name {
            ServerName::DnsName(name) => Some(name.as_ref()),
            _ => None,
        }
    }

    /// Asks for what is to be spoken inside.
    pub(crate) fn speaking(self, alpn: Option<&'static [u8]>) -> Self {
        Self { alpn, ..self }
    }
}

/// A handshake that was done.
pub(crate) struct Shaken {
    pub(crate) stream: TlsStream<BoxStream>,
    /// The server asked for a certificate of ours.
    pub(crate) asks_who: bool,
    /// The host names in the server's certificate: see [`certificate`].
    pub(crate) names: Vec<String>,
}

/// Speaks TLS over a connection. The caller bounds its time and its bytes.
pub(crate) async fn handshake(stream: BoxStream, peer: Peer) -> io::Result<Shaken> {
    static CONFIG: LazyLock<ClientConfig> = LazyLock::new(config);
    static OURS: LazyLock<Option<Arc<CertifiedKey>>> = LazyLock::new(self_signed);
    let ours = Arc::new(Certificate {
        shown: OURS.clone().filter(|_| peer.certificate),
        asked: AtomicBool::new(false),
    });
    let mut config = CONFIG.clone();
    config.client_auth_cert_resolver = ours.clone();
    config.alpn_protocols = peer.alpn.map(<[u8]>::to_vec).into_iter().collect();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(peer.name, stream).await?;
    let chain = stream.get_ref().1.peer_certificates();
    let names = chain
        .and_then(|chain| chain.first())
        .map(|own| certificate::names(own));
    Ok(Shaken {
        stream,
        asks_who: ours.asked.load(Ordering::Relaxed),
        names: names.unwrap_or_default(),
    })
}

/// Returns whether a handshake failed with a peer that speaks TLS: it sent an alert, or has no
/// version or suite in common with us.
pub(crate) fn is_of_a_tls_peer(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(
        cause,
        Some(Error::AlertReceived(_) | Error::PeerIncompatible(_))
    )
}

/// Our own certificate, signed by itself.
fn self_signed() -> Option<Arc<CertifiedKey>> {
    let made = rcgen::generate_simple_self_signed(["ajar".to_owned()]).ok()?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let key = ring::sign::any_supported_type(&key).ok()?;
    let chain = vec![made.cert.der().clone()];
    Some(Arc::new(CertifiedKey::new(chain, key)))
}

/// What a server gets that asks who we are.
#[derive(Debug)]
struct Certificate {
    shown: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl ResolvesClientCert for Certificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.shown.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn config() -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    // Every examination is a first one: no state of one target reaches another.
    config.resumption = Resumption::disabled();
    config
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_none_falls_back_to_the_address() {
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(matches!(
            Peer::named("canary.test", ip).name,
            ServerName::DnsName(_)
        ));
        assert!(matches!(
            Peer::named("not a name", ip).name,
            ServerName::IpAddress(_)
        ));
    }
}
