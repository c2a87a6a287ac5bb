//! The command that a finding is shown with does again what the finding says, without us.

use std::{
    io::{BufRead, BufReader},
    process::Command,
};

use ajar_model::Verdict;
use ajar_tests::{Access, DOMAINS, Exim, FarEnd, Front, Postfix, Site, at, finished};

#[test]
fn swaks_and_curl_do_again_what_a_finding_says() {
    let site = Site::new()
        .postfix("127.0.74.1:2525", Access::Open)
        .squid("127.0.74.2:3128", Access::Open)
        .dante("127.0.74.3:1080", Access::Open);
    let acl = "  accept senders = *@lab.test\n  deny message = relay not permitted";
    let canary = site.canary_mail();
    let postfix = Postfix::start(Access::Closed, at("127.0.74.5:2525"), DOMAINS, canary).unwrap();
    let by_helo = "smtpd_relay_restrictions=check_helo_access inline:{localhost=OK}, reject_unauth_destination";
    postfix.configure(&[by_helo]).unwrap();
    let _servers = (
        Exim::start(at("127.0.74.4:2525"), acl, DOMAINS, canary).unwrap(),
        postfix,
        ["http://$http_host", "$arg_url"].map(|upstream| {
            let endpoint = match upstream {
                "$arg_url" => at("127.0.74.6:8080"),
                _ => at("127.0.74.7:8080"),
            };
            let empty = "if ($args = '') { return 404; }";
            let guard = if upstream == "$arg_url" { empty } else { "" };
            Front::nginx(
                endpoint,
                &format!("location / {{ {guard} proxy_pass {upstream}; }}"),
            )
            .unwrap()
        }),
        Front::tinyproxy(at("127.0.74.8:8080"), "ConnectPort 1").unwrap(),
    );
    let scan =
        site.scan("127.0.74.0/28 -p 1080,2525,3128,8080 --rate 200 --prefix-rate 200 --settle 60s");
    let open: Vec<_> = scan.findings().unwrap();
    assert!(
        open.iter().all(|f| f.verdict == Verdict::Open),
        "{}",
        scan.stdout
    );
    assert_eq!(open.len(), 8, "{}", scan.stdout);
    // The canary ended with the scan. `findings replay` starts it again.
    let relay = open.iter().find(|f| f.port == 2525).unwrap();
    let replay = format!(
        "findings replay {} --canary-ports {}",
        at(&format!("{}:{}", relay.ip, relay.port)),
        site.canary_ports()
    );
    let mut canary = site.ajar.spawn(&replay, "replay").unwrap();
    let said = BufReader::new(canary.stdout.take().unwrap()).lines();
    let mut said = said.map_while(Result::ok);
    let swaks = said.find(|line| line.contains("swaks ")).unwrap();
    finished(Command::new("sh").args(["-c", &swaks])).unwrap();
    let arrived = said.find(|line| line.starts_with("a mail arrived from "));
    assert!(arrived.is_some());
    canary.kill().unwrap();
    canary.wait().unwrap();
    // Another server takes the canary's place.
    let far_end = FarEnd::start(&site).unwrap();
    for finding in open {
        let shown = site
            .ajar
            .run(&format!("findings show {}", finding.id))
            .unwrap();
        let command = shown
            .stdout
            .lines()
            .skip_while(|line| !line.starts_with("to see it without ajar"));
        let command = command.map(str::trim).nth(1);
        let command = command.unwrap_or_else(|| panic!("no command: {}", shown.stdout));
        let nonce = finding.proof.unwrap().nonce.to_string();
        assert!(!command.contains(&nonce), "{command}");
        let again = finished(Command::new("sh").args(["-c", command])).unwrap();
        let recipient = command.split("--to=").nth(1).map(|rest| {
            let word = rest.split(' ').next().unwrap_or_default();
            word.trim_matches('\'')
        });
        let is_done = match recipient {
            Some(recipient) => again.status == 0 && far_end.arrives(recipient),
            None => again.stdout.contains(FarEnd::WORD),
        };
        assert!(is_done, "{command}\n{}{}", again.stdout, again.stderr);
    }
}
