//! `ajar demo`: audits a small lab of honest and lying services that it starts itself on loopback.

use std::{net::Ipv4Addr, time::Duration};

use ajar_canary::Ports;
use ajar_model::{Canary, Effort, Finding, Revisits, Spec, Target, Tier, Verdict, campaign::Sweep};
use ajar_probe::Limits;
use ajar_store::Access;
use tokio_util::sync::CancellationToken;

use crate::{
    args,
    exit::Ended,
    lab::{Lab, Service},
    local::LocalCluster,
    output::{self, Sink},
    request,
    run::{self, Run},
    say, signers, stop,
};

/// Fast enough for loopback, where nobody else is disturbed.
const RATE: u32 = 200;
/// Relayed mail of the lab arrives within a moment.
const SETTLE_SECS: u32 = 1;
/// The lab's greylister says itself when it wants us back.
const REVISITS: Revisits = Revisits {
    most: 1,
    after_secs: 1,
    confirm_after_secs: Some(1),
};
/// Far less than in a scan, so that the tarpits do not keep anybody waiting.
const EXAMINATION_SECS: u64 = 6;
const REPLY_SECS: u64 = 1;
const DOMAIN: &str = "canary.test";
const OTHER_DOMAIN: &str = "canary.example";

pub async fn run(options: args::Demo) -> anyhow::Result<Ended> {
    // Its services are next door on purpose.
    let output = output::Options {
        inside_counts: true,
        ..options.output.clone()
    };
    let sink = Sink::open(&output, None)?;
    let directory = tempfile::tempdir()?;
    let store = match &options.store {
        Some(store) => store.clone(),
        None => directory
            .path()
            .join("demo.db")
            .to_string_lossy()
            .into_owned(),
    };
    let stop = stop::on_signal();
    let id = run::new_id();
    let mut cluster = LocalCluster::start(&store, signers::none(), id, Access::Write).await?;
    let shutdown = CancellationToken::new();
    let canary_options = ajar_canary::Options {
        address: Ipv4Addr::LOCALHOST.into(),
        advertise: None,
        ports: Ports::any(),
        domain: DOMAIN.to_owned(),
        other_domain: Some(OTHER_DOMAIN.to_owned()),
        key: ajar_canary::key::load_or_create(&directory.path().join("canary.key"))?,
        contact: None,
        certificate: None,
    };
    let canary = cluster.receive(canary_options).await?.clone();
    let lab = Lab::start(&canary, shutdown.clone()).await?;
    introduce(lab.services());

    let run = Run::new(&cluster.coordinator, id);
    run.submit(&spec(&lab, canary)?).await?;
    cluster.work(signers::none(), limits(), args::Standpoint::default());
    run.follow(&stop).await?;
    if stop.is_cancelled() {
        cluster.stop().await?;
        return Ok(Ended::Interrupted);
    }
    let mut findings = Vec::new();
    run.results(|finding| {
        findings.push(finding);
        Ok(())
    })
    .await?;
    let mut writer = sink.begin()?;
    findings
        .iter()
        .try_for_each(|finding| writer.write(finding))?;
    writer.finish()?;
    let wrong = wrong(lab.services(), &findings);
    conclude(lab.services().len(), &wrong);
    if options.keep {
        say::line("\nthe lab stays up until Ctrl-C");
        stop.cancelled().await;
    }
    shutdown.cancel();
    cluster.stop().await?;
    if wrong.is_empty() {
        return Ok(Ended::Finished);
    }
    anyhow::bail!("{} of the lab's services were judged wrongly", wrong.len())
}

/// The lab is next door: whoever has not answered by then never will.
fn limits() -> Limits {
    Limits {
        examination: Duration::from_secs(EXAMINATION_SECS),
        greeting: Duration::from_secs(REPLY_SECS * 2),
        reply: Duration::from_secs(REPLY_SECS),
        offer: Duration::from_secs(REPLY_SECS) / 3,
        ..Limits::default()
    }
}

fn spec(lab: &Lab, canary: Canary) -> anyhow::Result<Spec> {
    let mut targets: Vec<Target> = lab
        .services()
        .iter()
        .map(|service| service.endpoint.ip().into())
        .collect();
    targets.sort();
    targets.dedup();
    Ok(Spec {
        tenant: "demo".to_owned(),
        targets,
        exclude: Vec::new(),
        hosts: Vec::new(),
        ports: ajar_model::Ports::new(
            lab.services().iter().map(|service| service.endpoint.port()),
        )?,
        probes: request::probes(&["all".to_owned()], None)?,
        rate: RATE,
        prefix_rate: RATE,
        tier: Tier::Deliver,
        effort: Effort::Normal,
        sweep: Sweep::Connect,
        retries: 1,
        settle_secs: SETTLE_SECS,
        revisits: REVISITS,
        canary,
        authorization: None,
        traceparent: None,
    })
}

fn introduce(services: &[Service]) {
    say::line(format_args!(
        "a lab of {} services is up on loopback; nothing leaves this machine:\n",
        services.len()
    ));
    for Service {
        name,
        summary,
        endpoint,
        ..
    } in services
    {
        say::line(format_args!(
            "  {:<21} {name:<24} {summary}",
            endpoint.to_string()
        ));
    }
    say::line(format_args!(
        "\nauditing it: {RATE} connections a second, receipts at the canary on 127.0.0.1;\n\
         each service is given {EXAMINATION_SECS} seconds, where a scan gives {}\n",
        Limits::default().examination.as_secs()
    ));
}

/// Services whose verdict is not what they really are.
fn wrong<'a>(services: &'a [Service], findings: &[Finding]) -> Vec<(&'a Service, Option<Verdict>)> {
    let verdict = |service: &Service| {
        let at = |finding: &&Finding| {
            (finding.ip, finding.port) == (service.endpoint.ip(), service.endpoint.port())
        };
        findings.iter().find(at).map(|finding| finding.verdict)
    };
    services
        .iter()
        .map(|service| (service, verdict(service)))
        .filter(|(service, verdict)| *verdict != Some(service.expect))
        .collect()
}

fn conclude(all: usize, wrong: &[(&Service, Option<Verdict>)]) {
    say::line(format_args!(
        "\n{} of {all} services were judged as what they are",
        all - wrong.len()
    ));
    for (service, verdict) in wrong {
        let got = verdict.map_or("nothing", Verdict::as_str);
        say::line(format_args!(
            "  {} at {}: {got} instead of {}",
            service.name,
            service.endpoint,
            service.expect.as_str()
        ));
    }
    say::line(
        "\nnext:\n  \
         ajar scan 127.0.0.1 -p 25,1080,3128,8080            audit this machine; loopback needs no authorization\n  \
         ajar authorize 198.51.100.0/24 --contact you@example.net --canary 192.0.2.1\n                                                      \
         write down and sign what you may audit\n  \
         ajar scan --authorization authorization.toml        audit it, within its limits",
    )
}
