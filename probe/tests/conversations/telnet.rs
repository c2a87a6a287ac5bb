//! Telnet-style proxies, and what looks like one.

use ajar_model::{Service, Tier, Verdict, evidence::Reply};

use crate::{
    canary,
    exam::{Exam, Examined},
    peer::Conn,
};

const PORTS: [u16; 4] = [80, 443, 25, 7401];

/// A gateway that prompts, and connects to the canary once its reader makes a port of a line.
async fn gateway(
    exam: Exam,
    prompt: &'static str,
    yes: &'static str,
    port: fn(&str) -> Option<u16>,
) -> Examined {
    exam.run(move |mut conn| async move {
        conn.drip(prompt).await;
        while let Some(line) = conn.line().await {
            if let Some(port) = port(&line) {
                conn.say(yes).await;
                return canary::serve(conn, port, canary::key()).await;
            }
            conn.say(format!("Unknown command\r\n{prompt}")).await;
        }
    })
    .await
}

fn with_colon(line: &str) -> Option<u16> {
    line.strip_prefix("192.0.2.9:")?.parse().ok()
}

fn with_space(line: &str) -> Option<u16> {
    line.strip_prefix("192.0.2.9 ")?.parse().ok()
}

#[tokio::test(start_paused = true)]
async fn a_gateway_is_proven_through_every_port_of_the_canary() {
    let check = async |port: u16, prompt, yes, reader| {
        let exam = gateway(Exam::of(port), prompt, yes, reader).await;
        assert_eq!(exam.probes(), ["telnet-proxy"]);
        let proven = PORTS.map(|port| format!("telnet:{port}"));
        assert_eq!(exam.proven("telnet-proxy"), proven, "{prompt} {yes}");
        let evidence = exam.evidence("telnet-proxy");
        assert_eq!(evidence.service, Some(Service::from_static("telnet")));
        assert_eq!(evidence.exposure().unwrap().as_str(), "open_proxy");
    };
    let connected = "Connecting to host...Connected\r\n";
    check(23, "WinGate>", connected, with_colon).await;
    check(2323, "WinGate>", connected, with_colon).await;
    check(
        23,
        "CCProxy Telnet Ready\r\nCCProxy>",
        connected,
        with_space,
    )
    .await;
    // It connects without a word.
    check(23, "\u{7}host:port> ", "", with_colon).await;
}

#[tokio::test(start_paused = true)]
async fn the_connection_of_the_sweep_is_the_first_one_that_is_asked() {
    let exam = gateway(Exam::of(23), "WinGate>", "Connected\r\n", with_colon).await;
    assert_eq!(exam.sent.len(), PORTS.len());
    assert!(exam.sent[0].starts_with(b"192.0.2.9:80\r\n"));
}

#[tokio::test(start_paused = true)]
async fn one_that_refuses_is_closed() {
    let exam = gateway(Exam::of(23), "WinGate>", "", |_| None).await;
    assert_eq!(exam.verdict("telnet-proxy"), Verdict::Closed);
    let hangs_up = async |mut conn: Conn| {
        conn.say("WinGate>").await;
        conn.line().await;
        conn.say("Access denied\r\n").await;
    };
    let exam = Exam::of(23).run(hangs_up).await;
    assert_eq!(exam.verdict("telnet-proxy"), Verdict::Closed);
}

#[tokio::test(start_paused = true)]
async fn one_that_claims_to_connect_and_does_not_is_unproven() {
    let claims = async |mut conn: Conn| {
        conn.say("WinGate>").await;
        conn.line().await;
        conn.say("Connected\r\n").await;
        conn.idle().await;
    };
    let exam = Exam::of(23).run(claims).await;
    assert_eq!(exam.verdict("telnet-proxy"), Verdict::Unproven);
}

#[tokio::test(start_paused = true)]
async fn one_that_wants_a_name_gets_none() {
    let exam = Exam::of(23)
        .run(async |mut conn: Conn| {
            conn.say("WinGate proxy\r\nUsername: ").await;
            conn.idle().await;
        })
        .await;
    assert_eq!(exam.verdict("telnet-proxy"), Verdict::Protected);
    assert_eq!(
        exam.replies("telnet-proxy"),
        [("telnet:80", Reply::AuthRequired { code: 0 })]
    );
    assert_eq!(exam.said(), "");
}

#[tokio::test(start_paused = true)]
async fn a_login_and_a_shell_are_nobodys_gateway_and_are_not_spoken_to() {
    for prompt in [
        "\r\nDebian GNU/Linux 12 mx tty1\r\nmx login: ",
        "Router>",
        "$ ",
    ] {
        let exam = Exam::of(23)
            .run(move |mut conn: Conn| async move {
                conn.say(prompt).await;
                conn.idle().await;
            })
            .await;
        assert_eq!(exam.probes(), ["recognise"], "{prompt}");
        assert_eq!(exam.verdict("recognise"), Verdict::NotAService);
        assert_eq!(exam.said(), "", "{prompt}");
    }
}

#[tokio::test(start_paused = true)]
async fn below_deliver_a_gateway_is_recognised_and_told_nothing() {
    for tier in [Tier::Handshake, Tier::Envelope] {
        let exam = gateway(Exam::of(23).tier(tier), "WinGate>", "", with_colon).await;
        assert_eq!(exam.probes(), ["recognise"]);
        assert_eq!(exam.verdict("recognise"), Verdict::Unproven);
        assert_eq!(exam.said(), "");
    }
}
