//! TLS, before there is any call: who shows no certificate of the authority gets no answer, and is put on record.

use std::{io, sync::Arc, time::Duration};

use ajar_store::Store;
use futures::{Stream, StreamExt};
use rustls::{CertificateError, ServerConfig};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;

use crate::guard::Refusals;

/// Handshakes at a time; others wait in the listen queue.
const SIDE_BY_SIDE: usize = 256;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The connections of a listener whose clients `config` accepts.
pub fn secure<S>(
    listener: S,
    config: Arc<ServerConfig>,
    store: Arc<dyn Store>,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> + Unpin
where
    S: Stream<Item = io::Result<TcpStream>> + Send + Unpin + 'static,
{
    let (accepted, connections) = mpsc::channel(1);
    tokio::spawn(accept(listener, config.into(), store, accepted));
    ReceiverStream::new(connections)
}

async fn accept<S>(
    mut listener: S,
    acceptor: TlsAcceptor,
    store: Arc<dyn Store>,
    accepted: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) where
    S: Stream<Item = io::Result<TcpStream>> + Send + Unpin + 'static,
{
    let places = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let refusals = Refusals::new(store);
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let next = tokio::select! {
            next = listener.next() => next,
            () = accepted.closed() => None,
        };
        let stream = match next {
            Some(Ok(stream)) => stream,
            // The client is gone already, or there is no file left for it.
            Some(Err(error)) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
            None => return,
        };
        let (acceptor, refusals, accepted) = (acceptor.clone(), refusals.clone(), accepted.clone());
        tokio::spawn(async move {
            let _place = place;
            let from = stream.peer_addr();
            let cause = match timeout(PATIENCE, acceptor.accept(stream)).await {
                Ok(Ok(secured)) => {
                    // Whoever is stopping takes no connection.
                    let _ = accepted.send(Ok(secured)).await;
                    return;
                }
                Ok(Err(error)) => error,
                Err(_) => return,
            };
            if let (Some(what), Ok(from)) = (refused(&cause), from) {
                refusals.record(&from.ip().to_string(), what).await;
            }
        });
    }
}

/// What was refused; none if it was no certificate, as of whoever only looks whether the port is open.
fn refused(cause: &io::Error) -> Option<&'static str> {
    let cause = cause.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match cause {
        rustls::Error::NoCertificatesPresented => "no certificate",
        rustls::Error::InvalidCertificate(wrong) => match wrong {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "an expired certificate"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "a certificate that is not valid yet"
            }
            CertificateError::UnknownIssuer => "a certificate of another authority",
            _ => "a certificate that is not valid here",
        },
        _ => return None,
    })
}
