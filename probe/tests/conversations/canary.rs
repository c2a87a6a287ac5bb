//! The canary at the far end of a tunnel, as honest proxies reach it.

use std::sync::Arc;

use ajar_model::{
    Canary, Nonce, Timestamp,
    proof::{Answer, CanaryKey},
};
use ed25519_dalek::SigningKey;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
        client::danger::HandshakeSignatureValid,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
        server::{
            NoClientAuth,
            danger::{ClientCertVerified, ClientCertVerifier},
        },
    },
};

use crate::{peer::Conn, smtp};

/// The canary of every test, as probes know it.
pub fn model() -> Canary {
    Canary {
        domain: "canary.test".to_owned(),
        other_domain: None,
        address: "192.0.2.9".parse().unwrap(),
        smtp: 25,
        http: 80,
        https: 443,
        raw: 7401,
        key: CanaryKey::from(&key()),
    }
}

pub fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// Plays one of its ports, signing with any key: another than its own is a forger's.
pub async fn serve(mut conn: Conn, port: u16, key: SigningKey) {
    match port {
        80 => judge(conn, port, key).await,
        443 => judge(secure(conn).await.unwrap(), port, key).await,
        25 => {
            conn.say("220 canary.test ESMTP ajar-canary\r\n").await;
            sink(conn, key, smtp::obliging).await;
        }
        7401 => {
            conn.say("ajar-canary canary.test\r\n").await;
            let answer = conn.line().await.and_then(|line| sign(&line, port, &key));
            conn.say(answer.unwrap_or_default() + "\r\n").await;
        }
        port => panic!("a probe asked for port {port}, which is not the canary's"),
    }
}

/// The judge: answers `GET /<nonce>`, in origin or absolute form.
pub async fn judge(mut conn: Conn, port: u16, key: SigningKey) {
    let Some(request) = conn.head().await else {
        return;
    };
    let page = page(&request, port, &key);
    conn.say(page).await;
}

/// The judge's page for a request line, on this port.
pub fn page(request: &str, port: u16, key: &SigningKey) -> String {
    let target = request.split(' ').nth(1).unwrap_or("");
    let nonce = target.rsplit('/').next();
    let answer = nonce.and_then(|nonce| sign(nonce, port, key));
    match answer {
        Some(answer) => format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n{answer}\n"),
        None => "HTTP/1.1 404 Not Found\r\n\r\n".to_owned(),
    }
}

/// What a proxy that fetches for strangers answers: the judge's page, if that is what it was asked for.
pub fn fetched(request: &str, key: &SigningKey) -> String {
    let target = request.split(' ').nth(1).unwrap_or("");
    let mine = ["http://192.0.2.9:80/", "http://canary.test:80/"];
    match mine.iter().any(|judge| target.starts_with(judge)) {
        true => page(request, 80, key),
        false => "HTTP/1.1 502 Bad Gateway\r\n\r\n".to_owned(),
    }
}

/// The mail sink after its banner: answers `EHLO <nonce>.…` among its extensions, and everything else by a rule.
pub async fn sink(mut conn: Conn, key: SigningKey, rule: impl Fn(&str) -> &'static str) {
    while let Some(line) = conn.line().await {
        let hello = line.strip_prefix("EHLO ");
        let nonce = hello.and_then(|name| name.split('.').next());
        let answer = nonce.and_then(|nonce| sign(nonce, 25, &key));
        match answer {
            Some(answer) => {
                conn.say(format!(
                    "250-canary.test\r\n250-SIZE 1000\r\n250 {answer}\r\n"
                ))
                .await;
            }
            None => {
                smtp::answer(&mut conn, &line, &rule).await;
            }
        }
    }
}

/// The answer to a nonce that came to this port.
pub fn sign(nonce: &str, port: u16, key: &SigningKey) -> Option<String> {
    let nonce: Nonce = nonce.parse().ok()?;
    let egress = "198.51.100.9".parse().unwrap();
    Some(Answer::sign(key, nonce, egress, port, Timestamp::UNIX_EPOCH).to_string())
}

/// Accepts TLS with a certificate that nobody has reason to believe; none if the handshake fails.
pub async fn secure(conn: Conn) -> Option<Conn> {
    secure_for(conn, &[]).await
}

/// The same for these protocols inside it (RFC 7301).
pub async fn secure_for(conn: Conn, protocols: &[&[u8]]) -> Option<Conn> {
    accept(conn, Arc::new(NoClientAuth), protocols).await
}

/// The same, and asks for a certificate of the client's, any at all; none if it is `mandatory` and there is none.
pub async fn secure_and_ask(conn: Conn, mandatory: bool) -> Option<Conn> {
    let provider = ring::default_provider();
    accept(
        conn,
        Arc::new(AnyClient {
            provider,
            mandatory,
        }),
        &[],
    )
    .await
}

async fn accept(
    conn: Conn,
    clients: Arc<dyn ClientCertVerifier>,
    protocols: &[&[u8]],
) -> Option<Conn> {
    let certified = rcgen::generate_simple_self_signed(["wrong.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let nth = conn.nth;
    let stream = TlsAcceptor::from(Arc::new(config))
        .accept(conn.into_stream())
        .await
        .ok()?;
    let showed = stream.get_ref().1.peer_certificates().is_some();
    let agreed = stream.get_ref().1.alpn_protocol().is_some();
    let server_name = stream.get_ref().1.server_name().map(str::to_owned);
    let mut conn = Conn::over(Box::new(stream));
    conn.nth = nth;
    conn.server_name = server_name;
    conn.showed_certificate = showed;
    conn.agreed = agreed;
    Some(conn)
}

/// Believes every certificate.
#[derive(Debug)]
struct AnyClient {
    provider: CryptoProvider,
    mandatory: bool,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
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
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
