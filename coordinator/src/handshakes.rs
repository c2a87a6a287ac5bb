//! TLS, before there is any call: who shows no certificate of the authority gets no answer, and is put on record.

use std::{io, sync::Arc, time::Duration};

use futures::Stream;
use rustls::{CertificateError, ServerConfig};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;

use crate::{guard::Refusals, newcomers::Newcomers};

/// Handshakes at a time.
const SIDE_BY_SIDE: usize = 256;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The connections of a listener whose clients `config` accepts, as it is at the time.
pub(crate) fn secure(
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    refusals: Refusals,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> + Unpin {
    let (accepted, connections) = mpsc::channel(1);
    tokio::spawn(accept(listener, config, refusals, accepted));
    ReceiverStream::new(connections)
}

async fn accept(
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    refusals: Refusals,
    accepted: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
) {
    let mut newcomers = Newcomers::new(listener, SIDE_BY_SIDE);
    loop {
        let (stream, peer, place) = tokio::select! {
            newcomer = newcomers.next() => newcomer,
            () = accepted.closed() => return,
        };
        let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow()));
        let (refusals, accepted) = (refusals.clone(), accepted.clone());
        tokio::spawn(async move {
            let handshake = tokio::select! {
                handshake = timeout(PATIENCE, acceptor.accept(stream)) => handshake,
                () = place.evicted() => return,
            };
            drop(place);
            match handshake {
                // Whoever is stopping takes no connection.
                Ok(Ok(secured)) => drop(accepted.send(Ok(secured)).await),
                Ok(Err(error)) => {
                    if let Some(what) = refused(&error) {
                        refusals.record_stranger(peer.ip(), what).await;
                    }
                }
                Err(_) => {}
            }
        });
    }
}

/// Returns what was refused if it was a certificate. Port scans, for example, show none.
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
