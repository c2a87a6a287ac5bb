//! Thousands of workers in one process, as far as a coordinator can tell: each has a session, in which its leases are kept, and
//! reports. No target is visited.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ajar_model::{
    CampaignId, Canary, Lease, NonceKey, ProbeId, ShardId, Sighting, Timestamp,
    nonce::{Occasion, Role},
};
use ajar_proto::{
    convert,
    dial::Coordinator,
    v1::{self, lease_news::News},
};
use anyhow::{Context, bail, ensure};
use ed25519_dalek::SigningKey;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{self, Instant},
};
use tokio_stream::wrappers::ReceiverStream;
use ulid::Ulid;

use crate::{
    load::{Order, Seen, Stage, VANTAGE},
    reports,
};

/// How often something is said in a session in which no lease is to be kept.
const BEAT: Duration = Duration::from_secs(3);
/// How often a campaign is paused, for how long, and how long the next one is waited for.
const PAUSES: usize = 12;
const PAUSED: Duration = Duration::from_secs(4);
const BETWEEN: Duration = Duration::from_secs(2);
/// Campaigns that are submitted meanwhile, and mails that arrive.
const SUBMISSIONS: usize = 50;
const MAILS: usize = 500;

/// How many times the leases of others the heirs of the dead have room for: they also get what was
/// nobody's.
const SPARE: usize = 64;

/// Does as it is ordered, and says as JSON how that went.
pub async fn run(order: &Order) -> anyhow::Result<String> {
    // Each session is a connection.
    let allowed = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: allowed.maximum,
        ..allowed
    };
    setrlimit(Resource::Nofile, most).context("ulimit -n cannot be raised")?;
    let coordinator = Coordinator::remote(&order.url, None, true)?;
    let seen = Arc::new(Seen::default());
    let (stage, staged) = watch::channel(Stage::Join);
    let started = Instant::now();
    let mut workers = JoinSet::new();
    let held = Arc::new(Mutex::new(HashMap::new()));
    for number in 0..order.workers {
        let worker = Worker {
            number,
            coordinator: coordinator.clone(),
            order: order.clone(),
            seen: Arc::clone(&seen),
            stage: staged.clone(),
            held: Arc::clone(&held),
        };
        workers.spawn(worker.live());
    }
    let all = order.workers * order.leases;
    await_leases(&seen, &mut workers, all).await?;
    let leased = started.elapsed();

    let _ = stage.send(Stage::Work);
    seen.answers.lock().expect("no holder panics").clear();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let (renewals, began) = (count(&seen.renewals), Instant::now());
    time::sleep(Duration::from_secs(order.seconds)).await;
    let worked = began.elapsed().as_secs_f64();
    let renewals = (count(&seen.renewals) - renewals) / worked;
    let observations = count(&seen.observations) / worked;
    let mut answers = std::mem::take(&mut *seen.answers.lock().expect("no holder panics"));

    let campaigns: Vec<CampaignId> = {
        let held = held.lock().expect("no holder panics");
        let mut campaigns: Vec<CampaignId> =
            held.keys().map(|shard: &ShardId| shard.campaign).collect();
        campaigns.sort_unstable();
        campaigns.dedup();
        campaigns
    };
    let others = {
        let coordinator = coordinator.clone();
        let like = *campaigns.first().context("no campaign")?;
        tokio::spawn(async move {
            let submits = submit(&coordinator, like).await?;
            let mails = mail(&coordinator).await?;
            anyhow::Ok((submits, mails))
        })
    };
    let mut pauses = Vec::new();
    for at in 0..PAUSES {
        let id = campaigns[at % campaigns.len()];
        pauses.push(pause(&coordinator, id, &stage).await?);
    }
    let (mut submits, mut mails) = others.await??;
    let ends = std::mem::take(&mut *seen.ends.lock().expect("no holder panics"));
    let mut ends: Vec<Duration> = ends.into_values().collect();
    if let Some(ended) = workers.try_join_next() {
        ended??;
        bail!("a worker ended");
    }
    let back = recover(order, &coordinator, &held, &stage).await?;
    workers.abort_all();

    Ok(json!({
        "grants": all as f64 / leased.as_secs_f64(),
        "renewals": renewals,
        "answer_ms": p99(&mut answers),
        "observations": observations,
        "pause_ms": p99(&mut pauses),
        "pause_effective_ms": p99(&mut ends),
        "submit_ms": p99(&mut submits),
        "mail_ms": p99(&mut mails),
        "recovery": back.as_secs_f64(),
    })
    .to_string())
}

/// Milliseconds that all but one in a hundred took no longer than.
fn p99(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let at = (times.len() * 99).div_ceil(100).saturating_sub(1);
    times
        .get(at)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

async fn await_leases(
    seen: &Seen,
    workers: &mut JoinSet<anyhow::Result<()>>,
    all: usize,
) -> anyhow::Result<()> {
    while seen.leases.load(Ordering::Relaxed) < all {
        if let Some(ended) = workers.try_join_next() {
            ended??;
            bail!("a worker ended");
        }
        time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// One worker.
struct Worker {
    number: usize,
    coordinator: Coordinator,
    order: Order,
    seen: Arc<Seen>,
    stage: watch::Receiver<Stage>,
    /// The number of each shard's worker.
    held: Arc<Mutex<HashMap<ShardId, usize>>>,
}

impl Worker {
    /// Gets leases and keeps them, until it is to die.
    async fn live(mut self) -> anyhow::Result<()> {
        let name = format!("swarm-{}", self.number);
        let mut client = self.coordinator.work();
        let (out, requests) = mpsc::channel(4);
        let hello = v1::SessionRequest {
            number: 1,
            worker: Some(v1::LeaseRequest {
                worker: name.clone(),
                vantage: VANTAGE.to_owned(),
                ..v1::LeaseRequest::default()
            }),
            leases: Vec::new(),
            room: self.order.leases as u32,
        };
        out.send(hello).await?;
        let mut answers = client
            .session(ReceiverStream::new(requests))
            .await?
            .into_inner();
        let mut leases: Vec<Lease> = Vec::new();
        let (mut number, mut next) = (1, Instant::now() + BEAT);
        let mut asked = None;
        let mut reporting = JoinSet::new();
        loop {
            tokio::select! {
                answer = answers.message() => {
                    let answer = answer?.context("the session ended")?;
                    if let Some(after) = answer.renew_after {
                        next = Instant::now() + convert::duration_in("renew_after", Some(after))?;
                        if let Some(asked) = asked.take() {
                            let took = Instant::now() - asked;
                            self.seen.answers.lock().expect("no holder panics").push(took);
                        }
                    }
                    for news in answer.leases {
                        self.hear(&news, &mut leases)?;
                    }
                    if let Some(lease) = answer.grant {
                        let lease = Lease::try_from(lease)?;
                        self.held.lock().expect("no holder panics").insert(lease.shard, self.number);
                        if leases.is_empty() && self.order.observations > 0 {
                            let (client, coordinator) = (client.clone(), self.coordinator.clone());
                            let (lease, order) = (lease.clone(), self.order.clone());
                            let (seen, stage) = (Arc::clone(&self.seen), self.stage.clone());
                            reporting.spawn(async move {
                                reports::send(client, coordinator, &lease, &order, &seen, stage).await
                            });
                        }
                        if leases.is_empty() {
                            next = Instant::now() + Duration::from_secs(1);
                        }
                        leases.push(lease);
                        self.seen.leases.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Some(reported) = reporting.join_next() => reported??,
                changed = self.stage.changed() => {
                    changed?;
                    if let Stage::Die(from) = *self.stage.borrow_and_update() && self.number >= from {
                        return Ok(());
                    }
                }
                () = time::sleep_until(next) => {
                    number += 1;
                    next = Instant::now() + BEAT;
                    asked = (!leases.is_empty()).then(Instant::now);
                    self.seen.renewals.fetch_add(leases.len() as u64, Ordering::Relaxed);
                    let message = v1::SessionRequest {
                        number,
                        worker: None,
                        leases: leases.iter().map(|lease| renewal(&name, lease)).collect(),
                        room: self.order.leases.saturating_sub(leases.len()) as u32,
                    };
                    out.send(message).await?;
                }
            }
        }
    }

    /// Takes over a lease's new rate, and times how soon a paused campaign's leases end. The worker
    /// goes on naming such a lease, and has it again after the pause.
    fn hear(&self, news: &v1::LeaseNews, leases: &mut [Lease]) -> anyhow::Result<()> {
        let Some(News::Renewed(renewed)) = &news.news else {
            return Ok(());
        };
        let shard = convert::shard_in(news.shard.clone())?;
        if renewed.kept {
            let named = leases.iter_mut().filter(|lease| lease.shard == shard);
            named.for_each(|lease| lease.rate = renewed.rate);
            return Ok(());
        }
        let Stage::Pause(campaign, asked) = *self.stage.borrow() else {
            // It was named a moment before its campaign went on.
            return Ok(());
        };
        ensure!(
            shard.campaign == campaign,
            "a lease was lost: {}",
            renewed.cause
        );
        let mut ends = self.seen.ends.lock().expect("no holder panics");
        ends.entry((shard, asked))
            .or_insert_with(|| asked.elapsed());
        Ok(())
    }
}

/// Asks for more than the lease has, as a worker does that could use it.
fn renewal(name: &str, lease: &Lease) -> v1::RenewRequest {
    v1::RenewRequest {
        shard: Some(lease.shard.into()),
        token: lease.token,
        want_rate: lease.rate.saturating_mul(2),
        rate: lease.rate,
        number: 0,
        revision: lease.revision,
        worker: name.to_owned(),
    }
}

/// Pauses a campaign for a while. Returns how long the answer took.
async fn pause(
    coordinator: &Coordinator,
    campaign: CampaignId,
    stage: &watch::Sender<Stage>,
) -> anyhow::Result<Duration> {
    let id = campaign.to_string();
    let asked = Instant::now();
    stage.send(Stage::Pause(campaign, asked))?;
    let request = v1::PauseRequest { id: id.clone() };
    coordinator.campaigns().pause(request).await?;
    let took = asked.elapsed();
    time::sleep_until(asked + PAUSED).await;
    let authorization = None;
    let resuming = v1::ResumeRequest { id, authorization };
    coordinator.campaigns().resume(resuming).await?;
    time::sleep(BETWEEN).await;
    stage.send(Stage::Work)?;
    Ok(took)
}

/// Submits campaigns of one address each, and cancels them. Returns how long each submission took.
async fn submit(coordinator: &Coordinator, like: CampaignId) -> anyhow::Result<Vec<Duration>> {
    let mut client = coordinator.campaigns();
    let request = v1::GetRequest {
        id: like.to_string(),
    };
    let got = client.get(request).await?.into_inner();
    let spec = got.campaign.and_then(|campaign| campaign.spec);
    let spec = spec.context("no specification")?;
    let mut took = Vec::new();
    for number in 0..SUBMISSIONS {
        let spec = v1::Spec {
            targets: vec![format!("10.0.0.{number}")],
            ..spec.clone()
        };
        let id = Ulid::new().to_string();
        let request = v1::SubmitRequest {
            id: id.clone(),
            spec: Some(spec),
        };
        let asked = Instant::now();
        client.submit(request).await?;
        took.push(asked.elapsed());
        client.cancel(v1::CancelRequest { id }).await?;
        time::sleep(Duration::from_millis(500)).await;
    }
    Ok(took)
}

/// Reports mails that belong to no finding. Returns how long the coordinator took to store each.
async fn mail(coordinator: &Coordinator) -> anyhow::Result<Vec<Duration>> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let canary = Canary {
        domain: "swarm.test".to_owned(),
        other_domain: None,
        address: Ipv4Addr::LOCALHOST.into(),
        smtp: 25,
        http: 80,
        https: 443,
        raw: 7401,
        key: (&key).into(),
    };
    let mut client = coordinator.canary();
    let canary = Some((&canary).into());
    client.register(v1::RegisterRequest { canary }).await?;
    let nonces = NonceKey([9; 32]);
    let occasion = Occasion {
        campaign: CampaignId(Ulid::new()),
        endpoint: "10.0.0.1:25".parse()?,
        vantage: VANTAGE,
        round: 0,
    };
    let mut took = Vec::new();
    for number in 0..MAILS {
        let probe = ProbeId::from_static("smtp-relay");
        let variant = number.to_string();
        let sighting = Sighting {
            nonce: nonces.nonce(&occasion, &probe, &variant, Role::Destination),
            egress_ip: Ipv4Addr::LOCALHOST.into(),
            received_at: Timestamp::now(),
            helo: "mail.example".to_owned().into(),
            mail_from: String::new().into(),
            rcpt_to: String::new().into(),
            header: String::new().into(),
            signature: Default::default(),
        };
        let sighting = Some((&sighting.signed(&key)).into());
        let asked = Instant::now();
        client.record(v1::RecordRequest { sighting }).await?;
        took.push(asked.elapsed());
        time::sleep(Duration::from_millis(50)).await;
    }
    Ok(took)
}

/// Lets some workers die and others come. Returns how long it takes until each shard of a dead
/// worker is another's.
async fn recover(
    order: &Order,
    coordinator: &Coordinator,
    held: &Arc<Mutex<HashMap<ShardId, usize>>>,
    stage: &watch::Sender<Stage>,
) -> anyhow::Result<Duration> {
    let from = order.workers - order.deaths;
    let died = Instant::now();
    stage.send(Stage::Die(from))?;
    let mut heirs = JoinSet::new();
    for number in order.workers..order.workers + order.deaths {
        let worker = Worker {
            number,
            coordinator: coordinator.clone(),
            order: Order {
                observations: 0,
                leases: order.leases * SPARE,
                ..order.clone()
            },
            seen: Arc::default(),
            stage: stage.subscribe(),
            held: Arc::clone(held),
        };
        heirs.spawn(worker.live());
    }
    let wait = Duration::from_secs(60);
    let died_with = |held: &HashMap<ShardId, usize>| {
        held.values()
            .filter(|number| (from..order.workers).contains(number))
            .count()
    };
    while died_with(&held.lock().expect("no holder panics")) > 0 {
        ensure!(died.elapsed() < wait, "a dead worker's shard is nobody's");
        time::sleep(Duration::from_millis(20)).await;
    }
    Ok(died.elapsed())
}
