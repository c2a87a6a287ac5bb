//! What the workers of a swarm report: made up, and of the targets of their shards.

use std::{sync::atomic::Ordering, time::Duration};

use ajar_model::{
    Attempt, Evidence, Lease, NonceKey, Observation, Plan, ProbeId, Reply, Service, Spec, Targets,
    Timestamp,
    nonce::{Occasion, Role},
    proof::Kind,
};
use ajar_proto::{
    convert,
    dial::{Coordinator, Traced},
    v1::{self, work_service_client::WorkServiceClient},
};
use anyhow::{Context, ensure};
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::load::{Order, Seen, Stage, VANTAGE};

/// Reports on a lease what is made up, at the rate that is ordered.
pub async fn send(
    mut client: WorkServiceClient<Traced>,
    coordinator: Coordinator,
    lease: &Lease,
    order: &Order,
    seen: &Seen,
    mut stage: watch::Receiver<Stage>,
) -> anyhow::Result<()> {
    let Order {
        observations,
        batch,
        ..
    } = *order;
    stage.wait_for(|stage| *stage != Stage::Join).await?;
    let deadline = Instant::now() + Duration::from_secs(order.seconds);
    let request = v1::DescribeRequest {
        campaign: lease.shard.campaign.to_string(),
        revision: lease.revision,
        epoch: lease.epoch,
    };
    let campaign = client.describe(request).await?.into_inner();
    let spec: Spec = convert::spec_in(campaign.spec)?;
    let key = convert::nonce_key_in(&campaign.nonce_key)?;
    let targets = Plan::of(lease.shard.campaign, &spec)?
        .targets(&lease.work)
        .context("a lease of no targets")?;
    let (outgoing, requests) = mpsc::channel(1);
    let mut client = coordinator.work();
    let opening = client.report(ReceiverStream::new(requests));
    let made_up = |from: u64| made_up(lease, &targets, &key, from, batch);
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
        ticks.tick().await;
        if Instant::now() >= deadline || from + batch > targets.count() {
            return Ok(());
        }
        outgoing.send(made_up(from)).await?;
    }
}

/// Mail servers that refuse, as they are reported.
fn made_up(
    lease: &Lease,
    targets: &Targets,
    key: &NonceKey,
    from: u64,
    batch: u64,
) -> v1::ReportRequest {
    let (shard, now) = (lease.shard, Timestamp::now());
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
                    sent: None,
                    returns: false,
                    turned_away: false,
                    is_ignored: false,
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
        token: lease.token,
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
