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
            let page = match head.starts_with("GET /") {
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
