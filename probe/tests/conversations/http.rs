//! HTTP proxies, and web servers that are none.

use ajar_model::{
    Service, Tier, Verdict,
    evidence::{Broken, Reply},
    judge::Doubt,
    proof::Check,
};
use ed25519_dalek::SigningKey;

use crate::{
    canary,
    exam::{Exam, Examined},
    peer::Conn,
    smtp,
};

/// The port in the target of a CONNECT to the canary, by address or by name.
fn connect_port(request: &str) -> Option<u16> {
    let target = request
        .strip_prefix("CONNECT ")?
        .strip_suffix(" HTTP/1.1")?;
    let (host, port) = target.rsplit_once(':')?;
    assert!(
        ["192.0.2.9", "canary.test"].contains(&host),
        "a second hop to {host}"
    );
    port.parse().ok()
}

/// A proxy that opens tunnels, and fetches nothing.
async fn tunnels(mut conn: Conn, established: &str, key: SigningKey) {
    let Some(request) = conn.head().await else {
        return;
    };
    match connect_port(&request) {
        Some(port) => {
            conn.say(established).await;
            canary::serve(conn, port, key).await;
        }
        None => {
            conn.say("HTTP/1.1 405 Not Allowed\r\nContent-Length: 0\r\n\r\n")
                .await
        }
    }
}

/// Answers every request alike, and then does as it is told.
async fn answers(exam: Exam, head: &str) -> Examined {
    let head = head.to_owned();
    exam.run(move |mut conn| {
        let head = head.clone();
        async move {
            if conn.head().await.is_some() {
                conn.say(&head).await;
            }
        }
    })
    .await
}

const ALL: [&str; 4] = ["connect:80", "connect:443", "connect:25", "connect:7401"];

#[tokio::test(start_paused = true)]
async fn an_open_proxy_is_proven_at_every_port_of_the_canary() {
    let check = async |established: &'static str| {
        let exam = Exam::of(3128)
            .run(move |conn| tunnels(conn, established, canary::key()))
            .await;
        assert_eq!(exam.probes(), ["http-connect", "http-get"]);
        assert_eq!(exam.proven("http-connect"), ALL, "{established:?}");
        assert_eq!(exam.verdict("http-get"), Verdict::Closed);
        assert_eq!(
            exam.sent.len(),
            4 + 1,
            "the sweep's connection carries the first tunnel, and one more is for what it fetches"
        );
    };
    check("HTTP/1.1 200 Connection established\r\n\r\n").await;
    check("HTTP/1.0 200 OK\nVia: 1.0 old\n\n").await;
    check("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").await;
}

#[tokio::test(start_paused = true)]
async fn the_first_bytes_of_a_tunnel_may_come_with_the_head() {
    let glued = |mut conn: Conn| async move {
        let port = conn.head().await.as_deref().and_then(connect_port);
        match port {
            Some(25) => {
                conn.say("HTTP/1.1 200 OK\r\n\r\n220 canary.test ESMTP ajar-canary\r\n")
                    .await;
                canary::sink(conn, canary::key(), smtp::obliging).await;
            }
            _ => conn.say("HTTP/1.1 403 Forbidden\r\n\r\n").await,
        }
    };
    let exam = Exam::of(8080).run(glued).await;
    assert_eq!(exam.proven("http-connect"), ["connect:25"]);
}

#[tokio::test(start_paused = true)]
async fn a_portal_that_says_200_to_everything_proves_nothing() {
    let exam = answers(
        Exam::of(80),
        "HTTP/1.1 200 OK\r\nServer: portal\r\n\r\n<html>welcome</html>",
    )
    .await;
    assert_eq!(exam.verdict("http-connect"), Verdict::Unproven);
    assert_eq!(
        exam.attempt("http-connect", "connect:80").reply,
        Reply::Accepted { code: 200 }
    );
    assert_eq!(exam.verdict("http-get"), Verdict::Closed);
    assert_eq!(
        exam.attempt("http-get", "get:80").reply,
        Reply::Refused { code: 200 }
    );
    let banner = exam.evidence("http-connect").banner.as_ref().unwrap();
    assert!(banner.raw().contains("Server: portal"), "{banner:?}");
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_to_nowhere_is_unproven_and_costs_no_more_than_the_session() {
    let mute = |mut conn: Conn| async move {
        conn.head().await;
        conn.say("HTTP/1.1 200 OK\r\n\r\n").await;
        conn.idle().await;
    };
    let exam = Exam::of(3128).run(mute).await;
    assert_eq!(exam.verdict("http-connect"), Verdict::Unproven);
    assert_eq!(exam.verdict("http-get"), Verdict::Closed);
    // Every yes that led nowhere leaves less time for the next.
    let all = exam.took;
    assert!(all <= Exam::of(3128).limits.examination, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn a_forged_judge_is_seen_and_not_believed() {
    let forger = SigningKey::from_bytes(&[8; 32]);
    let exam = Exam::of(3128)
        .run(move |conn| tunnels(conn, "HTTP/1.1 200 OK\r\n\r\n", forger.clone()))
        .await;
    assert!(exam.attempt("http-connect", "connect:80").answer.is_some());
    assert_eq!(exam.verdict("http-connect"), Verdict::Unproven);
}

#[tokio::test(start_paused = true)]
async fn an_echo_in_the_tunnel_is_no_answer() {
    let echo = |mut conn: Conn| async move {
        conn.head().await;
        conn.say("HTTP/1.1 200 OK\r\n\r\n").await;
        conn.echo().await;
    };
    let exam = Exam::of(3128).run(echo).await;
    assert!(
        exam.evidence("http-connect")
            .attempts
            .iter()
            .all(|attempt| attempt.answer.is_none())
    );
    assert_eq!(exam.verdict("http-connect"), Verdict::Unproven);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_from_a_demand_and_from_a_failure() {
    let check = async |head: &str, verdict: Verdict, connections: usize| {
        let exam = answers(Exam::of(3128).only(&["http-connect"]), head).await;
        assert_eq!(exam.verdict("http-connect"), verdict, "{head}");
        assert_eq!(exam.sent.len(), connections, "{head}");
        let asked = exam.replies("http-connect");
        let is_asked = |variant: &&&str| asked.iter().any(|(name, _)| name == *variant);
        let ports = ALL.iter().filter(is_asked).count();
        assert_eq!(ports, if connections > 2 { 4 } else { ports }, "{head}");
    };
    let (squid, nginx) = ("Server: squid/5.7", "Server: nginx");
    let refused = |status: &str, server: &str| format!("HTTP/1.1 {status}\r\n{server}\r\n\r\n");
    check(&refused("403 Forbidden", squid), Verdict::Closed, 5).await;
    check(&refused("301 Moved", squid), Verdict::Closed, 5).await;
    // Who knows no CONNECT is asked about one more port, and by no name.
    check(&refused("405 Not Allowed", nginx), Verdict::NotAService, 2).await;
    // A server that understands neither name of one port is asked about no other.
    check(&refused("400 Bad Request", nginx), Verdict::NotAService, 2).await;
    let demand = "HTTP/1.1 407 Authenticate\r\nProxy-Authenticate: Basic\r\n\r\n";
    check(demand, Verdict::Protected, 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_takes_only_names_is_asked_by_name() {
    let names = |mut conn: Conn| async move {
        let request = conn.head().await.unwrap_or_default();
        match connect_port(&request) {
            Some(port) if request.contains("canary.test") => {
                conn.say("HTTP/1.1 200 OK\r\n\r\n").await;
                canary::serve(conn, port, canary::key()).await;
            }
            _ => conn.say("HTTP/1.1 400 Bad Request\r\n\r\n").await,
        }
    };
    let exam = Exam::of(3128).run(names).await;
    let expect = [
        "connect-name:80",
        "connect-name:443",
        "connect-name:25",
        "connect-name:7401",
    ];
    assert_eq!(exam.proven("http-connect"), expect);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_only_fetches_is_open_by_get() {
    let fetches = |mut conn: Conn| async move {
        let request = conn.head().await.unwrap_or_default();
        if request.starts_with("GET http://192.0.2.9:") {
            conn.say(canary::fetched(&request, &canary::key())).await;
        } else {
            conn.say("HTTP/1.1 501 Not Implemented\r\nVia: 1.1 lab\r\n\r\n")
                .await;
        }
    };
    let exam = Exam::of(8080).run(fetches).await;
    assert_eq!(exam.verdict("http-connect"), Verdict::Closed);
    assert_eq!(exam.proven("http-get"), ["get:80"]);
    // 502 may mean that nobody listens there, or that the proxy has had enough of us.
    let checks = exam.judgement("http-get").proof.unwrap().checks;
    assert_eq!(checks, [Check::AskedPort, Check::OtherPort, Check::Again]);
}

/// A redirected port, a load balancer, or a web server with one upstream.
#[tokio::test(start_paused = true)]
async fn a_fixed_forward_to_the_canary_is_no_proxy() {
    let exam = Exam::of(8080)
        .run(|conn| canary::judge(conn, 80, canary::key()))
        .await;
    let judgement = exam.judgement("http-get");
    assert_eq!(judgement.verdict, Verdict::NotAService);
    assert_eq!(judgement.doubt, Some(Doubt::LeadsToCanary));
}

/// It answers CONNECT by the canary's front page, and reads what is said in the tunnel as a further request.
#[tokio::test(start_paused = true)]
async fn a_web_server_in_front_of_the_canary_that_says_yes_to_connect_is_no_proxy() {
    let exam = Exam::of(8080)
        .run(|mut conn| async move {
            while let Some(request) = conn.head().await {
                let page = match request.starts_with("CONNECT ") {
                    true => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
                    false => canary::page(&request, 80, &canary::key()),
                };
                conn.say(page).await;
            }
        })
        .await;
    for probe in ["http-connect", "http-get"] {
        let judgement = exam.judgement(probe);
        assert_eq!(judgement.verdict, Verdict::NotAService, "{probe}");
        assert_eq!(judgement.doubt, Some(Doubt::LeadsToCanary), "{probe}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_whose_control_could_not_be_made_is_unproven() {
    let mut exam = Exam::of(8080).only(&["http-get"]);
    exam.connections = 2;
    let exam = exam
        .run(|mut conn| async move {
            let request = conn.head().await.unwrap_or_default();
            conn.say(canary::fetched(&request, &canary::key())).await;
        })
        .await;
    let judgement = exam.judgement("http-get");
    assert_eq!(judgement.verdict, Verdict::Unproven);
    assert_eq!(judgement.doubt, Some(Doubt::Unchecked));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_behind_tls_is_found_there() {
    let check = async |port: u16| {
        let secure = |conn| async {
            if let Some(conn) = canary::secure(conn).await {
                tunnels(conn, "HTTP/1.1 200 OK\r\n\r\n", canary::key()).await;
            }
        };
        let exam = Exam::of(port).run(secure).await;
        assert_eq!(exam.proven("http-connect"), ALL, "{port}");
        assert!(exam.evidence("http-connect").tls);
    };
    check(8443).await;
    check(3129).await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_wants_some_certificate_is_shown_one() {
    let secure = |conn| async {
        if let Some(conn) = canary::secure_and_ask(conn, true).await {
            tunnels(conn, "HTTP/1.1 200 OK\r\n\r\n", canary::key()).await;
        }
    };
    let exam = Exam::of(8443).run(secure).await;
    assert_eq!(exam.proven("http-connect"), ALL);
}

#[tokio::test(start_paused = true)]
async fn a_plain_proxy_on_port_443_is_recognised_all_the_same() {
    let exam = Exam::of(443)
        .run(|conn| tunnels(conn, "HTTP/1.1 200 OK\r\n\r\n", canary::key()))
        .await;
    assert_eq!(exam.proven("http-connect"), ALL);
    assert!(!exam.evidence("http-connect").tls);
}

#[tokio::test(start_paused = true)]
async fn below_deliver_a_proxy_is_asked_for_nothing() {
    let exam = answers(
        Exam::of(3128).tier(Tier::Envelope),
        "HTTP/1.1 200 OK\r\nVia: 1.1 lab\r\n\r\n",
    )
    .await;
    assert_eq!(exam.probes(), ["recognise"]);
    assert_eq!(
        exam.evidence("recognise").service,
        Some(Service::from_static("http-proxy"))
    );
    assert_eq!(
        (
            exam.count("CONNECT"),
            exam.count("GET"),
            exam.count("OPTIONS * ")
        ),
        (0, 0, 1)
    );
    assert_eq!(exam.verdict("recognise"), Verdict::Unproven);
}

#[tokio::test(start_paused = true)]
async fn without_the_tunnel_probe_no_tunnel_is_asked_for() {
    let exam = answers(
        Exam::of(3128).only(&["http-get"]),
        "HTTP/1.1 403 Forbidden\r\n\r\n",
    )
    .await;
    assert_eq!(exam.probes(), ["http-get"]);
    // By address and by name, and once more as if passed on for loopback.
    assert_eq!((exam.count("CONNECT"), exam.count("GET http://")), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_no_second_connection_is_inconclusive() {
    let mut exam = Exam::of(3128);
    exam.connections = 1;
    let exam = answers(exam, "HTTP/1.1 403 Forbidden\r\n\r\n").await;
    let last = exam.replies("http-connect").last().copied();
    assert_eq!(
        last,
        Some((
            "connect-name:80",
            Reply::Broken {
                how: Broken::Connect
            }
        ))
    );
    assert_eq!(exam.verdict("http-connect"), Verdict::Inconclusive);
}

#[tokio::test(start_paused = true)]
async fn requests_say_who_asks_and_where_to_read_more() {
    let exam = answers(Exam::of(3128), "HTTP/1.1 403 Forbidden\r\n\r\n").await;
    let agent = "User-Agent: ajar (audit.example; +http://192.0.2.9/.well-known/probing.txt)";
    let asked = ["CONNECT", "GET", "POST"].map(|word| exam.count(word));
    assert_eq!(asked.iter().sum::<usize>(), exam.count(agent));
}

#[tokio::test(start_paused = true)]
async fn nothing_more_is_offered_once_something_is_open() {
    let exam = Exam::of(3128)
        .run(|conn| tunnels(conn, "HTTP/1.1 200 OK\r\n\r\n", canary::key()))
        .await;
    assert_eq!(exam.probes(), ["http-connect", "http-get"]);
    let socks = exam.sent.iter().filter(|sent| sent.starts_with(&[5]));
    assert_eq!(socks.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_takes_only_posts_is_open() {
    let posts = |mut conn: Conn| async move {
        let request = conn.head().await.unwrap_or_default();
        let page = match request.strip_prefix("POST ") {
            Some(target) => canary::fetched(&format!("GET {target}"), &canary::key()),
            None => "HTTP/1.1 405 Not Allowed\r\nVia: 1.1 lab\r\n\r\n".to_owned(),
        };
        conn.say(page).await;
    };
    let exam = Exam::of(8080).run(posts).await;
    assert_eq!(exam.proven("http-get"), ["post:80"]);
}
