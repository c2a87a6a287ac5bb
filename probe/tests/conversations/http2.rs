//! HTTP/2 proxies, played by a server library that is not ours.

use ajar_model::{Service, Tier, Verdict, evidence::Reply};
use bytes::Bytes;
use futures::future::join;
use h2::{RecvStream, SendStream, server};
use http::{Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

use crate::{
    canary,
    exam::{Exam, Examined},
    peer::Conn,
};

const PORTS: [u16; 4] = [80, 443, 25, 7401];

/// Answers each request by this status, and connects it to the canary if that is a yes.
async fn serve(conn: Conn, status: impl Fn(&str) -> u16) {
    let Ok(mut connection) = server::handshake(conn.into_stream()).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let authority = request.uri().authority().unwrap().to_string();
        let status = match *request.method() {
            Method::CONNECT => status(&authority),
            _ => 405,
        };
        let response = Response::builder().status(status).body(()).unwrap();
        let is_open = (200..300).contains(&status);
        let Ok(answers) = respond.send_response(response, !is_open) else {
            return;
        };
        if is_open {
            let (near, far) = tokio::io::duplex(1 << 16);
            let port = authority.rsplit_once(':').unwrap().1.parse().unwrap();
            let far = Conn::over(Box::new(far));
            tokio::spawn(canary::serve(far, port, canary::key()));
            tokio::spawn(pass(request.into_body(), answers, near));
        }
    }
}

async fn pass(requests: RecvStream, answers: SendStream<Bytes>, near: DuplexStream) {
    let (from, to) = tokio::io::split(near);
    join(pass_out(requests, to), pass_back(from, answers)).await;
}

async fn pass_out(mut requests: RecvStream, mut to: WriteHalf<DuplexStream>) {
    while let Some(Ok(data)) = requests.data().await {
        let _ = to.write_all(&data).await;
    }
}

async fn pass_back(mut from: ReadHalf<DuplexStream>, mut answers: SendStream<Bytes>) {
    let mut chunk = [0; 1024];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let data = Bytes::copy_from_slice(&chunk[..length]);
        let _ = answers.send_data(data, false);
    }
    let _ = answers.send_data(Bytes::new(), true);
}

async fn plain(exam: Exam, status: fn(&str) -> u16) -> Examined {
    exam.run(move |conn| serve(conn, status)).await
}

#[tokio::test(start_paused = true)]
async fn a_proxy_in_plain_text_is_proven_through_every_port_of_the_canary() {
    for port in [8080, 3129, 9999] {
        let exam = plain(Exam::of(port), |_| 200).await;
        let proven = PORTS.map(|port| format!("connect:{port}"));
        assert_eq!(exam.proven("http2-connect"), proven, "{port}");
        let evidence = exam.evidence("http2-connect");
        assert_eq!(evidence.service, Some(Service::from_static("http2-proxy")));
        assert_eq!(evidence.exposure().unwrap().as_str(), "open_proxy");
        assert!(!evidence.tls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_inside_tls_is_proven_whether_or_not_it_asks_what_is_inside() {
    const ASKS: &[&[u8]] = &[b"h2"];
    const DOES_NOT: &[&[u8]] = &[];
    for protocols in [ASKS, DOES_NOT] {
        let exam = Exam::of(8443).run(move |conn| async move {
            let secured = canary::secure_for(conn, protocols).await;
            // Whoever asks and hears nothing takes us for a client of another kind.
            if let Some(conn) = secured.filter(|conn| conn.agreed || protocols.is_empty()) {
                serve(conn, |_| 200).await;
            }
        });
        let exam = exam.await;
        assert_eq!(exam.proven("http2-connect").len(), 4, "{protocols:?}");
        assert!(exam.evidence("http2-connect").tls);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_open_proxy_is_judged_by_its_status() {
    let check = async |status: fn(&str) -> u16, verdict: Verdict| {
        let exam = plain(Exam::of(8080), status).await;
        assert_eq!(exam.verdict("http2-connect"), verdict, "{}", status(""));
    };
    check(|_| 407, Verdict::Protected).await;
    check(|_| 502, Verdict::Inconclusive).await;
    // A web server.
    check(|_| 405, Verdict::NotAService).await;
    check(|_| 404, Verdict::NotAService).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_is_refused() {
    let exam = Exam::of(8080)
        .run(|conn| async {
            let handshake = server::Builder::new().handshake::<_, Bytes>(conn.into_stream());
            let Ok(mut connection) = handshake.await else {
                return;
            };
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                respond.send_reset(h2::Reason::CONNECT_ERROR);
            }
        })
        .await;
    let replies = exam.replies("http2-connect");
    let later = ("connect:80", Reply::Temporary { code: 10 });
    assert_eq!(replies[0], later);
    assert_eq!(exam.verdict("http2-connect"), Verdict::Inconclusive);
}

#[tokio::test(start_paused = true)]
async fn below_deliver_only_greetings_are_exchanged() {
    let exam = plain(Exam::of(8080).tier(Tier::Handshake), |_| 200).await;
    assert_eq!(exam.probes(), ["recognise"]);
    let service = &exam.evidence("recognise").service;
    assert_eq!(*service, Some(Service::from_static("http2-proxy")));
    let sent = exam.sent.concat();
    assert!(!sent.windows(7).any(|word| word == b"CONNECT"));
}
