//! TLS endpoints that forward by name, and those that answer for themselves.

use ajar_model::{Canary, Service, Tier, Verdict, judge::Doubt};
use ed25519_dalek::SigningKey;

use crate::{
    canary,
    exam::{Exam, Examined},
    peer::Conn,
};

/// A TLS endpoint that answers every handshake with a page in HTTP, by the name and the request.
async fn serves(exam: Exam, page: fn(Option<&str>, &str) -> String) -> Examined {
    exam.only(&["sni-proxy", "http-connect", "http-get"])
        .run(move |conn: Conn| async move {
            let Some(mut conn) = canary::secure(conn).await else {
                return;
            };
            while let Some(request) = conn.head().await {
                let page = page(conn.server_name.as_deref(), &request);
                conn.say(page).await;
            }
        })
        .await
}

fn own_page(_: Option<&str>, _: &str) -> String {
    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()
}

/// Forwards to the canary if that is asked for.
fn canarys(name: Option<&str>, request: &str) -> String {
    match name == Some("canary.test") && request.starts_with("GET /") {
        true => canary::page(request, 443, &canary::key()),
        false => own_page(name, request),
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_leads_to_the_canary_is_proven_by_its_answer() {
    for port in [443, 8443, 9999] {
        let exam = serves(Exam::of(port), canarys).await;
        assert_eq!(exam.proven("sni-proxy"), ["sni:443"], "{port}");
        let evidence = exam.evidence("sni-proxy");
        assert_eq!(evidence.service, Some(Service::from_static("tls-sni")));
        assert_eq!(evidence.exposure().unwrap().as_str(), "open_proxy");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_for_itself_or_forges_is_no_proxy() {
    let forged = |_: Option<&str>, request: &str| {
        canary::page(request, 443, &SigningKey::from_bytes(&[9; 32]))
    };
    for page in [own_page, forged] {
        let exam = serves(Exam::of(443), page).await;
        assert_eq!(exam.verdict("sni-proxy"), Verdict::NotAService);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fixed_forward_to_the_canary_is_no_proxy_whatever_name_it_is_asked_for() {
    let canarys = |_: Option<&str>, request: &str| canary::page(request, 443, &canary::key());
    let exam = serves(Exam::of(443), canarys).await;
    for probe in ["sni-proxy", "http-get"] {
        let judgement = exam.judgement(probe);
        assert_eq!(judgement.verdict, Verdict::NotAService, "{probe}");
        assert_eq!(judgement.doubt, Some(Doubt::LeadsToCanary), "{probe}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_no_handshake_without_a_name_is_found_all_the_same() {
    let exam = Exam::of(443).only(&["sni-proxy", "http-connect"]);
    let exam = exam
        .run(|conn: Conn| async move {
            // The sweep's handshake names nobody.
            if conn.nth > 0
                && let Some(conn) = canary::secure(conn).await
                && conn.server_name.as_deref() == Some("canary.test")
            {
                canary::judge(conn, 443, canary::key()).await;
            }
        })
        .await;
    assert_eq!(exam.probes(), ["sni-proxy"]);
    assert_eq!(exam.proven("sni-proxy"), ["sni:443"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_canary_on_443_under_a_name_or_below_deliver_it_is_not_tried() {
    let not_tried = async |canary: Canary, tier: Tier| {
        let exam = Exam {
            canary,
            ..Exam::of(443).tier(tier)
        };
        let exam = serves(exam, canarys).await;
        assert!(!exam.probes().contains(&"sni-proxy"), "{:?}", exam.probes());
    };
    let canary = canary::model();
    not_tried(canary.clone(), Tier::Envelope).await;
    let elsewhere = Canary {
        https: 8443,
        ..canary.clone()
    };
    not_tried(elsewhere, Tier::Deliver).await;
    let nameless = Canary {
        domain: "192.0.2.9".to_owned(),
        ..canary
    };
    not_tried(nameless, Tier::Deliver).await;
}
