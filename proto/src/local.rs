//! A coordinator in the same process: the same services over an in-memory pipe instead of a socket.

use std::io;

use hyper_util::rt::TokioIo;
use tokio::{io::DuplexStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// Bytes that one end of a pipe may be ahead of the other.
const BUFFER: usize = 256 * 1024;

/// The accepting end: what a server takes its connections from.
pub type Listener = ReceiverStream<io::Result<DuplexStream>>;

/// The dialling end; clones dial the same listener.
#[derive(Clone)]
pub struct Dialer(mpsc::Sender<io::Result<DuplexStream>>);

/// A listener and its dialer.
pub fn pair() -> (Listener, Dialer) {
    let (sender, receiver) = mpsc::channel(16);
    (ReceiverStream::new(receiver), Dialer(sender))
}

impl Dialer {
    /// A channel with a connection of its own, opened when first used.
    pub fn channel(&self) -> Channel {
        let sender = self.0.clone();
        let connector = tower::service_fn(move |_| {
            let sender = sender.clone();
            async move {
                let (ours, theirs) = tokio::io::duplex(BUFFER);
                sender
                    .send(Ok(theirs))
                    .await
                    .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
                Ok::<_, io::Error>(TokioIo::new(ours))
            }
        });
        // The name is never resolved: every connection goes through the connector.
        Endpoint::from_static("http://in-process").connect_with_connector_lazy(connector)
    }
}
