//! The echo page: answers a nonce over HTTP, and says who is behind the probes (RFC 9511).

use std::{convert::Infallible, io, net::IpAddr, sync::Arc, time::Duration};

use ajar_model::{Nonce, Timestamp, disclosed::Disclosed};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::{Arrival, Shared};

const HEADER: Duration = Duration::from_secs(15);
const HEADER_BYTES: usize = 16 * 1024;

pub(crate) async fn serve(
    stream: TcpStream,
    arrival: Arrival,
    shared: Arc<Shared>,
) -> io::Result<()> {
    converse(stream, arrival, shared).await
}

pub(crate) async fn serve_tls(
    stream: TcpStream,
    arrival: Arrival,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let handshake = shared.tls.accept(stream);
    let stream = tokio::time::timeout(HEADER, handshake).await??;
    converse(stream, arrival, shared).await
}

async fn converse<S>(stream: S, arrival: Arrival, shared: Arc<Shared>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, arrival, &shared);
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}

fn respond<B>(request: &Request<B>, arrival: Arrival, shared: &Shared) -> Response<Full<Bytes>> {
    // A proxy in front of us would hand on our yes, and open no tunnel.
    if request.method() == Method::CONNECT {
        let refused = "this is no proxy\n".to_owned();
        return text(StatusCode::METHOD_NOT_ALLOWED, refused);
    }
    let path = request.uri().path();
    if let Ok(nonce) = path.trim_start_matches('/').parse::<Nonce>() {
        let fields = request.headers().iter();
        let fields = fields.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let answer = shared.answer(nonce, arrival);
        let answer = answer.disclosing(&shared.key, Disclosed::by(fields));
        return text(StatusCode::OK, format!("{answer}\n"));
    }
    match path {
        "/.well-known/probing.txt" | "/.well-known/security.txt" => {
            text(StatusCode::OK, probing(shared))
        }
        "/" => text(StatusCode::OK, about(shared)),
        _ => text(StatusCode::NOT_FOUND, "nothing is here\n".to_owned()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}

/// RFC 9511 section 2, in the format of RFC 9116.
fn probing(shared: &Shared) -> String {
    const VALID: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    let expires = Timestamp::now()
        .checked_add(VALID)
        .unwrap_or(Timestamp::MAX);
    let host = match shared.canary.address {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    format!(
        "Canonical: http://{host}/.well-known/probing.txt\n\
         {contact}\
         Expires: {expires:.0}\n\
         Preferred-Languages: en\n\
         Description: authorised audit for open mail relays and open proxies; \
         mail and tunnels go to this host only, and nothing is forwarded\n",
        contact = contact(shared, "Contact: mailto:", "\n"),
    )
}

fn about(shared: &Shared) -> String {
    format!(
        "This is the canary of an authorised audit for open mail relays and open proxies (ajar).\n\
         If your server connected here, it forwarded for a stranger.{}\n\
         See also /.well-known/probing.txt\n",
        contact(shared, " Write to ", "."),
    )
}

/// Whom to write to, between these words; nothing if nobody was named.
fn contact(shared: &Shared, before: &str, after: &str) -> String {
    let named = shared.contact.as_ref();
    named.map_or_else(String::new, |contact| format!("{before}{contact}{after}"))
}
