//! A network namespace of its own, in which every packet to a target is captured where it arrives.
//!
//! 10.99.0.0/16 is this machine and refuses or answers; 10.98.0.0/16 is a wire to another namespace, where nobody answers
//! unless [`BEHIND_A_GATEWAY`].

use std::{net::SocketAddrV4, path::Path, process::Command};

use anyhow::{Context, ensure};

use crate::{Ajar, Finished, finished};

/// What a script did, as its targets saw it.
#[derive(Debug)]
pub struct Captured {
    /// The connections that were opened to 10.98.0.0/15: when, in seconds since 1970, and to which endpoint. In order.
    pub syns: Vec<(f64, SocketAddrV4)>,
    /// The script's standard output.
    pub stdout: String,
    pub stderr: String,
    pub status: i32,
}

/// Starts a cluster in a script for [`captured`]: a coordinator with these options, and a canary that it knows. Sets
/// `$coordinator` to its process, and `submit` to a command that submits a campaign under an authorization.
pub fn cluster(options: &str) -> String {
    format!(
        r#"
        $AJAR coordinator {options} 2>coordinator.log & coordinator=$!
        $AJAR canary --domain canary.test --canary-ports 2525,8080,8443,7401 2>canary.log &
        await grep -q 'a canary is ready' coordinator.log
        submit() {{ $AJAR campaign submit --allowed-signers signers --authorization "$@"; }}
        "#
    )
}

/// Gives a script for [`captured`] a gateway at the other end of the wire, behind which 10.98.0.0/18 and 2001:db8:98::/64
/// are one machine that refuses or answers. Of 10.98.64.0/24 it says that it cannot be reached.
pub const BEHIND_A_GATEWAY: &str = r#"
        $FAR sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0 net.ipv6.ip_nonlocal_bind=1
        $FAR ip address add 10.98.255.253/16 dev wire
        $FAR ip address add 2001:db8::2/64 dev wire nodad
        $FAR ip route add local 10.98.0.0/18 dev lo
        $FAR ip route add unreachable 10.98.64.0/24
        $FAR ip route add local 2001:db8:98::/64 dev lo
        ip link set silent arp on
        ip address add 2001:db8::1/64 dev silent nodad
        ip route add 10.98.0.0/17 via 10.98.255.253
        ip route add 2001:db8:98::/64 via 2001:db8::2
"#;

/// Runs a shell script in a namespace, in the directory of `ajar`.
///
/// The script finds `$AJAR`, the program; `$FAR`, which runs a command at the other end of the
/// wire; and `await COMMAND...`, which repeats a command until it succeeds and ends the script
/// after a minute. Everything that the script leaves running is killed.
pub fn captured(ajar: &Ajar, script: &str) -> anyhow::Result<Captured> {
    let script = format!(
        r#"
        export HOME=$PWD
        ip link set lo up
        ip route add local 10.99.0.0/16 dev lo
        unshare --net sleep infinity &
        far=$!
        ip link add silent type veth peer name wire
        until [ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.01; done
        ip link set wire netns $far
        FAR="nsenter --net=/proc/$far/ns/net"
        $FAR ip link set lo up
        $FAR ip link set wire up
        ip link set silent arp off up
        ip address add 10.98.255.254/16 dev silent
        capture() {{
            $3 tcpdump -i $1 -Z root --immediate-mode -s 128 -B 16384 -w $1.pcap \
                "tcp[tcpflags] == tcp-syn and dst net $2" 2>$1.log &
            captures="$captures $!"
        }}
        capture lo 10.99.0.0/16
        capture wire 10.98.0.0/16 "$FAR"
        await() {{
            for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
            echo "a minute was not enough for: $*" >&2
            exit 1
        }}
        for device in lo wire; do await grep -q 'listening on' $device.log; done
        (
        {script}
        ) >script.out 2>script.err
        status=$?
        sleep 1
        kill -INT $captures
        wait $captures
        cat lo.log wire.log >&2
        for device in lo wire; do tcpdump -Z root -tt -n -r $device.pcap; done
        exit $status
        "#
    );
    let run = as_root("unshare")
        .args([
            "--net",
            "--pid",
            "--mount-proc",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            &script,
        ])
        .current_dir(ajar.path())
        .env("AJAR", ajar.command("").get_program())
        .output()?;
    let said = String::from_utf8_lossy(&run.stderr);
    ensure!(
        said.matches("\n0 packets dropped by kernel").count() == 2,
        "{said}"
    );
    let mut syns = String::from_utf8_lossy(&run.stdout)
        .lines()
        .map(syn)
        .collect::<anyhow::Result<Vec<_>>>()?;
    syns.sort_by(|one, other| one.0.total_cmp(&other.0));
    let read = |name: &str| std::fs::read_to_string(ajar.path().join(name));
    Ok(Captured {
        syns,
        stdout: read("script.out")?,
        stderr: read("script.err")?,
        status: run.status.code().unwrap_or(-1),
    })
}

impl Captured {
    /// The most connections within any span of one second.
    pub fn most_in_a_second(&self) -> usize {
        let times: Vec<f64> = self.syns.iter().map(|syn| syn.0).collect();
        let within = |at: usize| {
            let end = times[at] + 1.0;
            times[at..].iter().take_while(|&&time| time < end).count()
        };
        (0..times.len()).map(within).max().unwrap_or(0)
    }

    /// The time that the script printed after this word.
    pub fn time(&self, word: &str) -> f64 {
        let line = self.stdout.lines().find_map(|line| line.strip_prefix(word));
        let time = line.and_then(|time| time.trim().parse().ok());
        time.unwrap_or_else(|| panic!("no {word} in {}{}", self.stdout, self.stderr))
    }

    /// Connections after a moment.
    pub fn after(&self, time: f64) -> usize {
        self.syns.iter().filter(|syn| syn.0 > time).count()
    }
}

/// `1700000000.123456 IP 10.99.0.1.40000 > 10.99.0.7.25: Flags [S], …`
fn syn(line: &str) -> anyhow::Result<(f64, SocketAddrV4)> {
    let parsed = || {
        let words: Vec<&str> = line.split(' ').collect();
        let (ip, port) = words.get(4)?.trim_end_matches(':').rsplit_once('.')?;
        let endpoint = SocketAddrV4::new(ip.parse().ok()?, port.parse().ok()?);
        Some((words[0].parse().ok()?, endpoint))
    };
    parsed().with_context(|| format!("not a packet: {line}"))
}

/// Runs the program where names are looked up in this file first, instead of /etc/hosts.
pub fn with_hosts(ajar: &Ajar, line: &str, hosts: &Path) -> anyhow::Result<Finished> {
    let program = ajar.command(line);
    let mut inside = as_root("unshare");
    inside
        .args([
            "--mount",
            "sh",
            "-ec",
            "mount --bind $0 /etc/hosts; exec \"$@\"",
        ])
        .arg(hosts)
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(ajar.path())
        .env_clear();
    inside.envs(
        program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    finished(&mut inside)
}

/// A namespace and a capture need root; whoever runs the tests could install their packages by sudo as well.
pub(crate) fn as_root(program: &str) -> Command {
    let uid = rustix::process::getuid();
    if uid.is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", "--preserve-env=AJAR", program]);
    command
}
