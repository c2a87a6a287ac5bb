//! `make parts`: the small parts that every probe goes through, each by itself.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ajar_model::{
    CampaignId, Canary, Effort, Nonce, NonceKey, ProbeId, Scope, Target, TargetSpace, Tier,
    Timestamp,
    permutation::Permutation,
    proof::{Answer, CanaryKey},
    shard::ShardSpace,
};
use ajar_probe::{BoxStream, Brief, Dial, Limits, http, smtp, socks};
use ajar_sweep::syn::{
    cookie::Cookies,
    packet::{LONGEST, Syn},
    reply,
};
use ajar_worker::{
    fence::{Fence, Now},
    pacer::Pacer,
};
use divan::{Bencher, black_box};
use ed25519_dalek::SigningKey;
use futures::{FutureExt, future::BoxFuture};
use tokio::io::AsyncWriteExt;

fn main() {
    divan::main();
}

/// The targets of a network that are swept: a /16 with two ports.
fn shard() -> ShardSpace {
    let space = space("10.0.0.0/16");
    let ports = "25,3128".parse().unwrap();
    ShardSpace::new(&space, &ports, CampaignId(0x1234.into()), 0..space.blocks())
}

fn space(target: &str) -> TargetSpace {
    let targets: [Target; 1] = [target.parse().unwrap()];
    TargetSpace::new(&targets, &[]).unwrap()
}

fn target(number: u64) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number as u32 % 65_536), 25))
}

/// Numbers that no optimiser foresees.
fn number() -> u64 {
    fastrand::u64(0..65_536)
}

#[divan::bench]
fn permutation(bencher: Bencher<'_, '_>) {
    let order = Permutation::new(1 << 24, 7);
    bencher.with_inputs(number).bench_values(|n| order.apply(n));
}

#[divan::bench]
fn target_of_number(bencher: Bencher<'_, '_>) {
    let shard = shard();
    bencher
        .with_inputs(number)
        .bench_values(|n| shard.target(n));
}

#[divan::bench]
fn number_of_target(bencher: Bencher<'_, '_>) {
    let shard = shard();
    bencher
        .with_inputs(|| target(number()))
        .bench_values(|target| shard.number(target));
}

/// With so many networks excluded.
#[divan::bench(args = [1, 1000, 100_000])]
fn scope(bencher: Bencher<'_, '_>, excluded: u32) {
    let exclude: Vec<Target> = (0..excluded)
        .map(|n| {
            let net = Ipv4Addr::from(0x0b00_0000 + n * 512);
            format!("{net}/24").parse().unwrap()
        })
        .collect();
    let scope = Scope::new(None, space("127.0.0.0/8"), &exclude, &[]);
    let now = Timestamp::now();
    bencher
        .with_inputs(|| SocketAddr::from((Ipv4Addr::from(0x7f00_0000 + number() as u32), 25)))
        .bench_values(|target| scope.permits(target, now));
}

const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

#[divan::bench]
fn cookie(bencher: Bencher<'_, '_>) {
    let cookies = Cookies::new([7; 16], 40_000);
    bencher
        .with_inputs(|| target(number()))
        .bench_values(|target| cookies.sequence(OURS, target));
}

#[divan::bench]
fn syn_packet(bencher: Bencher<'_, '_>) {
    let cookies = Cookies::new([7; 16], 40_000);
    let syn = Syn::new(OURS, 40_000);
    let mut packet = [0; LONGEST];
    bencher
        .with_inputs(|| target(number()))
        .bench_local_values(|target| syn.write(&mut packet, &cookies, target));
}

/// Somebody else's SYN: what a reply costs that is none.
#[divan::bench]
fn foreign_packet(bencher: Bencher<'_, '_>) {
    let cookies = Cookies::new([7; 16], 40_000);
    let mut packet = [0; LONGEST];
    let length = Syn::new(OURS, 40_000).write(&mut packet, &cookies, target(1));
    bencher.bench(|| reply::read(black_box(&packet[..length]), &cookies));
}

#[divan::bench]
fn pacer(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let fence = Arc::new(Fence::new(Now::read(), Duration::from_secs(3600)));
    let pacer = Pacer::new(u32::MAX);
    let budget = pacer.lease(fence, u32::MAX);
    bencher.bench_local(|| {
        let admitted = runtime.block_on(pacer.admit_some(&budget, 256));
        pacer.used(&budget, admitted, admitted);
        admitted
    });
}

#[divan::bench]
fn smtp_reply(bencher: Bencher<'_, '_>) {
    const REPLY: &[u8] =
        b"250-mail.example.net\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250 HELP\r\n";
    bencher.bench(|| smtp::codec::Reply::parse(black_box(REPLY), 2048).is_ok());
}

#[divan::bench]
fn http_head(bencher: Bencher<'_, '_>) {
    const HEAD: &[u8] = b"HTTP/1.1 403 Forbidden\r\nServer: squid/6.13\r\nVia: 1.1 proxy\r\n\
        X-Squid-Error: ERR_ACCESS_DENIED 0\r\nContent-Length: 0\r\n\r\n";
    bencher.bench(|| http::codec::Head::parse(black_box(HEAD)).is_ok());
}

#[divan::bench]
fn socks5_reply(bencher: Bencher<'_, '_>) {
    const REPLY: &[u8] = &[5, 0, 0, 1, 192, 0, 2, 7, 0, 80];
    bencher.bench(|| socks::codec5::Reply::parse(black_box(REPLY)).is_ok());
}

/// A greeting of 64 KiB that never ends, in segments of this many bytes: a hostile server may send
/// a byte at a time, and must not cost much more than one that sends whole lines.
#[divan::bench(args = [1, 64, 1024])]
fn endless_greeting(bencher: Bencher<'_, '_>, segment: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let line = format!("220-{}\r\n", "x".repeat(122));
    let greeting = line.repeat(64 * 1024 / line.len());
    let key = SigningKey::from_bytes(&[3; 32]);
    let canary = Canary {
        domain: "canary.test".to_owned(),
        other_domain: None,
        address: OURS,
        smtp: 25,
        http: 80,
        https: 443,
        raw: 7401,
        key: CanaryKey::from(&key),
    };
    let brief = Brief {
        endpoint: target(1),
        campaign: CampaignId(0x1234.into()),
        key: &NonceKey([9; 32]),
        vantage: "bench",
        round: 0,
        canary: &canary,
        tier: Tier::Envelope,
        claims: false,
        our_name: "audit.example",
        names: &[],
        effort: Effort::Normal,
        dial: &Nowhere,
        limits: Limits::default(),
    };
    let probes = [ProbeId::from_static("smtp-relay")];
    bencher.bench_local(|| {
        let (ours, mut theirs) = tokio::io::duplex(segment);
        let greeted = async {
            let _ = theirs.write_all(greeting.as_bytes()).await;
            drop(theirs);
        };
        let examined = ajar_probe::examine(&brief, Box::new(ours), &probes);
        runtime.block_on(async { tokio::join!(examined, greeted).0.len() })
    });
}

/// A target that takes one connection.
struct Nowhere;

impl Dial for Nowhere {
    fn dial(&self) -> BoxFuture<'_, io::Result<BoxStream>> {
        async { Err(io::ErrorKind::ConnectionRefused.into()) }.boxed()
    }
}

/// An answer of the canary, signed and verified: what proves a finding.
#[divan::bench]
fn proof_signed(bencher: Bencher<'_, '_>) {
    let key = SigningKey::from_bytes(&[3; 32]);
    let now = Timestamp::now();
    bencher.bench(|| Answer::sign(&key, nonce(), OURS, 80, now));
}

#[divan::bench]
fn proof_verified(bencher: Bencher<'_, '_>) {
    let key = SigningKey::from_bytes(&[3; 32]);
    let answer = Answer::sign(&key, nonce(), OURS, 80, Timestamp::now());
    let public = CanaryKey::from(&key);
    bencher.bench(|| black_box(&answer).proves(nonce(), &public));
}

fn nonce() -> Nonce {
    "00112233445566778899aabbccddeeff".parse().unwrap()
}
