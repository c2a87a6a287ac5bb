//! A cluster under accidents, on a simulated network and a simulated clock: hundreds of times, each with other accidents, and each can be
//! repeated by its seed.
//!
//! Coordinator, worker, store and their gRPC are the program's own, unchanged. The network is turmoil's; [`boundary`] stands in for the C
//! library, and notes every connection that leaves for a target.

mod accidents;
mod boundary;
mod hosts;
mod log;
mod oracle;
mod queue;
mod shares;
mod store;

use std::{
    io::{self, Write},
    path::Path,
    process::{Command, Output},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use accidents::Accidents;
use ajar_model::{
    Authorization, CampaignId, Canary, Plan, ProbeId, Revisits, Spec, Target, Tier, authorization,
    campaign::Sweep, proof::CanaryKey, shares::Weights, signers::AllowedSigners,
};
use ajar_store::{Access, Options, Store};
use ed25519_dalek::SigningKey;
use hosts::{Site, Submission};
use log::Log;
use oracle::{Asked, Left};
use queue::FlakyQueue;
use ssh_key::{PrivateKey, private::Ed25519Keypair};
use store::FlakyStore;
use tokio::{runtime::Runtime, sync::watch};

/// How much time passes at once.
const TICK: Duration = Duration::from_millis(10);
/// From then on everything is well, and the campaigns have to end.
const PEACE: Duration = Duration::from_secs(40);
/// The campaigns are over by then, or never.
const LONGEST: Duration = Duration::from_secs(300);
/// Connections a second that all campaigns may have together, and those of each tenant.
const RATE: u32 = 60;
const TENANTS_RATE: u32 = 45;

#[test]
fn accidents_break_no_promise() {
    let number = |name, otherwise| std::env::var(name).map_or(otherwise, |n| n.parse().unwrap());
    let first: u64 = number("SIMULATION_SEED", 0);
    let past = first.saturating_add(number("SIMULATION_SEEDS", 300));
    let next = AtomicU64::new(first);
    let lanes = std::thread::available_parallelism().map_or(2, |n| n.get());
    let broken: Mutex<Vec<u64>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while broken.lock().unwrap().is_empty() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= past {
                        break;
                    }
                    if !simulated(seed).status.success() {
                        broken.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    if let Some(&seed) = broken.lock().unwrap().first() {
        let again = simulated(seed);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (log, cause) = (text(&again.stdout), text(&again.stderr));
        let file = std::env::temp_dir().join(format!("ajar-simulation-{seed}.log"));
        std::fs::write(&file, &log).unwrap();
        panic!("seed {seed}, whose log is {}:\n{cause}", file.display());
    }
}

#[test]
fn a_seed_is_repeated_line_by_line() {
    for seed in [1, 2, 3] {
        let log = || {
            let simulated = simulated(seed);
            assert!(simulated.status.success(), "seed {seed}");
            let log = String::from_utf8(simulated.stdout).unwrap();
            let of_the_harness = |line: &&str| line.contains("finished in");
            let lines = log.lines().filter(|line| !of_the_harness(line));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let (first, second) = (log(), log());
        assert!(first.len() > 1000, "{} lines", first.len());
        let differ = first.iter().zip(&second).find(|(a, b)| a != b);
        assert_eq!(differ, None, "seed {seed}");
        assert_eq!(first.len(), second.len());
    }
}

/// Runs a simulation in a process of its own, where nothing before it had its effect on chance.
fn simulated(seed: u64) -> Output {
    alone("one_simulation", seed)
}

fn alone(simulation: &str, seed: u64) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([simulation, "--exact", "--ignored", "--nocapture"])
        .env("SIMULATION_SEED", seed.to_string())
        .output()
        .unwrap()
}

#[test]
#[ignore = "the others run it"]
fn one_simulation() {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    let asked = |number, tenant, ports| asked(&campaign(number, tenant, ports), &key);
    let asked = [
        asked(1, ACME, "25"),
        asked(2, ACME, "3128"),
        asked(3, ZETA, "25"),
        asked(4, ZETA, "3128"),
    ];
    let outside = Runtime::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (site, real) = site(&outside, &key, directory.path());
    let campaigns = asked.iter().map(|asked| submission(asked, Duration::ZERO));
    let campaigns = campaigns.collect();
    let connections = simulate(&site, campaigns, true, None);
    let mut said = site.log.lines();
    let broken = match &connections {
        Ok(connections) => {
            said.extend(connections.iter().map(|c| format!("{c:?}")));
            let left = Left {
                asked: &asked,
                connections,
                grants: &site.store.grants(),
                orders: &site.orders.lock().unwrap(),
                rate: RATE as usize,
                tenants_rate: TENANTS_RATE as usize,
                store: &*real,
            };
            outside.block_on(left.check())
        }
        Err(cause) => Err(cause.clone()),
    };
    writeln!(io::stdout(), "{}", said.join("\n")).unwrap();
    broken.unwrap();
}

/// A site over a new store, and that store.
fn site(outside: &Runtime, key: &PrivateKey, directory: &Path) -> (Site, Arc<dyn Store>) {
    let path = directory.join("ajar.db");
    let options = Options {
        access: Access::Scratch,
        clock: Some(boundary::right_time),
        ..Options::default()
    };
    let real = outside.block_on(ajar_store::open(&path.display().to_string(), &options));
    let real = real.unwrap();
    let log = Log::default();
    let store = FlakyStore::new(
        Arc::clone(&real),
        outside.handle().clone(),
        seed(),
        log.clone(),
    );
    let signers = signers(key);
    let site = Site {
        store: Arc::new(store),
        queue: Arc::new(FlakyQueue::default()),
        files: Arc::new(hosts::COORDINATORS.map(|_| watch::Sender::new(signers.clone()))),
        signers,
        orders_by_chance: true,
        rate: RATE,
        weights: Weights::new(),
        orders: Arc::default(),
        log,
    };
    (site, real)
}

fn seed() -> u64 {
    std::env::var("SIMULATION_SEED").map_or(0, |seed| seed.parse().unwrap())
}

fn submission(asked: &Asked, at: Duration) -> Submission {
    Submission {
        id: asked.id,
        spec: asked.spec.clone(),
        at,
    }
}

/// Steps through time, with or without accidents, until the operator has seen every campaign end or
/// `until` has come. Returns every connection.
fn simulate(
    site: &Site,
    campaigns: Vec<Submission>,
    accidents: bool,
    until: Option<Duration>,
) -> Result<Vec<boundary::Connection>, String> {
    // Its thread is new, so that every hash map in it has its keys from simulated chance.
    std::thread::scope(|scope| {
        let simulation = scope.spawn(|| {
            let seed = seed();
            let _simulated = boundary::Simulated::begin(seed);
            fastrand::seed(seed);
            run(seed, site, campaigns, accidents, until)
        });
        simulation.join().unwrap()
    })
}

fn run(
    seed: u64,
    site: &Site,
    campaigns: Vec<Submission>,
    accidents: bool,
    until: Option<Duration>,
) -> Result<Vec<boundary::Connection>, String> {
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(LONGEST * 2)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(40))
        .tcp_capacity(4096)
        .enable_tokio_io()
        .build();
    let ids = campaigns.iter().map(|submission| submission.id).collect();
    hosts::populate(&mut sim, site, campaigns);
    let accidents = accidents.then(|| Accidents::new(seed, site.clone(), ids));
    let mut accidents = accidents;
    let subscriber = boundary::HostNotes::default();
    let ended = tracing::subscriber::with_default(subscriber, || {
        loop {
            boundary::set_elapsed(sim.elapsed());
            if let Some(accidents) = &mut accidents {
                accidents.step(&mut sim);
            }
            match sim.step() {
                Ok(true) => return Ok(()),
                Ok(false) if until.is_some_and(|until| sim.elapsed() >= until) => return Ok(()),
                Ok(false) if sim.elapsed() < LONGEST => {}
                Ok(false) => return Err("the campaigns never end".to_owned()),
                Err(error) => return Err(error.to_string()),
            }
        }
    });
    drop(sim);
    let connections = boundary::take_connections();
    ended.map(|()| connections)
}

fn signers(key: &PrivateKey) -> AllowedSigners {
    let public = key.public_key().to_openssh().unwrap();
    AllowedSigners::parse(&format!("ops@example.net {public}"), "allowed_signers").unwrap()
}

/// Tenants, by the number of their first network.
const ACME: (&str, u8) = ("acme", 0);
const ZETA: (&str, u8) = ("zeta", 4);

/// An operator's request for a campaign.
struct Wish {
    number: u128,
    tenant: &'static str,
    networks: Vec<Target>,
    ports: &'static str,
    rate: u32,
    /// Of everything that the tenant is authorized to.
    authorized_rate: u32,
}

/// A campaign over four networks of 64 addresses.
fn campaign(number: u128, (tenant, first): (&'static str, u8), ports: &'static str) -> Wish {
    let networks = (first..first + 4).map(|net| format!("10.1.{net}.0/26"));
    Wish {
        number,
        tenant,
        networks: networks.map(|net| net.parse().unwrap()).collect(),
        ports,
        rate: 40,
        authorized_rate: TENANTS_RATE,
    }
}

/// A campaign, and its authorization, which the campaigns of its tenant share.
fn asked(wish: &Wish, key: &PrivateKey) -> Asked {
    let id = CampaignId((1_u128 << 100 | wish.number).into());
    let exclude = vec!["10.1.3.7".parse().unwrap(), "10.1.5.32/29".parse().unwrap()];
    let canary = Canary {
        domain: "canary.test".to_owned(),
        other_domain: None,
        address: [192, 0, 2, 1].into(),
        smtp: 25,
        http: 80,
        https: 443,
        raw: 7401,
        key: CanaryKey::from(&SigningKey::from_bytes(&[3; 32])),
    };
    let authorization = Authorization {
        version: authorization::VERSION,
        id: format!(
            "01JD3Y5Q9Z8K7W6V5T4S3R2Q1{}",
            &wish.tenant[..1].to_uppercase()
        ),
        tenant: wish.tenant.to_owned(),
        contact: "abuse@example.net".to_owned(),
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        exclude: exclude.clone(),
        ports: "25,3128".parse().unwrap(),
        probes: vec![ProbeId::from_static("smtp-relay")],
        tier: Tier::Connect,
        claims: true,
        relay_ports: None,
        rate: wish.authorized_rate,
        prefix_rate: 10,
        not_before: boundary::wall(Duration::ZERO),
        not_after: boundary::wall(Duration::from_secs(86_400)),
        canary: vec![canary.address],
        canary_domain: vec!["canary.test".to_owned()],
        hosts: Vec::new(),
    };
    let text = toml::to_string(&authorization).unwrap();
    let spec = Spec {
        tenant: wish.tenant.to_owned(),
        targets: wish.networks.clone(),
        exclude,
        hosts: Vec::new(),
        ports: wish.ports.parse().unwrap(),
        probes: vec![ProbeId::from_static("smtp-relay")],
        rate: wish.rate,
        prefix_rate: 10,
        tier: Tier::Connect,
        effort: ajar_model::Effort::Normal,
        sweep: Sweep::None,
        retries: 1,
        settle_secs: 1,
        revisits: Revisits {
            most: 0,
            after_secs: 1,
            confirm_after_secs: None,
        },
        canary,
        authorization: Some(authorization::sign(&text, key).unwrap()),
        traceparent: None,
    };
    Asked {
        id,
        plan: Plan::of(id, &spec).unwrap(),
        spec,
    }
}
