//! The command line. Its names are what users and scripts rely on: add to them, and rename none.

use std::{net::IpAddr, path::PathBuf};

use ajar_model::{
    Effort, Host, Ports, Tier, Verdict, admission::MOST_AGAIN, campaign::Sweep as SweepMethod,
};
use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};

use crate::output;

mod exclude;
mod findings;
mod names;
mod pki;
mod schedule;
mod services;
mod targets;

pub use exclude::{Exclude, ExcludeAdd};
pub use findings::{FindingList, FindingReplay, FindingShow, Findings};
pub use pki::{Pki, PkiInit, PkiIssue, PkiRole};
pub use schedule::{Schedule, SchedulePut};
pub use services::{CanaryService, Coordinator, MaybeRemote, Remote, Standpoint, Tls, Worker};
pub use targets::{PortSet, Targets};

/// Finds the doors that were left ajar: open mail relays and open proxies, proven by a receipt.
#[derive(Debug, Parser)]
#[command(name = "ajar", version, propagate_version = true, max_term_width = 110)]
#[command(
    after_help = "Exit status: 0 finished, 1 failed, 2 usage or authorization, 3 with --fail-on, 130 interrupted.\n\
    Options also come from AJAR_* (as AJAR_RATE for --rate, lists with commas) and from ajar.toml, in that order."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Logs on standard error as JSON, one object a line.
    #[arg(long, global = true)]
    pub log_json: bool,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Audit a small lab that it starts itself on loopback; everything in one process.
    Demo(Demo),
    /// Audit addresses, here or on a cluster.
    Scan(Box<Scan>),
    /// Write and sign an authorization.
    Authorize(Authorize),
    /// Serve a cluster: campaigns, leases, results.
    Coordinator(Coordinator),
    /// Serve a cluster: run probes.
    Worker(Worker),
    /// The operator's own end: receive what open relays and proxies forward.
    Canary(CanaryService),
    /// Submit and steer campaigns on a cluster.
    #[command(subcommand)]
    Campaign(Campaign),
    /// Let a cluster run campaigns again and again.
    #[command(subcommand)]
    Schedule(Schedule),
    /// Exclude addresses from a cluster's campaigns while they run.
    #[command(subcommand)]
    Exclude(Exclude),
    /// Read findings.
    #[command(subcommand)]
    Findings(Findings),
    /// Read and check the audit log.
    #[command(subcommand)]
    Audit(Audit),
    /// Make the certificates of a cluster: who may do what.
    #[command(subcommand)]
    Pki(Pki),
    /// List the workers of a cluster: who is there, since when, and what each does.
    Workers(Remote),
    /// List the canaries of a cluster.
    Canaries(Remote),
    /// List the catalogue: name, ports, tier.
    Probes,
    /// Discover open (address, port) pairs and nothing more.
    Sweep(Box<Sweep>),
}

/// `ajar demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Leave the lab up until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
    /// The store: a SQLite file or a postgres:// URL; a temporary one if not given.
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    #[command(flatten)]
    pub output: output::Options,
}

/// `ajar scan`.
#[derive(Debug, Args)]
pub struct Scan {
    #[command(flatten)]
    pub request: Request,
    #[command(flatten)]
    pub canary_service: CanaryPorts,
    /// Go on with an interrupted campaign, under another authorization if one is given.
    #[arg(long, value_name = "ID", conflicts_with_all = ["target", "targets"])]
    pub resume: Option<String>,
    /// The store: a SQLite file or a postgres:// URL.
    #[arg(long, value_name = "URL", default_value = "ajar.db")]
    pub store: String,
    #[command(flatten)]
    pub output: output::Options,
    /// Exit with status 3 if an endpoint has this verdict.
    #[arg(long, value_name = "VERDICT", value_delimiter = ',')]
    pub fail_on: Vec<Verdict>,
    #[command(flatten)]
    pub standpoint: Standpoint,
    #[command(flatten)]
    pub remote: MaybeRemote,
}

/// What is asked for: by `scan`, and by `campaign submit`.
#[derive(Debug, Args)]
pub struct Request {
    #[command(flatten)]
    pub targets: Targets,
    /// Probes, by name; all is every one that the authorization allows.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "all"
    )]
    pub probes: Vec<String>,
    #[command(flatten)]
    pub rates: Rates,
    #[command(flatten)]
    pub discovery: Discovery,
    /// How far probes may go; to deliver, or as far as the authorization goes, if not given.
    #[arg(long, value_parser = tier())]
    pub tier: Option<Tier>,
    /// Number of ways in which mail servers are asked to relay; each refusal is an entry in their
    /// logs.
    #[arg(long, value_parser = effort(), default_value = Effort::Normal.as_str())]
    pub effort: Effort,
    #[command(flatten)]
    pub authorization: Authorization,
    /// The address that the canary binds, and that probes aim at; for loopback targets 127.0.0.1.
    #[arg(long, value_name = "ADDR")]
    pub canary: Option<IpAddr>,
    /// A mail domain that is delivered to the canary. Give two unrelated ones, so that a server in charge of one is not taken
    /// for a relay.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = names::domain)]
    pub canary_domain: Vec<String>,
    /// How long to wait for mail that a server took and has not relayed, as 90s or 5m. Servers
    /// try again after five minutes.
    #[arg(long, value_name = "DURATION", default_value = "6m", value_parser = seconds)]
    pub settle: u32,
    /// How often to come back to endpoints that put us off (greylisting, too busy); what broke or timed out is tried once
    /// more. 0 for never.
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(..=i64::from(MOST_AGAIN)))]
    pub revisits: u32,
    /// How long to wait before that, unless the endpoint names a time; each further wait is ten times as long.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = seconds)]
    pub revisit_after: u32,
    /// How long after a door was found open to look at it once more, from another vantage point too if there is one: what is sent
    /// to owners names only what was open both times. never, to find and not to confirm.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = wait)]
    pub confirm_after: Wait,
}

/// How fast.
#[derive(Debug, Clone, Copy, Args)]
pub struct Rates {
    /// New connections a second, whole campaign; by default 500, or the authorization's cap if that is lower.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// New connections a second to each /24 (IPv4) or /64 (IPv6); by default 20, or the authorization's cap if that is
    /// lower.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub prefix_rate: Option<u32>,
}

/// How open ports are found.
#[derive(Debug, Clone, Copy, Args)]
pub struct Discovery {
    /// How open ports are found.
    #[arg(long, value_parser = sweep(), default_value = SweepMethod::Auto.as_str())]
    pub sweep: SweepMethod,
    /// How many times more a target is asked that does not answer.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(..=i64::from(MOST_AGAIN)))]
    pub retries: u32,
}

/// Who allowed it.
#[derive(Debug, Args)]
pub struct Authorization {
    /// The signed scope; its signature is FILE.sig. Loopback needs none. With no TARGET, all of it is audited.
    #[arg(long, value_name = "FILE")]
    pub authorization: Option<PathBuf>,
    /// Whose signatures are accepted, in the format of ssh-keygen(1), ALLOWED SIGNERS; ~/.config/ajar/allowed_signers
    /// if not given.
    #[arg(long, value_name = "FILE")]
    pub allowed_signers: Option<PathBuf>,
}

/// The canary's ports and key.
#[derive(Debug, Clone, Args)]
pub struct CanaryPorts {
    /// Its ports for SMTP, HTTP, HTTPS and the raw greeting; 25,80,443,7401 or what can be bound if not given.
    #[arg(long, value_name = "S,H,T,R", value_delimiter = ',', num_args = 1)]
    pub canary_ports: Option<Vec<u16>>,
    /// The Ed25519 key that signs its answers; made if there is none.
    #[arg(long, value_name = "FILE")]
    pub canary_key: Option<PathBuf>,
    /// The certificate chain of its HTTPS port, PEM, for proxies that check certificates; read
    /// again once a minute. By default it signs one itself, which most proxies do not check.
    #[arg(long, value_name = "FILE", requires = "canary_certificate_key")]
    pub canary_certificate: Option<PathBuf>,
    /// The key of that certificate.
    #[arg(long, value_name = "FILE", requires = "canary_certificate")]
    pub canary_certificate_key: Option<PathBuf>,
}

impl CanaryPorts {
    /// Returns the files of the certificate, if they were given.
    pub fn certificate_files(&self) -> Option<ajar_canary::CertificateFiles> {
        let chain = self.canary_certificate.clone()?;
        let key = self.canary_certificate_key.clone()?;
        Some(ajar_canary::CertificateFiles { chain, key })
    }
}

/// `ajar sweep`.
#[derive(Debug, Args)]
pub struct Sweep {
    #[command(flatten)]
    pub targets: Targets,
    #[command(flatten)]
    pub rates: Rates,
    #[command(flatten)]
    pub discovery: Discovery,
    #[command(flatten)]
    pub authorization: Authorization,
    /// Where pairs go; - is standard output.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
}

/// `ajar authorize`.
#[derive(Debug, Args)]
pub struct Authorize {
    /// Addresses, CIDR blocks or ranges to allow.
    #[arg(value_name = "TARGET", required = true)]
    pub target: Vec<String>,
    /// Addresses inside them that stay forbidden.
    #[arg(long, value_name = "TARGET", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// A host by its name, as mx1.example=192.0.2.1,2001:db8::1. Servers are asked by that name,
    /// and results tell which of several addresses is open and which is not.
    #[arg(long, value_name = "NAME=ADDR,ADDR")]
    pub host: Vec<Host>,
    /// The Ed25519 SSH key to sign with; ~/.ssh/id_ed25519 if not given. With a passphrase, or in an agent (name its
    /// .pub file), ssh-keygen is asked to sign.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Whom an owner can write to.
    #[arg(long, value_name = "MAIL", value_parser = names::mail_address)]
    pub contact: String,
    /// For how many days from now.
    #[arg(long, value_name = "N", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=3660))]
    pub days: u32,
    /// TCP ports, as 25,8000-8100; or common, wide or all.
    #[arg(long, value_name = "LIST", default_value = "common")]
    pub ports: PortSet,
    /// Probes, by name.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "all"
    )]
    pub probes: Vec<String>,
    /// How far probes may go.
    #[arg(long, value_parser = tier(), default_value = Tier::Deliver.as_str())]
    pub tier: Tier,
    /// Forbid probes to claim that they connect from loopback, in PROXY headers and by XCLIENT.
    /// Servers that trust such claims are not found then.
    #[arg(long)]
    pub no_claims: bool,
    /// Ports of the targets to which datagrams may be sent, if a target offers to relay them
    /// there (SOCKS5 UDP, TURN), as 1024-65535. By default those of --ports alone: other offers
    /// are reported and not tried.
    #[arg(long, value_name = "LIST")]
    pub relay_ports: Option<Ports>,
    #[command(flatten)]
    pub rates: Rates,
    /// Whose network it is.
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = names::tenant)]
    pub tenant: String,
    /// The canary's addresses: the only second hop that probes may name.
    #[arg(long, value_name = "ADDR", value_delimiter = ',', required = true)]
    pub canary: Vec<IpAddr>,
    /// The canary's mail domains; any domain that is delivered to the canary if not given.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = names::domain)]
    pub canary_domain: Vec<String>,
    /// Where to write it; the signature goes to FILE.sig.
    #[arg(short, long, value_name = "FILE", default_value = "authorization.toml")]
    pub output: PathBuf,
}

/// `ajar campaign`.
#[derive(Debug, Subcommand)]
pub enum Campaign {
    /// Start a campaign and print its id.
    Submit(Box<Submit>),
    /// Every campaign, newest first.
    List(Remote),
    /// One campaign.
    Show(OneCampaign),
    /// Follow a campaign to its end.
    Watch(OneCampaign),
    /// Stop handing out its work.
    Pause(OneCampaign),
    /// Go on with it, under another authorization if one is given.
    Resume(Resume),
    /// End it.
    Cancel(OneCampaign),
    /// Forget one that is over, with everything that it found. The audit log keeps that it was.
    Remove(OneCampaign),
    /// Stop everything within two seconds: no packet is sent and no campaign starts, until
    /// start-again.
    StopAll(Remote),
    /// Take stop-all back: campaigns and schedules go on where they were.
    StartAgain(Remote),
}

/// `ajar campaign submit`.
#[derive(Debug, Args)]
pub struct Submit {
    #[command(flatten)]
    pub request: Request,
    #[command(flatten)]
    pub remote: Remote,
}

/// A command on one campaign.
#[derive(Debug, Args)]
pub struct OneCampaign {
    /// The campaign's id.
    #[arg(value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    pub remote: Remote,
}

/// `ajar campaign resume`.
#[derive(Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    pub campaign: OneCampaign,
    #[command(flatten)]
    pub authorization: Authorization,
}

/// `ajar audit`.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Every entry, oldest first.
    Show(Source),
    /// The end of the chain, to be signed and kept elsewhere: `ssh-keygen -Y sign -n ajar-audit -f KEY HEAD`.
    Head(Source),
    /// Check that no entry was changed or removed.
    Verify(AuditVerify),
}

/// `ajar audit verify`.
#[derive(Debug, Args)]
pub struct AuditVerify {
    /// A head that was kept elsewhere; its signature is HEAD.sig.
    #[arg(long, value_name = "FILE")]
    pub head: Option<PathBuf>,
    /// Whose signatures are accepted; ~/.config/ajar/allowed_signers if not given.
    #[arg(long, value_name = "FILE")]
    pub allowed_signers: Option<PathBuf>,
    #[command(flatten)]
    pub source: Source,
}

/// Where findings are read from.
#[derive(Debug, Args)]
pub struct Source {
    /// The store: a SQLite file or a postgres:// URL.
    #[arg(long, value_name = "URL", default_value = "ajar.db")]
    pub store: String,
    #[command(flatten)]
    pub remote: MaybeRemote,
}

fn seconds(text: &str) -> Result<u32, String> {
    let duration: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "expected a duration such as 90s or 5m".to_owned())?;
    u32::try_from(duration.as_secs())
        .map_err(|_| "expected a duration from 0s to 136 years".to_owned())
}

/// A time to wait, in seconds; none for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait(pub Option<u32>);

fn wait(text: &str) -> Result<Wait, String> {
    match text {
        "never" => Ok(Wait(None)),
        _ => match seconds(text) {
            Ok(seconds) => Ok(Wait(Some(seconds))),
            Err(expected) => Err(format!("{expected}, or never")),
        },
    }
}

fn tier() -> impl TypedValueParser<Value = Tier> {
    one_of(Tier::ALL, Tier::as_str, |tier| match tier {
        Tier::Connect => "Open a connection and close it",
        Tier::Handshake => "Banner, EHLO, SOCKS greeting",
        Tier::Envelope => "Sender and recipient, no message",
        Tier::Deliver => "A message or a tunnel to the canary",
    })
}

fn effort() -> impl TypedValueParser<Value = Effort> {
    one_of(Effort::ALL, Effort::as_str, |effort| match effort {
        Effort::Quick => "The likeliest ways: at most five refusals, on two connections",
        Effort::Normal => "Every way, each from one sender",
        Effort::Full => "The rarer ways from a second sender too",
    })
}

fn sweep() -> impl TypedValueParser<Value = SweepMethod> {
    one_of(
        SweepMethod::ALL,
        SweepMethod::as_str,
        |method| match method {
            SweepMethod::Auto => "The best method that this process is privileged for",
            SweepMethod::Syn => "Stateless SYN packets; needs CAP_NET_RAW",
            SweepMethod::Connect => "Plain connections",
            SweepMethod::None => "No discovery: every pair is probed",
        },
    )
}

/// A value by its name, each with its line in `--help`.
fn one_of<T: Copy + Send + Sync + 'static, const N: usize>(
    all: [T; N],
    name: fn(T) -> &'static str,
    help: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let values = all.map(|one| PossibleValue::new(name(one)).help(help(one)));
    PossibleValuesParser::new(values).map(move |given| {
        let chosen = all.into_iter().find(|&one| name(one) == given);
        chosen.expect("clap takes none but these")
    })
}
