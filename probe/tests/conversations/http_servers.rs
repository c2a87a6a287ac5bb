//! Web servers and proxies that look alike.

use std::sync::{Arc, Mutex};

use ajar_model::Verdict;

use crate::{canary, exam::Exam, peer::Conn};

/// Node's web server has no answer to CONNECT, and a page for everything else.
#[tokio::test(start_paused = true)]
async fn a_web_server_that_hangs_up_on_connect_is_no_proxy() {
    let node = |mut conn: Conn| async move {
        let Some(head) = conn.head().await else {
            return;
        };
        match head.split(' ').next() {
            Some("CONNECT") => {}
            Some("GET" | "POST") => {
                conn.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
                    .await
            }
            _ => conn.say("HTTP/1.1 400 Bad Request\r\n\r\n").await,
        }
    };
    let exam = Exam::of(8080).run(node).await;
    assert_eq!(exam.verdict("http-connect"), Verdict::NotAService);
    assert_eq!(exam.verdict("http-get"), Verdict::NotAService);
}

/// Twisted's proxy fetches, and hangs up on what it cannot fetch.
#[tokio::test(start_paused = true)]
async fn a_proxy_that_hangs_up_on_connect_is_found_by_what_it_fetches() {
    let twisted = |mut conn: Conn| async move {
        let Some(head) = conn.head().await else {
            return;
        };
        if head.starts_with("GET http://") {
            conn.say(canary::fetched(&head, &canary::key())).await;
        }
    };
    let exam = Exam::of(8080).run(twisted).await;
    assert_eq!(exam.verdict("http-get"), Verdict::Open);
    let attempt = exam.attempt("http-get", "get:80");
    assert!(attempt.answer.is_some(), "{attempt:?}");
}

/// What an HTTP server says to a PROXY header is no sign that it waited for one.
#[tokio::test(start_paused = true)]
async fn a_server_that_takes_a_proxy_header_for_a_request_is_met_without() {
    let strict = |mut conn: Conn| async move {
        let Some(first) = conn.line().await else {
            return;
        };
        if first.starts_with("PROXY ") {
            conn.say("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
        conn.idle().await;
    };
    let exam = Exam::of(8080).run(strict).await;
    let evidence = exam.evidence("http-connect");
    let mut attempts = evidence.attempts.iter();
    assert!(attempts.all(|attempt| !attempt.variant.starts_with("proxied:")));
}

/// Apache with an access list on its proxy, and Apache without a proxy that forbids everything.
#[tokio::test(start_paused = true)]
async fn a_proxy_that_forbids_to_fetch_is_told_from_a_server_that_forbids_its_pages() {
    let check = async |own_page: &'static str, expect: Verdict| {
        let forbids = move |mut conn: Conn| async move {
            let head = conn.head().await.unwrap_or_default();
            let is_its_own = ["GET /", "GET http://192.0.2.1:8080/"];
            let page = match is_its_own.iter().any(|own| head.starts_with(own)) {
                true => own_page,
                false => "HTTP/1.1 403 Forbidden",
            };
            conn.say(format!("{page}\r\nServer: Apache\r\n\r\n")).await;
        };
        let exam = Exam::of(8080).run(forbids).await;
        assert_eq!(exam.verdict("http-get"), expect, "{own_page}");
    };
    check("HTTP/1.1 404 Not Found", Verdict::Closed).await;
    check("HTTP/1.1 200 OK", Verdict::Closed).await;
    check("HTTP/1.1 403 Forbidden", Verdict::NotAService).await;
    check("HTTP/1.1 401 Unauthorized", Verdict::NotAService).await;
}

/// Every page costs a server that closes its connections another one.
#[tokio::test(start_paused = true)]
async fn a_server_that_forbids_page_after_page_and_hangs_up_is_asked_for_no_more() {
    let check = async |status: &'static str, connection: &'static str, last: &str| {
        let answers = move |mut conn: Conn| async move {
            while conn.head().await.is_some() {
                conn.say(format!(
                    "HTTP/1.1 {status}\r\nConnection: {connection}\r\nContent-Length: 0\r\n\r\n"
                ))
                .await;
                if connection == "close" {
                    break;
                }
            }
        };
        let exam = Exam::of(8080).run(answers).await;
        assert_eq!(exam.verdict("http-path"), Verdict::NotAService, "{status}");
        let attempts = &exam.evidence("http-path").attempts;
        assert_eq!(
            attempts.last().unwrap().variant,
            last,
            "{status}, {connection}"
        );
    };
    check("403 Forbidden", "close", "path:80").await;
    check("403 Forbidden", "keep-alive", "query-url-index:80").await;
    check("404 Not Found", "close", "query-url-index:80").await;
}

/// A cache, or a scanner of links, asks the canary itself, and has the answer to an earlier question.
#[tokio::test(start_paused = true)]
async fn an_answer_that_was_fetched_for_another_request_is_no_proof() {
    let kept = Arc::new(Mutex::new(None));
    let cache = move |mut conn: Conn| {
        let kept = Arc::clone(&kept);
        async move {
            let head = conn.head().await.unwrap_or_default();
            let now = canary::page(&head, 80, &canary::key());
            let before = kept.lock().unwrap().replace(now);
            if head.starts_with("GET ") {
                conn.say(before.unwrap_or_default()).await;
            }
        }
    };
    let exam = Exam::of(8080).run(cache).await;
    let evidence = exam.evidence("http-get");
    let mut attempts = evidence.attempts.iter();
    assert!(attempts.any(|attempt| attempt.answer.is_some()));
    for probe in ["http-connect", "http-get", "http-host", "http-path"] {
        assert_ne!(exam.verdict(probe), Verdict::Open, "{probe}");
    }
}

/// Its backend is down, and waiting for it would be in vain.
#[tokio::test(start_paused = true)]
async fn a_web_server_whose_own_page_fails_is_no_proxy_and_not_waited_for() {
    let check = async |status: &'static str, own_page: &'static str, expect: Verdict| {
        let failing = move |mut conn: Conn| async move {
            let head = conn.head().await.unwrap_or_default();
            let is_own = head == "GET / HTTP/1.1";
            let said = if is_own { own_page } else { status };
            conn.say(format!(
                "{said}\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        };
        let exam = Exam::of(8080).run(failing).await;
        for probe in ["http-connect", "http-get"] {
            assert_eq!(exam.verdict(probe), expect, "{status}");
        }
        exam.evidence("http-get").retry_after_secs
    };
    let (bad, busy) = (
        "HTTP/1.1 502 Bad Gateway",
        "HTTP/1.1 503 Service Unavailable",
    );
    for status in [bad, busy] {
        assert_eq!(check(status, status, Verdict::NotAService).await, None);
    }
    let found = "HTTP/1.1 400 Bad Request";
    assert_eq!(check(bad, found, Verdict::Inconclusive).await, Some(3600));
}

/// A filter that forbids whatever looks like a request to a proxy.
#[tokio::test(start_paused = true)]
async fn a_filter_that_forbids_absolute_uris_is_no_proxy() {
    let filter = |mut conn: Conn| async move {
        let head = conn.head().await.unwrap_or_default();
        let page = match head.starts_with("GET /") {
            true => "HTTP/1.1 200 OK",
            false => "HTTP/1.1 403 Forbidden",
        };
        conn.say(format!("{page}\r\nServer: nginx\r\n\r\n")).await;
    };
    let exam = Exam::of(8080).run(filter).await;
    assert_eq!(exam.verdict("http-get"), Verdict::NotAService);
}

/// Requests of a web server that keeps its connections, and how it answers each.
async fn keeps_alive(mut conn: Conn, answer: impl Fn(&str) -> String) {
    while let Some(head) = conn.head().await {
        let page = answer(&head);
        conn.say(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}",
            page.len()
        ))
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_plain_web_server_is_asked_over_few_connections() {
    let plain = |mut conn: Conn| async move {
        while let Some(head) = conn.head().await {
            let status = match head.split(' ').next() {
                Some("CONNECT") => "405 Not Allowed",
                Some("GET" | "POST") => "404 Not Found",
                _ => {
                    return conn
                        .say("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                        .await;
                }
            };
            conn.say(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno"))
                .await;
        }
    };
    let exam = Exam::of(80).run(plain).await;
    assert_eq!(exam.verdict("http-get"), Verdict::NotAService);
    assert!(exam.sent.len() <= 6, "{} connections", exam.sent.len());
    let answered = |head: &str| match head.strip_prefix("GET http://") {
        Some(_) => canary::page(head, 80, &canary::key())
            .split("\r\n\r\n")
            .nth(1)
            .unwrap_or_default()
            .to_owned(),
        None => "my own page".to_owned(),
    };
    let exam = Exam::of(8080)
        .run(move |conn| keeps_alive(conn, answered))
        .await;
    assert!(exam.attempt("http-get", "get:80").answer.is_some());
}

/// Servers close connections that they have kept, without a word.
#[tokio::test(start_paused = true)]
async fn a_request_on_a_connection_that_was_closed_meanwhile_is_made_anew() {
    let closes = |mut conn: Conn| async move {
        let head = conn.head().await.unwrap_or_default();
        if head.starts_with("GET http://192.0.2.9:80/") {
            return conn.say(canary::fetched(&head, &canary::key())).await;
        }
        conn.say("HTTP/1.1 404 Not Found\r\nVia: 1.1 lab\r\nContent-Length: 0\r\n\r\n")
            .await;
    };
    let exam = Exam::of(8080).run(closes).await;
    assert_eq!(exam.proven("http-get"), ["get:80"]);
}

/// It waits for more of a request that it does not know.
#[tokio::test(start_paused = true)]
async fn a_proxy_that_swallows_connect_is_found_by_what_it_fetches() {
    let swallows = |mut conn: Conn| async move {
        let head = conn.head().await.unwrap_or_default();
        match head.starts_with("CONNECT ") {
            true => conn.idle().await,
            false => conn.say(canary::fetched(&head, &canary::key())).await,
        }
    };
    let exam = Exam::of(8080).run(swallows).await;
    assert_eq!(exam.proven("http-get"), ["get:80"]);
}

/// It cuts fetched pages into chunks.
#[tokio::test(start_paused = true)]
async fn an_answer_is_found_in_chunks() {
    let chunks = |mut conn: Conn| async move {
        let head = conn.head().await.unwrap_or_default();
        let page = canary::fetched(&head, &canary::key());
        let (_, body) = page.split_once("\r\n\r\n").unwrap();
        conn.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        for piece in body.as_bytes().chunks(9) {
            let piece = String::from_utf8_lossy(piece);
            conn.say(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
        }
        conn.say("0\r\n\r\n").await;
    };
    let exam = Exam::of(8080).run(chunks).await;
    assert!(exam.attempt("http-get", "get:80").answer.is_some());
}

/// Squid takes no request that names no server, and hangs up on it.
#[tokio::test(start_paused = true)]
async fn a_closed_forward_proxy_is_not_asked_as_a_web_server() {
    let squid = |mut conn: Conn| async move {
        while let Some(head) = conn.head().await {
            let is_origin_form = head.starts_with("GET /");
            let status = match is_origin_form {
                true => "400 Bad Request\r\nConnection: close",
                false => "403 Forbidden",
            };
            conn.say(format!(
                "HTTP/1.1 {status}\r\nVia: 1.1 lab\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
            if is_origin_form {
                return;
            }
        }
    };
    let exam = Exam::of(3128).run(squid).await;
    assert_eq!(exam.verdict("http-connect"), Verdict::Closed);
    assert_eq!(exam.replies("http-path").len(), 1);
    assert!(exam.sent.len() <= 8, "{} connections", exam.sent.len());
}
