//! TLS towards targets.
//!
//! Architecture invariant: nothing outside this file names the verifier. It believes every certificate, because
//! a relay with a bad certificate is still a relay and nothing secret is ever said to a target; the connections of
//! ajar's own services must never be made with it.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
        client::{
            Resumption,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use crate::BoxStream;

/// Whom a handshake asks for (RFC 6066 section 3).
#[derive(Debug, Clone)]
pub(crate) struct Peer(ServerName<'static>);

impl From<IpAddr> for Peer {
    /// No name is sent: the extension takes no addresses.
    fn from(ip: IpAddr) -> Self {
        Self(ServerName::IpAddress(ip.into()))
    }
}

impl Peer {
    /// Asks for a name, or for the address if it is none.
    pub(crate) fn named(name: &str, ip: IpAddr) -> Self {
        ServerName::try_from(name.to_owned()).map_or_else(|_| ip.into(), Self)
    }
}

/// Speaks TLS over a connection. The caller bounds its time and its bytes.
pub(crate) async fn handshake(stream: BoxStream, peer: Peer) -> io::Result<TlsStream<BoxStream>> {
    static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| Arc::new(config()));
    TlsConnector::from(Arc::clone(&CONFIG))
        .connect(peer.0, stream)
        .await
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
            Peer::named("canary.test", ip).0,
            ServerName::DnsName(_)
        ));
        assert!(matches!(
            Peer::named("not a name", ip).0,
            ServerName::IpAddress(_)
        ));
    }
}
