//! TLS towards targets that speak only what rustls has left behind: versions 1.0 and 1.1, key
//! exchange by RSA, CBC suites.
//!
//! Architecture invariant: nothing else names OpenSSL. It believes every certificate, as
//! [`crate::tls`] does, and nothing secret is ever said over it.

use std::{io, pin::Pin, sync::LazyLock};

use openssl::{
    error::ErrorStack,
    ssl::{SslConnector, SslMethod, SslOptions, SslVerifyMode, SslVersion},
};
use tokio_openssl::SslStream;

use crate::BoxStream;

/// Every suite that OpenSSL was built with, at any strength.
const SUITES: &str = "ALL:@SECLEVEL=0";

/// Speaks TLS over a connection, and asks for this name if there is one (RFC 6066 section 3). The
/// caller bounds its time and its bytes.
pub(crate) async fn handshake(
    stream: BoxStream,
    name: Option<&str>,
) -> io::Result<SslStream<BoxStream>> {
    static CONNECTOR: LazyLock<Result<SslConnector, ErrorStack>> = LazyLock::new(connector);
    let connector = CONNECTOR.as_ref().map_err(io::Error::other)?;
    let mut configuration = connector.configure()?;
    configuration.set_use_server_name_indication(name.is_some());
    configuration.set_verify_hostname(false);
    let ssl = configuration.into_ssl(name.unwrap_or_default())?;
    let mut stream = SslStream::new(ssl, stream)?;
    let shaken = Pin::new(&mut stream).connect().await;
    shaken.map_err(|error| {
        error
            .into_io_error()
            .unwrap_or_else(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    })?;
    Ok(stream)
}

fn connector() -> Result<SslConnector, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_min_proto_version(Some(SslVersion::TLS1))?;
    builder.set_cipher_list(SUITES)?;
    // Such servers know no secure renegotiation (RFC 5746), and many no other Diffie-Hellman
    // groups than theirs.
    builder.set_options(SslOptions::ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
    Ok(builder.build())
}
