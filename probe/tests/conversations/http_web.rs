//! Web servers that fetch for strangers, by the Host field, the path or the query.

use ajar_model::{Verdict, judge::Doubt, proof::Check};

use crate::{canary, exam::Exam, peer::Conn};

/// What a web server that fetches for strangers answers to a request line and its Host.
async fn web_proxy(mut conn: Conn, asked: fn(&str, &str) -> Option<String>) {
    let Some((line, host)) = conn.request().await else {
        return;
    };
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let page = match (line.starts_with("GET "), asked(&path, &host)) {
        (true, Some(url)) => canary::fetched(&format!("GET {url} HTTP/1.1"), &canary::key()),
        _ => "HTTP/1.1 404 Not Found\r\n\r\n".to_owned(),
    };
    conn.say(page).await;
}

#[tokio::test(start_paused = true)]
async fn a_reverse_proxy_that_follows_the_host_field_is_open_whether_or_not_it_takes_the_port() {
    // No port in the field means the usual one.
    let with_port = |path: &str, host: &str| match host.contains(':') {
        true => Some(format!("http://{host}{path}")),
        false => Some(format!("http://{host}:80{path}")),
    };
    let without = |path: &str, host: &str| {
        let name = host.split(':').next();
        let name = name.filter(|name| !name.starts_with("no-such-host."));
        name.map(|name| format!("http://{name}:80{path}"))
    };
    // It finds no names, and goes to port 80 of whatever address is named.
    let by_address = |path: &str, host: &str| {
        let ip = host.split(':').next().filter(|ip| *ip == "192.0.2.9");
        ip.map(|ip| format!("http://{ip}:80{path}"))
    };
    let of_name = [Check::AskedPort, Check::OtherName, Check::SecondName];
    let by_name = ("host-name:80", &of_name[..]);
    for (asked, (variant, checks)) in [
        (with_port as fn(&str, &str) -> Option<String>, by_name),
        (without, by_name),
        (by_address, ("host:80", &of_name[..2])),
    ] {
        let exam = Exam::of(8080).run(move |conn| web_proxy(conn, asked)).await;
        assert_eq!(exam.proven("http-host"), [variant]);
        let passed = exam.judgement("http-host").proof.unwrap().checks;
        assert_eq!(passed, checks);
    }
}

/// An ingress whose table names the canary's host, which is in front of it.
#[tokio::test(start_paused = true)]
async fn a_web_server_that_knows_one_name_of_the_canary_is_not_open() {
    let in_its_table = |path: &str, host: &str| {
        let name = host.split(':').next().filter(|name| *name == "canary.test");
        name.map(|name| format!("http://{name}:80{path}"))
    };
    let mut exam = Exam::of(8080);
    exam.canary.other_domain = Some("canary.example".to_owned());
    let exam = exam.run(move |conn| web_proxy(conn, in_its_table)).await;
    let judgement = exam.judgement("http-host");
    assert_eq!(judgement.verdict, Verdict::Unproven);
    assert_eq!(judgement.doubt, Some(Doubt::OneName));
}

/// Virtual hosts: who asks by no name of theirs is shown another site.
#[tokio::test(start_paused = true)]
async fn a_web_proxy_is_asked_by_the_name_that_the_operator_gave() {
    let by_name = |path: &str, host: &str| {
        let url = path.strip_prefix("/proxy?url=")?.split('&').next()?;
        (host == "proxy.bugs.example").then(|| url.to_owned())
    };
    let check = async |names: &[&str], expect: Verdict| {
        let mut exam = Exam::of(80);
        exam.names = names.iter().map(|name| name.to_string()).collect();
        let exam = exam.run(move |conn| web_proxy(conn, by_name)).await;
        assert_eq!(exam.verdict("http-path"), expect, "{names:?}");
    };
    check(&["proxy.bugs.example"], Verdict::Open).await;
    check(&[], Verdict::NotAService).await;
}

#[tokio::test(start_paused = true)]
async fn a_web_proxy_that_is_told_by_path_or_query_is_open() {
    let check = async |asked: fn(&str, &str) -> Option<String>, variant: &str| {
        let exam = Exam::of(8080).run(move |conn| web_proxy(conn, asked)).await;
        assert_eq!(exam.proven("http-path"), [variant]);
        let checks = exam.judgement("http-path").proof.unwrap().checks;
        assert_eq!(checks, [Check::AskedPort, Check::OtherPort, Check::Again]);
    };
    check(
        |path, _| {
            path.strip_prefix("/http://")
                .map(|rest| format!("http://{rest}"))
        },
        "path-url:80",
    )
    .await;
    check(
        |path, _| {
            let rest = path
                .strip_prefix("/http:/")
                .filter(|rest| !rest.starts_with('/'));
            rest.map(|rest| format!("http://{rest}"))
        },
        "path-url-merged:80",
    )
    .await;
    check(
        |path, _| {
            let rest = path
                .strip_prefix('/')
                .filter(|rest| rest.starts_with("192."));
            rest.map(|rest| format!("http://{rest}"))
        },
        "path:80",
    )
    .await;
    check(
        |path, _| {
            let rest = path.strip_prefix("/proxy/192.");
            rest.map(|rest| format!("http://192.{rest}"))
        },
        "path-proxy-host:80",
    )
    .await;
    check(
        |path, _| {
            let rest = path.strip_prefix("/http/");
            rest.map(|rest| format!("http://{rest}"))
        },
        "path-scheme:80",
    )
    .await;
    check(
        |path, _| path.strip_prefix("/?url=").map(str::to_owned),
        "query-url:80",
    )
    .await;
}
