//! A thousand workers in one process, as far as a coordinator can tell: each has its connections, holds a lease, renews it every second and
//! reports. No target is visited; what they report is made up, and of the targets of their shards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ajar_model::{
    Attempt, Evidence, Lease, NonceKey, Observation, Plan, ProbeId, Reply, Service, Spec, Targets,
    Timestamp,
    nonce::{Occasion, Role},
    proof::Kind,
};
use ajar_proto::{
    convert,
    dial::{Coordinator, Tls, Traced},
    v1::{self, work_service_client::WorkServiceClient},
};
use anyhow::{Context, ensure};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet, time};
use tokio_stream::wrappers::ReceiverStream;

/// As workers do.
const RENEWAL: Duration = Duration::from_secs(1);
const VANTAGE: &str = "swarm";
/// How often a campaign is paused, and for how long.
const PAUSES: usize = 5;
const PAUSED: Duration = Duration::from_secs(3);

/// What a swarm is to do.
#[derive(Debug, Clone)]
pub struct Order {
    pub url: String,
    pub workers: usize,
    /// How long they report, in seconds.
    pub seconds: u64,
    /// Observations a second of each; a batch is sent whenever there are `batch` of them.
    pub observations: u64,
    pub batch: u64,
    /// How many of them die then.
    pub deaths: usize,
}

/// What was counted and timed.
#[derive(Debug, Default)]
struct Seen {
    renewals: AtomicU64,
    /// Microseconds, of all renewals together, and of the slowest.
    renewing: AtomicU64,
    slowest: AtomicU64,
    observations: AtomicU64,
    batches: AtomicU64,
}

/// One worker with its lease.
struct Worker {
    name: String,
    client: WorkServiceClient<Traced>,
    coordinator: Coordinator,
    lease: Lease,
    order: Order,
}

/// Does as it is ordered, and says as JSON how that went.
pub async fn run(order: &Order) -> anyhow::Result<String> {
    let coordinator = Coordinator::remote(&order.url, &Tls::default(), true)?;
    let started = Instant::now();
    let mut joining = JoinSet::new();
    for number in 0..order.workers {
        joining.spawn(join(coordinator.clone(), order.clone(), number));
    }
    let mut workers = Vec::new();
    while let Some(worker) = joining.join_next().await {
        workers.push(worker??);
    }
    let leased = started.elapsed();

    let seen = Arc::new(Seen::default());
    let mut working = JoinSet::new();
    let began = Instant::now();
    for worker in workers {
        working.spawn(work(worker, Arc::clone(&seen)));
    }
    let mut left = Vec::new();
    while let Some(worker) = working.join_next().await {
        left.push(worker??);
    }
    let worked = began.elapsed().as_secs_f64();
    let pauses = pause(&coordinator, &left).await?;
    let back = recover(coordinator, left, order).await?;

    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let renewals = count(&seen.renewals);
    Ok(json!({
        "grants": order.workers as f64 / leased.as_secs_f64(),
        "renewals": renewals / worked,
        "renewal_ms": count(&seen.renewing) / renewals / 1e3,
        "slowest_renewal_ms": count(&seen.slowest) / 1e3,
        "observations": count(&seen.observations) / worked,
        "batches": count(&seen.batches) / worked,
        "pause_ms": pauses.answered.as_secs_f64() * 1e3,
        "pause_effective_ms": pauses.effective.as_secs_f64() * 1e3,
        "recovery": back.as_secs_f64(),
    })
    .to_string())
}

/// Asks until there is a lease.
async fn join(coordinator: Coordinator, order: Order, number: usize) -> anyhow::Result<Worker> {
    let mut client = coordinator.work();
    let request = v1::LeaseRequest {
        worker: format!("swarm-{number}"),
        vantage: VANTAGE.to_owned(),
        ..v1::LeaseRequest::default()
    };
    loop {
        let answer = client.lease(request.clone()).await?.into_inner();
        if let Some(lease) = answer.lease {
            return Ok(Worker {
                name: request.worker,
                client,
                coordinator,
                lease: lease.try_into()?,
                order,
            });
        }
        time::sleep(Duration::from_millis(300)).await;
    }
}

/// Renews and reports until the time is over.
async fn work(worker: Worker, seen: Arc<Seen>) -> anyhow::Result<Worker> {
    let deadline = time::Instant::now() + Duration::from_secs(worker.order.seconds);
    let reporting = report(&worker, &seen, deadline);
    let renewing = renew(&worker, &seen, deadline);
    tokio::try_join!(reporting, renewing)?;
    Ok(worker)
}

async fn renew(worker: &Worker, seen: &Seen, deadline: time::Instant) -> anyhow::Result<()> {
    let mut client = worker.client.clone();
    while time::Instant::now() < deadline {
        let started = Instant::now();
        let renewed = client.renew(renewal(worker)).await?.into_inner();
        ensure!(renewed.kept, "a lease was lost: {}", renewed.cause);
        let took = started.elapsed().as_micros() as u64;
        seen.renewals.fetch_add(1, Ordering::Relaxed);
        seen.renewing.fetch_add(took, Ordering::Relaxed);
        seen.slowest.fetch_max(took, Ordering::Relaxed);
        time::sleep(RENEWAL).await;
    }
    Ok(())
}

async fn report(worker: &Worker, seen: &Seen, deadline: time::Instant) -> anyhow::Result<()> {
    let Order {
        observations,
        batch,
        ..
    } = worker.order;
    let shard = worker.lease.shard;
    let request = v1::DescribeRequest {
        campaign: shard.campaign.to_string(),
        revision: worker.lease.revision,
        epoch: worker.lease.epoch,
    };
    let campaign = worker.client.clone().describe(request).await?.into_inner();
    let spec: Spec = convert::spec_in(campaign.spec)?;
    let key = convert::nonce_key_in(&campaign.nonce_key)?;
    let targets = Plan::of(shard.campaign, &spec)?
        .targets(&worker.lease.work)
        .context("a lease of no targets")?;
    let (outgoing, requests) = mpsc::channel(1);
    let mut client = worker.coordinator.work();
    let opening = client.report(ReceiverStream::new(requests));
    let made_up = |from: u64| made_up(worker, &targets, &key, from, batch);
    let first = outgoing.send(made_up(0));
    let (answers, sent) = futures::future::join(opening, first).await;
    let mut answers = answers?.into_inner();
    sent?;
    let mut ticks = time::interval(Duration::from_secs_f64(
        batch as f64 / observations.max(1) as f64,
    ));
    let mut from = 0;
    loop {
        let answer = answers.message().await?.context("the stream ended")?;
        ensure!(!answer.stale, "a batch came too late");
        from += batch;
        seen.observations.fetch_add(batch, Ordering::Relaxed);
        seen.batches.fetch_add(1, Ordering::Relaxed);
        ticks.tick().await;
        if time::Instant::now() >= deadline || from + batch > targets.count() {
            return Ok(());
        }
        outgoing.send(made_up(from)).await?;
    }
}

/// Mail servers that refuse, as they are reported.
fn made_up(
    worker: &Worker,
    targets: &Targets,
    key: &NonceKey,
    from: u64,
    batch: u64,
) -> v1::ReportRequest {
    let (shard, now) = (worker.lease.shard, Timestamp::now());
    let probe = ProbeId::from_static("smtp-relay");
    let seen = (from..from + batch).map(|number| {
        let occasion = Occasion {
            campaign: shard.campaign,
            endpoint: targets.get(number),
            vantage: VANTAGE,
            round: 0,
        };
        let observation = Observation {
            campaign: shard.campaign,
            endpoint: occasion.endpoint,
            probe: probe.clone(),
            vantage: VANTAGE.to_owned(),
            started_at: now,
            finished_at: now,
            visit: 1,
            round: 0,
            evidence: Evidence {
                service: Some(Service::from_static("smtp")),
                banner: Some("220 mail.example ESMTP".to_owned().into()),
                attempts: vec![Attempt {
                    variant: "plain".to_owned(),
                    kind: Kind::Mail,
                    nonce: key.nonce(&occasion, &probe, "plain", Role::Destination),
                    port: None,
                    reply: Reply::Refused { code: 550 },
                    answer: None,
                    at: now,
                }],
                ..Evidence::default()
            },
        };
        (&observation).into()
    });
    v1::ReportRequest {
        sequence: from / batch + 1,
        shard: Some(shard.into()),
        token: worker.lease.token,
        observations: seen.collect(),
        advance: Some(v1::Advance {
            from,
            to: from + batch,
            tally: Some(v1::Tally {
                answered: batch,
                ..v1::Tally::default()
            }),
            closes: false,
        }),
        ahead: 0,
        ahead_answered: 0,
        lost_replies: 0,
    }
}

/// The slowest of some pauses.
#[derive(Debug, Default)]
struct Pauses {
    /// Until the operator has the answer.
    answered: Duration,
    /// Until the coordinator keeps no lease of the campaign any more.
    effective: Duration,
}

/// Pauses the campaign of the first worker a few times, while every worker renews its lease.
async fn pause(coordinator: &Coordinator, workers: &[Worker]) -> anyhow::Result<Pauses> {
    let campaign = workers.first().context("no worker")?.lease.shard.campaign;
    let mut slowest = Pauses::default();
    for _ in 0..PAUSES {
        let asked = Instant::now();
        let renewals = workers.iter().map(|worker| async move {
            let mut kept = Duration::ZERO;
            while asked.elapsed() < PAUSED {
                let renewed = worker.client.clone().renew(renewal(worker)).await?;
                if renewed.into_inner().kept && worker.lease.shard.campaign == campaign {
                    kept = asked.elapsed();
                }
                time::sleep(RENEWAL).await;
            }
            anyhow::Ok(kept)
        });
        let mut client = coordinator.campaigns();
        let id = campaign.to_string();
        let pausing = async {
            client.pause(v1::PauseRequest { id: id.clone() }).await?;
            anyhow::Ok(asked.elapsed())
        };
        let renewing = futures::future::try_join_all(renewals);
        let (answered, kept) = tokio::try_join!(pausing, renewing)?;
        let last = kept.into_iter().max().unwrap_or_default();
        slowest.answered = slowest.answered.max(answered);
        slowest.effective = slowest.effective.max(last.max(answered));
        let authorization = None;
        let resuming = v1::ResumeRequest { id, authorization };
        coordinator.campaigns().resume(resuming).await?;
    }
    Ok(slowest)
}

/// Asks for more than the lease has, as a worker does that could use it.
fn renewal(worker: &Worker) -> v1::RenewRequest {
    v1::RenewRequest {
        shard: Some(worker.lease.shard.into()),
        token: worker.lease.token,
        want_rate: worker.lease.rate.saturating_mul(2),
        rate: worker.lease.rate,
        number: 0,
        worker: worker.name.clone(),
    }
}

/// Some die, and the others go on. How long it takes until somebody else has the lease of each that died.
async fn recover(
    coordinator: Coordinator,
    mut workers: Vec<Worker>,
    order: &Order,
) -> anyhow::Result<Duration> {
    let dead = workers.split_off(workers.len() - order.deaths);
    let mut wanted: Vec<_> = dead.iter().map(|worker| worker.lease.shard).collect();
    // The dead renewed just now: nothing of their time is over.
    let renewals = dead.iter().map(|worker| {
        let request = renewal(worker);
        let mut client = worker.client.clone();
        async move { client.renew(request).await }
    });
    futures::future::try_join_all(renewals).await?;
    let died = Instant::now();
    let mut living = JoinSet::new();
    let mut live = |worker: Worker| {
        living.spawn(async move {
            let far = time::Instant::now() + Duration::from_secs(3600);
            renew(&worker, &Seen::default(), far).await
        });
    };
    workers.into_iter().for_each(&mut live);
    let mut number = order.workers;
    while !wanted.is_empty() {
        number += 1;
        let heir = join(coordinator.clone(), order.clone(), number);
        let heir = time::timeout(Duration::from_secs(60), heir).await??;
        wanted.retain(|shard| *shard != heir.lease.shard);
        live(heir);
    }
    Ok(died.elapsed())
}
