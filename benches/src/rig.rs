//! Two network namespaces with a wire between them: this one, and one in which a whole network answers.
//!
//! Of the (address, port) pairs of [`NETWORK`] behind the gateway 2 % are open and served ([`crate::responder`]), 8 % refuse, and
//! 90 % are silent. The kernel's packet filter at the far end decides, from sets of pairs that are drawn here: what is open is
//! known from the draw and from nobody's scan. In [`DENSE`] everything is open, for those who verify.

use std::{
    collections::HashSet,
    fmt::Write as _,
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// Our end of the wire, and the gateway's.
pub const NEAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The gateway's address on the wire, for tools that do not ask the kernel.
pub const GATEWAY: &str = "02:00:00:00:00:02";
/// The first address of the network.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);
const NETWORK: &str = "10.128.0.0/13";
/// Our interface.
pub const INTERFACE: &str = "near";
/// Ports, of which benchmarks use the first ones.
pub const PORTS: [u16; 12] = [
    3128, 25, 1080, 8080, 587, 9050, 80, 2525, 8000, 8888, 8118, 1081,
];

/// Ports that take connections in [`DENSE`], and say nothing.
pub const MUTE: [u16; 2] = [26, 2526];

/// Where every pair is open: 8,192 addresses outside of what [`Part`]s draw.
pub const DENSE: &str = "10.132.0.0/19";
const DENSE_ADDRESSES: std::ops::Range<u32> = 0x0a84_0000..0x0a84_2000;

/// The addresses where every pair is open.
pub fn dense() -> impl Iterator<Item = Ipv4Addr> {
    DENSE_ADDRESSES.map(Ipv4Addr::from)
}

/// What is drawn at first.
const DRAWN: Part = Part {
    length: 16,
    ports: PORTS.len(),
};

/// The rig, while it stands.
pub struct Rig {
    far: Child,
    responder: Child,
    directory: TempDir,
}

/// A part of the network: its first addresses, and the first of [`PORTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Length of the prefix, 14 to 32.
    pub length: u32,
    pub ports: usize,
}

impl Part {
    /// As a target.
    pub fn block(self) -> String {
        format!("{FIRST}/{}", self.length)
    }

    pub fn ports(self) -> &'static [u16] {
        &PORTS[..self.ports]
    }

    /// As the value of `-p`.
    pub fn port_list(self) -> String {
        list(self.ports())
    }

    pub fn pairs(self) -> u64 {
        (1 << (32 - self.length)) * self.ports as u64
    }

    /// Every pair and what it is: the same at each call.
    fn drawn(self) -> impl Iterator<Item = (SocketAddrV4, Kind)> {
        let first = u32::from(FIRST);
        let addresses = first..first + (1 << (32 - self.length));
        addresses.flat_map(move |ip| {
            let mut draw = fastrand::Rng::with_seed(ip.into());
            let kinds = PORTS.map(|port| (port, Kind::drawn(draw.u32(0..100))));
            let ip = Ipv4Addr::from(ip);
            let pairs = kinds.into_iter().take(self.ports);
            pairs.map(move |(port, kind)| (SocketAddrV4::new(ip, port), kind))
        })
    }

    /// Every pair.
    pub fn all(self) -> impl Iterator<Item = SocketAddrV4> {
        self.drawn().map(|(pair, _)| pair)
    }

    /// What is open.
    pub fn open(self) -> HashSet<SocketAddrV4> {
        let open = self.drawn().filter(|(_, kind)| *kind == Kind::Open);
        open.map(|(pair, _)| pair).collect()
    }
}

/// Ports as the value of `-p`.
pub fn list<'a>(ports: impl IntoIterator<Item = &'a u16>) -> String {
    let ports: Vec<String> = ports.into_iter().map(u16::to_string).collect();
    ports.join(",")
}

/// What a pair does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Closed,
    Silent,
}

impl Kind {
    fn drawn(percent: u32) -> Self {
        match percent {
            0..2 => Kind::Open,
            2..10 => Kind::Closed,
            _ => Kind::Silent,
        }
    }
}

impl Rig {
    /// Builds it around this process, which must be alone in a network namespace.
    pub fn build() -> anyhow::Result<Self> {
        let links = sh("ip -o link show")?;
        ensure!(
            links.lines().count() == 1,
            "the rig is built in a network namespace of its own: run `make bench`"
        );
        let far = Command::new("unshare")
            .args(["--net", "sleep", "infinity"])
            .spawn()
            .context("unshare cannot be started")?;
        let directory = tempfile::tempdir()?;
        let pid = far.id();
        sh(&format!(
            "ip link set lo up
             ip link add near type veth peer name far address {GATEWAY}
             until [ $(readlink /proc/{pid}/ns/net) != $(readlink /proc/$$/ns/net) ]; do sleep 0.01; done
             ip link set far netns {pid}
             ip address add {NEAR}/30 dev near
             ip link set near up
             ip neigh add {FAR} lladdr {GATEWAY} dev near
             ip route add {NETWORK} via {FAR}"
        ))?;
        let inside = format!("nsenter --net=/proc/{pid}/ns/net");
        sh(&format!(
            "{inside} sh -ec '
             ip link set lo up
             ip address add {FAR}/30 dev far
             ip link set far up
             ip route add local {NETWORK} dev lo
             sysctl -q -w net.ipv4.tcp_max_syn_backlog=65536 net.core.somaxconn=65535 net.ipv4.tcp_syncookies=0'"
        ))?;
        let mut responder = Command::new("nsenter")
            .arg(format!("--net=/proc/{pid}/ns/net"))
            .arg(std::env::current_exe()?)
            .arg("responder")
            .stdout(Stdio::piped())
            .spawn()?;
        let ready = responder.stdout.take().context("no output")?;
        std::io::Read::read_exact(&mut { ready }, &mut [0; 6])
            .context("the responder did not start")?;
        let rig = Self {
            far,
            responder,
            directory,
        };
        rig.draw(DRAWN)?;
        Ok(rig)
    }

    /// Draws what is open and what refuses: pairs outside of the part and of [`DENSE`] are silent. The more there is to look up,
    /// the more everybody pays for it.
    pub fn draw(&self, part: Part) -> anyhow::Result<()> {
        let rules = self.directory().join("rules");
        write_rules(&rules, part)?;
        let (pid, rules) = (self.far.id(), rules.display());
        sh(&format!(
            "nsenter --net=/proc/{pid}/ns/net sh -ec 'nft flush ruleset; nft -f {rules}'"
        ))
        .map(drop)
    }

    /// Where files of this run may be.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// An authorization of the whole network for ajar: options of a command.
    pub fn authorization(&self) -> anyhow::Result<[String; 4]> {
        let path = |name: &str| self.directory().join(name).display().to_string();
        let (authorization, signers) = (path("authorization.toml"), path("signers"));
        if !Path::new(&authorization).exists() {
            let ports = list(PORTS.iter().chain(&MUTE));
            sh(&format!(
                "cd {}
                 ssh-keygen -q -t ed25519 -N '' -f key
                 echo \"bench@example.net $(cat key.pub)\" >signers
                 {} authorize --key key --contact bench@example.net --ports {ports} --canary {NEAR} \
                    --canary-domain canary.test,canary.example --rate 100000000 --prefix-rate 100000000 \
                    -o authorization.toml {NETWORK}",
                self.directory().display(),
                program()?.display()
            ))?;
        }
        Ok([
            "--authorization".to_owned(),
            authorization,
            "--allowed-signers".to_owned(),
            signers,
        ])
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for child in [&mut self.responder, &mut self.far] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn write_rules(file: &Path, part: Part) -> anyhow::Result<()> {
    let mut elements = [(Kind::Open, String::new()), (Kind::Closed, String::new())];
    for (pair, kind) in part.drawn() {
        if let Some((_, list)) = elements.iter_mut().find(|(of, _)| *of == kind) {
            write!(list, "{} . {},", pair.ip(), pair.port())?;
        }
    }
    let [(_, open), (_, closed)] = elements;
    let set = |name: &str, elements: &str| {
        format!("set {name} {{ type ipv4_addr . inet_service; elements = {{ {elements} }}\n }}\n")
    };
    let mut rules = fs::File::create(file)?;
    write!(
        rules,
        "table ip rig {{
            {}{}
            chain input {{
                type filter hook input priority 0; policy accept;
                ip daddr != {NETWORK} accept
                tcp flags & (syn | ack) != syn accept
                ip daddr {DENSE} accept
                ip daddr . tcp dport @open accept
                ip daddr . tcp dport @closed reject with tcp reset
                drop
            }}
        }}\n",
        set("open", &open),
        set("closed", &closed)
    )?;
    Ok(())
}

/// What a shell command prints, if it succeeds.
pub fn sh(script: &str) -> anyhow::Result<String> {
    let output = Command::new("sh").args(["-ec", script]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{script}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Lets connections that earlier runs left behind come to their end.
pub fn rest() {
    thread::sleep(Duration::from_millis(500));
}

/// The release program, which `make bench` builds beside this one.
pub fn program() -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("ajar");
    ensure!(
        beside.exists(),
        "{} is missing: run `make bench`",
        beside.display()
    );
    Ok(beside)
}
