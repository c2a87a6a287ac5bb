//! Verification alone: the same open endpoints by ajar, with a receipt for each door, and by nmap's script for them.

use std::{
    collections::HashSet,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    process::Command,
};

use serde_json::Value;

use crate::{
    discovery::pair_of,
    figures::{Table, spread},
    page::{self, Page},
    process::{self, Spent},
    responder::{FAR_AWAY, Protocol, is_far_away, is_open_door},
    rig::{self, NEAR, Rig, program},
};

/// How many endpoints nmap is asked about that are far away: it would take hours for all.
const FAR_SAMPLE: usize = 256;

/// What to scan, and how.
pub struct Scan<'a> {
    pub targets: &'a [&'a str],
    pub ports: &'a str,
    pub options: &'a [&'a str],
}

impl Scan<'_> {
    /// Asks for it.
    pub fn ask(&self, command: &mut Command) {
        let canary = NEAR.to_string();
        command
            .args(self.targets)
            .args(["-p", self.ports])
            .args(self.options)
            .args(["--canary", &canary, "--canary-domain", "canary.test"])
            .args(["--canary-domain", "canary.example"])
            .args(["--rate", "1000000", "--prefix-rate", "100000"])
            .args(["--revisits", "0", "--confirm-after", "never"])
            .args(["--settle", "60s"]);
    }
}

/// What a tool said of endpoints in one round.
pub struct Said {
    pub spent: Spent,
    pub open: HashSet<SocketAddrV4>,
}

/// A tool, whom it is asked about, and what it said in each round.
struct Way<'a> {
    name: &'static str,
    asked: &'a [Ipv4Addr],
    ask: Box<dyn Fn() -> anyhow::Result<Said> + 'a>,
    said: Vec<Said>,
}

impl<'a> Way<'a> {
    fn new(
        name: &'static str,
        asked: &'a [Ipv4Addr],
        ask: impl Fn() -> anyhow::Result<Said> + 'a,
    ) -> Self {
        Self {
            name,
            asked,
            ask: Box::new(ask),
            said: Vec::new(),
        }
    }

    /// Seconds and processor time of an endpoint, in each round.
    fn each(&self) -> Vec<(f64, f64)> {
        let asked = self.asked.len() as f64;
        let each = |said: &Said| (said.spent.wall / asked, said.spent.cpu / asked);
        self.said.iter().map(each).collect()
    }
}

/// nmap's script for a kind of door.
struct Script {
    name: &'static str,
    arguments: String,
    /// What nmap prints below an endpoint that it takes for open.
    says: &'static str,
}

impl Script {
    fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Smtp => Self {
                name: "smtp-open-relay",
                arguments: format!("smtp-open-relay.domain=canary.test,smtp-open-relay.ip={NEAR}"),
                says: "Server is an open relay",
            },
            Protocol::Http => Self {
                name: "http-open-proxy",
                arguments: page::arguments(&NEAR.to_string()),
                says: "Potentially OPEN proxy",
            },
            Protocol::Socks => Self {
                name: "socks-open-proxy",
                arguments: page::arguments("page.test"),
                says: "status: open",
            },
        }
    }
}

pub fn relays(rig: &Rig, rounds: usize) -> anyhow::Result<Table> {
    compare(rig, rounds, "relays", 25, false)
}

pub fn far_relays(rig: &Rig, rounds: usize) -> anyhow::Result<Table> {
    compare(rig, rounds, "relays", 25, true)
}

pub fn proxies(rig: &Rig, rounds: usize) -> anyhow::Result<Table> {
    compare(rig, rounds, "HTTP proxies", 3128, false)
}

pub fn far_proxies(rig: &Rig, rounds: usize) -> anyhow::Result<Table> {
    compare(rig, rounds, "HTTP proxies", 3128, true)
}

/// The endpoints at a port that answer at once, or those that are far away.
fn compare(rig: &Rig, rounds: usize, doors: &str, port: u16, far: bool) -> anyhow::Result<Table> {
    let addresses: Vec<Ipv4Addr> = rig::dense().filter(|ip| is_far_away(*ip) == far).collect();
    // nmap tests so few at a time that a part of them tells its rate.
    let sample = match far {
        true => &addresses[..FAR_SAMPLE],
        false => &addresses[..],
    };
    let all = write(rig, "all", &addresses)?;
    let some = write(rig, "some", sample)?;
    let protocol = Protocol::of(port);
    let scan = Scan {
        targets: &["--targets", &all],
        ports: &port.to_string(),
        options: &[],
    };
    let mut tools = vec![
        Way::new("ajar scan", &addresses, || ajar(rig, &scan)),
        Way::new(Script::of(protocol).name, sample, || {
            nmap(protocol, port, &some)
        }),
    ];
    if protocol == Protocol::Http {
        tools.push(Way::new("proxycheck", &addresses, || {
            proxycheck(port, &all)
        }));
    }
    for _ in 0..rounds {
        for tool in &mut tools {
            tool.said.push((tool.ask)()?);
            rig::rest();
        }
    }
    let answers = match far {
        true => format!("that answer after {} ms", FAR_AWAY.as_millis()),
        false => "that answer at once".to_owned(),
    };
    let mut table = Table::new(
        &format!("Verification: {doors} {answers}, half of them open, a receipt for each of these"),
        &[
            "tool",
            "endpoints",
            "endpoints/s",
            "CPU ms each",
            "found",
            "wrong",
            "seconds in all",
            "MB",
        ],
    );
    for tool in &tools {
        let open = tool.asked.iter().filter(|ip| is_open_door(**ip));
        let truth: HashSet<SocketAddrV4> = open.map(|ip| SocketAddrV4::new(*ip, port)).collect();
        let right = |said: &Said| said.open.intersection(&truth).count() as f64;
        let wrong = |said: &Said| said.open.difference(&truth).count() as f64;
        let asked = tool.asked.len() as f64;
        table.row([
            tool.name.to_owned(),
            tool.asked.len().to_string(),
            spread(&tool.said, 0, |said| asked / said.spent.wall),
            spread(&tool.said, 2, |said| said.spent.cpu * 1000.0 / asked),
            spread(&tool.said, 4, |said| right(said) / truth.len() as f64),
            spread(&tool.said, 0, wrong),
            spread(&tool.said, 1, |said| said.spent.wall),
            spread(&tool.said, 0, |said| said.spent.megabytes),
        ]);
    }
    let ours = tools.remove(0).each();
    for other in tools {
        let (name, theirs) = (other.name, other.each());
        table.ratio(&format!("rate against {name}"), &ours, &theirs, |each| {
            1.0 / each.0
        });
        table.ratio(
            &format!("CPU per endpoint against {name}"),
            &ours,
            &theirs,
            |each| each.1,
        );
    }
    Ok(table)
}

/// Writes addresses into a file of the rig's, a line each, and names it.
fn write(rig: &Rig, name: &str, addresses: &[Ipv4Addr]) -> anyhow::Result<String> {
    let list = rig.directory().join(name);
    let lines: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
    fs::write(&list, lines.join("\n") + "\n")?;
    Ok(list.display().to_string())
}

/// Scans, and proves each door by a receipt.
pub fn ajar(rig: &Rig, scan: &Scan<'_>) -> anyhow::Result<Said> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    let mut command = Command::new(program()?);
    command
        .arg("scan")
        .args(rig.authorization()?)
        .args(["--store", &path("store.db"), "-o", &path("results.jsonl")])
        .args(["--canary-key", &path("canary.key")])
        .current_dir(directory.path());
    scan.ask(&mut command);
    let spent = process::run(&mut command)?;
    let open = open_doors(&fs::read_to_string(path("results.jsonl"))?)?;
    Ok(Said { spent, open })
}

/// Those that results in JSONL say are open.
pub fn open_doors(results: &str) -> anyhow::Result<HashSet<SocketAddrV4>> {
    let mut open = HashSet::new();
    for line in results.lines() {
        let finding: Value = serde_json::from_str(line)?;
        if finding["verdict"] == "open" {
            open.insert(pair_of(finding["ip"].as_str(), finding["port"].as_u64())?);
        }
    }
    Ok(open)
}

/// Asks nmap's script about the addresses in a file, all at one port.
pub fn nmap(protocol: Protocol, port: u16, list: &str) -> anyhow::Result<Said> {
    let script = Script::of(protocol);
    let _page = Page::serve()?;
    let mut command = Command::new("nmap");
    command
        .args(["-n", "-Pn", "-sT", "-T5", "--min-hostgroup", "4096"])
        .args(["-p", &port.to_string()])
        // Whatever the port is.
        .args(["--script", &format!("+{}", script.name)])
        .args(["--script-args", &script.arguments, "-iL", list])
        .args(["--dns-servers", &NEAR.to_string()]);
    let spent = process::run(&mut command)?;
    let (mut open, mut at) = (HashSet::new(), None);
    for line in spent.stdout.lines() {
        if let Some(ip) = line.strip_prefix("Nmap scan report for ") {
            at = ip.parse().ok();
        }
        if let (true, Some(ip)) = (line.contains(script.says), at) {
            open.insert(SocketAddrV4::new(ip, port));
        }
    }
    Ok(Said { spent, open })
}

/// Asks proxycheck whether what is at these addresses tunnels by CONNECT: one question, and the page's words for a proof.
fn proxycheck(port: u16, list: &str) -> anyhow::Result<Said> {
    let _page = Page::serve()?;
    let mut command = Command::new("sh");
    command
        // It ends with 100 if something is open.
        .args(["-c", "proxycheck \"$@\" || test $? -eq 100", "sh"])
        .args(["-t", "10", "-d", &format!("{NEAR}:80"), "-c", page::CHAT])
        .args([&format!("-phc:{port}"), "-i", list]);
    let spent = process::run(&mut command)?;
    // `10.128.0.7 hc:3128 open`
    let lines = spent.stdout.lines().filter(|line| line.contains(" open"));
    let ips = lines.filter_map(|line| line.split(' ').next());
    let open = ips.map(|ip| pair_of(Some(ip), Some(port.into())));
    let open = open.collect::<anyhow::Result<_>>()?;
    Ok(Said { spent, open })
}
