//! Precision and recall over servers in many shapes, and over liars; and what other tools say of the same.

use std::{
    collections::BTreeMap, fmt::Write as _, io::Write as _, net::SocketAddr, path::Path,
    process::Command,
};

use ajar_model::{Finding, Verdict};
use ajar_tests::{
    Counted, DOMAINS, FarEnd, Site, Wiretap, at,
    corpus::{Known, Server, established},
    finished,
};

const NETWORK: &str = "127.0.34.0/25";

const TARGETS: &str = "127.0.34.0/25 -p 1080,2222,2323,2525,3128,3478,8080,8118,8443,8888 \
                       --rate 500 --prefix-rate 500";

/// What is known of the corpus, and what ajar says of it.
fn audited(site: &Site) -> (Vec<Known>, Vec<Server>, Vec<Option<Finding>>) {
    let (known, servers) = established(site);
    let disputed = known.iter().filter(|known| !known.agreed);
    let disputed: Vec<&str> = disputed.map(|known| known.name).collect();
    assert!(
        disputed.is_empty(),
        "the tools say otherwise of {disputed:?}"
    );
    let patient = "--settle 20s --revisits 1 --revisit-after 2s --confirm-after 2s";
    let scan = site.scan(&format!("{TARGETS} {patient}"));
    let findings = scan.findings().unwrap();
    let mut found: BTreeMap<SocketAddr, Finding> = findings
        .into_iter()
        .map(|finding| (SocketAddr::new(finding.ip, finding.port), finding))
        .collect();
    let findings = known.iter().map(|known| found.remove(&known.endpoint));
    let findings = findings.collect();
    (known, servers, findings)
}

/// How right somebody was about what is open.
#[derive(Debug, Default)]
struct Score {
    open: usize,
    called: usize,
    right: usize,
}

impl Score {
    /// Of pairs: is it open, and was it called so.
    fn of(pairs: impl Iterator<Item = (bool, bool)>) -> Self {
        pairs.fold(Self::default(), |score, (is_open, is_called)| Self {
            open: score.open + usize::from(is_open),
            called: score.called + usize::from(is_called),
            right: score.right + usize::from(is_open && is_called),
        })
    }

    fn precision(&self) -> f64 {
        self.right as f64 / self.called.max(1) as f64
    }

    fn recall(&self) -> f64 {
        self.right as f64 / self.open.max(1) as f64
    }
}

fn is_called(finding: &Option<Finding>) -> bool {
    let mut finding = finding.iter();
    finding.any(|finding| finding.verdict == Verdict::Open)
}

#[test]
fn precision_and_recall_are_whole_and_classes_exact() {
    let (known, _servers, findings) = audited(&Site::new());
    let is_open = |known: &Known| known.expect == Verdict::Open;
    let pairs = known.iter().map(is_open);
    let score = Score::of(pairs.zip(findings.iter().map(is_called)));
    let mut report = String::new();
    let mut exact = 0;
    for (known, finding) in known.iter().zip(&findings) {
        let verdict = finding.as_ref().map(|finding| finding.verdict);
        let is_exact = verdict == Some(known.expect);
        exact += usize::from(is_exact);
        let said = verdict.map_or("nothing", Verdict::as_str);
        let (mark, name, expect) = (if is_exact { ' ' } else { '!' }, known.name, known.expect);
        let _ = writeln!(report, "{mark} {name:45} {:14} {said}", expect.as_str());
    }
    for (known, finding) in known.iter().zip(&findings) {
        let cpe = finding
            .as_ref()
            .and_then(|f| Some(&f.product.as_ref()?.cpe));
        let name = known.name.split(',').next().unwrap_or_default();
        let product = match name {
            "Postfix" | "Exim" | "OpenSMTPD" | "Sendmail" | "Squid" | "tinyproxy" => {
                format!(":{}:", name.to_ascii_lowercase())
            }
            _ => continue,
        };
        let is_known = cpe.is_some_and(|cpe| cpe.contains(&product));
        assert!(is_known, "{} is taken for {cpe:?}", known.name);
    }
    let unconfirmed = known.iter().zip(&findings).filter(|(_, finding)| {
        let mut finding = finding.iter();
        finding.any(|f| f.verdict == Verdict::Open && f.confirmation.is_none())
    });
    let unconfirmed: Vec<&str> = unconfirmed.map(|(known, _)| known.name).collect();
    assert!(unconfirmed.is_empty(), "open once only: {unconfirmed:?}");
    let (precision, recall) = (score.precision(), score.recall());
    let (all, exact) = (known.len(), exact as f64 / known.len() as f64);
    let _ = writeln!(
        std::io::stdout(),
        "{report}{all} servers: precision {precision:.2}, recall {recall:.2}, class exact {exact:.2}"
    );
    assert!(
        precision == 1.0 && recall == 1.0 && exact >= 0.95,
        "\n{report}"
    );
}

/// Seconds that another tool is given for one server.
const PATIENCE: &str = "60";

/// The far end's name. nmap asks SOCKS servers by a name that it resolves itself, and HTTP proxies by whatever it was given; for port
/// 80 alone.
const FAR: &str = "far.test";

/// True if nmap's scripts call it open, whether they name the far end or its address.
fn nmap_calls_open(endpoint: SocketAddr, domain: &str) -> bool {
    let mut hosts = [FAR, "127.0.0.1"].into_iter();
    hosts.any(|host| {
        let arguments = format!(
            "proxy.url=http://{host}/,proxy.pattern={},smtp.domain={domain},\
             smtp-open-relay.to=relaytest,smtp-open-relay.from=antispam",
            FarEnd::WORD
        );
        let scripts = "+smtp-open-relay,+http-open-proxy,+socks-open-proxy";
        let mut nmap = Command::new("timeout");
        nmap.args([PATIENCE, "nmap"])
            .args(["-n", "-Pn", "-sT", "--dns-servers", "127.0.0.1"])
            .args(["-p", &endpoint.port().to_string()])
            .args(["--script", scripts, "--script-args", &arguments])
            .arg(endpoint.ip().to_string());
        let said = finished(&mut nmap).unwrap().stdout;
        let words = [
            "Server is an open relay",
            "Potentially OPEN proxy",
            "status: open",
        ];
        words.iter().any(|word| said.contains(word))
    })
}

/// True if proxycheck does, by the far end's greeting.
fn proxycheck_calls_open(endpoint: SocketAddr, far_end: SocketAddr) -> bool {
    let port = endpoint.port();
    let mut proxycheck = Command::new("timeout");
    proxycheck
        .args([PATIENCE, "proxycheck"])
        .args(["-t", "10", "-c", "chat::220", "-d", &far_end.to_string()])
        .args(["hc", "ho", "s4", "s5", "wg"].map(|protocol| format!("-p{protocol}:{port}")))
        .arg(endpoint.ip().to_string());
    let said = finished(&mut proxycheck).unwrap().stdout;
    said.contains(" open")
}

#[test]
#[ignore = "`make accuracy` runs it, in a network of its own, and writes docs/accuracy.md"]
fn other_tools_beside_us() {
    let site = Site::new();
    let (known, _servers, findings) = audited(&site);
    let wiretap = Wiretap::start(NETWORK).unwrap();
    let once = "--settle 1s --revisits 0 --confirm-after never";
    site.scan(&format!("{TARGETS} {once}")).findings().unwrap();
    let cost = cost(&known, &wiretap.counted().unwrap());
    let efforts = efforts(&site, &known);
    let _far_end = FarEnd::start(&site).unwrap();
    let _page = FarEnd::serve_page(at("127.0.0.1:80"), FAR).unwrap();
    let is_open = |known: &Known| known.expect == Verdict::Open;
    let ours: Vec<bool> = findings.iter().map(is_called).collect();
    let ask = |known: &Known| {
        let nmap = nmap_calls_open(known.endpoint, DOMAINS[1]);
        (
            nmap,
            proxycheck_calls_open(known.endpoint, site.canary_mail()),
        )
    };
    let (nmap, proxycheck): (Vec<bool>, Vec<bool>) = std::thread::scope(|scope| {
        let ask = &ask;
        let asking: Vec<_> = known
            .iter()
            .map(|known| scope.spawn(move || ask(known)))
            .collect();
        asking.into_iter().map(|one| one.join().unwrap()).unzip()
    });
    let is_mail = |known: &&Known| known.endpoint.port() == 2525;
    let mut table = String::from(
        "| server | is | ajar says | nmap | proxycheck |\n| --- | --- | --- | --- | --- |\n",
    );
    for (at, known) in known.iter().enumerate() {
        let verdict = findings[at].as_ref().map(|finding| finding.verdict);
        let said = verdict.map_or("nothing", Verdict::as_str);
        let mark = |calls: bool| match (calls, is_open(known)) {
            (true, true) => "open",
            (true, false) => "**open**",
            (false, true) => "**missed**",
            (false, false) => "",
        };
        let proxycheck = match is_mail(&known) {
            true => "-",
            false => mark(proxycheck[at]),
        };
        let (name, expect, nmap) = (known.name, known.expect.as_str(), mark(nmap[at]));
        let _ = writeln!(
            table,
            "| {name} | {expect} | {said} | {nmap} | {proxycheck} |"
        );
    }
    let of = |calls: &[bool], mail: bool| {
        let pairs = known.iter().zip(calls);
        let pairs = pairs.filter(|(known, _)| is_mail(known) == mail);
        let score = Score::of(pairs.map(|(known, calls)| (is_open(known), *calls)));
        format!("{:.2} / {:.2}", score.precision(), score.recall())
    };
    let summary = format!(
        "| precision / recall | ajar | nmap | proxycheck |\n| --- | --- | --- | --- |\n\
         | relays | {} | {} | - |\n| proxies | {} | {} | {} |\n",
        of(&ours, true),
        of(&nmap, true),
        of(&ours, false),
        of(&nmap, false),
        of(&proxycheck, false),
    );
    let page = format!("{PREFACE}\n{summary}\n{cost}\n{efforts}\n{table}");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/accuracy.md");
    std::fs::write(docs, page).unwrap();
}

/// The connections and messages of one visit, for each class of servers.
fn cost(known: &[Known], counted: &Counted) -> String {
    let mut classes: BTreeMap<(bool, Verdict), Vec<(usize, usize)>> = BTreeMap::new();
    for known in known {
        let of = |counts: &BTreeMap<SocketAddr, usize>| counts.get(&known.endpoint).copied();
        let connections = of(&counted.connections).unwrap_or_default();
        let messages = of(&counted.messages).unwrap_or_default();
        let class = (known.endpoint.port() != 2525, known.expect);
        classes
            .entry(class)
            .or_default()
            .push((connections, messages));
    }
    let mut table = String::from(
        "| servers, by class | number | connections: median, most | messages: median, most |\n\
         | --- | --- | --- | --- |\n",
    );
    for ((is_proxy, verdict), mut costs) in classes {
        let what = if is_proxy { "proxies" } else { "mail" };
        let mut spread = |of: fn(&(usize, usize)) -> usize| {
            costs.sort_by_key(of);
            let most = costs.last().map_or(0, of);
            format!("{}, {most}", of(&costs[costs.len() / 2]))
        };
        let (connections, messages) = (spread(|cost| cost.0), spread(|cost| cost.1));
        let (verdict, number) = (verdict.as_str(), costs.len());
        let _ = writeln!(
            table,
            "| {what}, {verdict} | {number} | {connections} | {messages} |"
        );
    }
    table
}

/// The open relays that each effort finds, and its connections to a mail server.
fn efforts(site: &Site, known: &[Known]) -> String {
    let mut table = String::from(
        "| effort | open relays found | connections to a mail server: median, most |\n\
         | --- | --- | --- |\n",
    );
    let relays: Vec<&Known> = known.iter().filter(|k| k.endpoint.port() == 2525).collect();
    for effort in ["quick", "normal", "full"] {
        let wiretap = Wiretap::start(NETWORK).unwrap();
        let scan = site.scan(&format!(
            "{NETWORK} -p 2525 --rate 500 --prefix-rate 500 --effort {effort} --settle 20s \
             --revisits 1 --revisit-after 5s --confirm-after never"
        ));
        let counted = wiretap.counted().unwrap();
        let open: Vec<SocketAddr> = scan
            .findings()
            .unwrap()
            .into_iter()
            .filter(|finding| finding.verdict == Verdict::Open)
            .map(|finding| SocketAddr::new(finding.ip, finding.port))
            .collect();
        let are_open = relays.iter().filter(|known| known.expect == Verdict::Open);
        let all = are_open.clone().count();
        let found = are_open
            .filter(|known| open.contains(&known.endpoint))
            .count();
        let mut connections: Vec<usize> = relays
            .iter()
            .filter_map(|known| counted.connections.get(&known.endpoint).copied())
            .collect();
        connections.sort_unstable();
        let median = connections
            .get(connections.len() / 2)
            .copied()
            .unwrap_or_default();
        let most = connections.last().copied().unwrap_or_default();
        let _ = writeln!(table, "| {effort} | {found} of {all} | {median}, {most} |");
    }
    table
}

const PREFACE: &str = "# Accuracy

Real servers from Debian's packages in many shapes, and services that lie. What is true of each was established by swaks, curl and
ncat before anything was audited: mail to two domains that arrived, a page that came back. `make test` fails if ajar's precision or
recall on it is below 1.0, or if fewer than 95 of 100 classes are exact; `make accuracy` writes this page, with what nmap
(smtp-open-relay, http-open-proxy, socks-open-proxy) and proxycheck say of the same endpoints. **open** is called open and is not,
**missed** is open and not called so; proxycheck knows no mail servers. nmap calls a relay open if it takes an envelope; it has no
far end to wait for. Connections and messages are those of one visit at the default effort, counted by tcpdump.
";
