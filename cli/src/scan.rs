//! `ajar scan`: one audit, in this process or on a cluster, from its request to its results.

use ajar_model::{
    CampaignId, Canary, SignedAuthorization, Spec, Tier, campaign::State, signers::AllowedSigners,
};
use ajar_proto::convert;
use ajar_store::Access;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    args, canary,
    cluster::Cluster,
    connect,
    exit::{self, Ended, OrRefuse, refuse},
    local::LocalCluster,
    output::Sink,
    request::{self, Request},
    resume,
    run::{self, Run},
    say, signers,
    stop::{self, unless_stopped},
};

pub async fn run(options: args::Scan) -> anyhow::Result<Ended> {
    let sink = Sink::open(&options.output, None)?;
    let stop = stop::on_signal();
    let signers = signers::follow(options.request.authorization.allowed_signers.as_deref())?;
    let beginning = async {
        match &options.resume {
            Some(id) => go_on(&options, exit::campaign_id(id)?, signers).await,
            None => begin(&options, signers).await,
        }
    };
    let (cluster, run) = unless_stopped(&stop, beginning).await?;
    let ended = conclude(&run, &options, sink, &stop).await;
    cluster.stop().await?;
    ended
}

async fn begin(
    options: &args::Scan,
    signers: watch::Receiver<AllowedSigners>,
) -> anyhow::Result<(Cluster, Run)> {
    let request = Request::read(&options.request).await?;
    let id = run::new_id();
    let (mut cluster, canary) = match &options.remote.coordinator {
        Some(url) => {
            let coordinator = connect::dial(url, &options.remote.tls)?;
            let canary = canary::registered(&coordinator, &options.request).await?;
            (Cluster::Remote(coordinator), canary)
        }
        None => {
            ajar_worker::check(options.request.discovery.sweep).or_refuse()?;
            let canary = request.canary_options(&options.request, &options.canary_service)?;
            let mut local =
                LocalCluster::start(&options.store, signers.clone(), id, Access::Write).await?;
            let canary = local.receive(canary).await?.clone();
            (Cluster::Here(Box::new(local)), canary)
        }
    };
    let spec = request.with_canary(canary);
    let run = Run::new(cluster.coordinator(), id);
    let targets = run.submit(&spec).await?;
    announce(id, targets, &spec);
    cluster.work(signers, options.standpoint.clone());
    Ok((cluster, run))
}

/// Goes on with a campaign; of one that is over there are results to write.
async fn go_on(
    options: &args::Scan,
    id: CampaignId,
    signers: watch::Receiver<AllowedSigners>,
) -> anyhow::Result<(Cluster, Run)> {
    let authorization = request::authorization(&options.request.authorization)?;
    let mut cluster = Cluster::open(&options.remote, &options.store, signers.clone(), id).await?;
    let run = Run::new(cluster.coordinator(), id);
    let campaign = run.describe().await?;
    if let State::Finished | State::Cancelled = convert::state_in(campaign.state)? {
        return Ok((cluster, run));
    }
    if let Cluster::Here(local) = &mut cluster {
        if !campaign.local {
            return refuse(format_args!(
                "campaign {id} belongs to a cluster: name its coordinator with --coordinator URL"
            ));
        }
        let spec = convert::spec_in(campaign.spec)?;
        ajar_worker::check(spec.sweep).or_refuse()?;
        receive_again(local, &spec, &options.canary_service).await?;
    }
    run.resume(authorization.as_ref().map(|(signed, _)| signed))
        .await?;
    cluster.work(signers, options.standpoint.clone());
    Ok((cluster, run))
}

/// Starts the canary that a campaign was begun with: receipts are judged by its key.
async fn receive_again(
    local: &mut LocalCluster,
    spec: &Spec,
    ports: &args::CanaryPorts,
) -> anyhow::Result<()> {
    let before = &spec.canary;
    let contact = contact(spec.authorization.as_ref());
    let domains: Vec<&str> = before.domains().collect();
    let options = canary::options(ports, Some(before), before.address, &domains, contact)?;
    let Canary { key, .. } = local.receive(options).await?;
    if *key != before.key {
        return refuse(format_args!(
            "the campaign was begun with the canary key {}, and this one is {key}: give the old one with --canary-key",
            before.key,
        ));
    }
    Ok(())
}

/// Whom the owner of an open door can write to.
fn contact(signed: Option<&SignedAuthorization>) -> Option<String> {
    let authentic = signed?.authenticate().ok()?;
    Some(authentic.authorization.contact)
}

/// Follows a campaign to its end, and writes its results.
async fn conclude(
    run: &Run,
    options: &args::Scan,
    sink: Sink,
    stop: &CancellationToken,
) -> anyhow::Result<Ended> {
    let id = run.id();
    let state = run.follow(stop).await;
    if stop.is_cancelled() {
        run.pause().await?;
        say::line(format_args!(
            "interrupted; everything so far is kept. go on with:\n  {}",
            resume::command(id, options)
        ));
        return Ok(Ended::Interrupted);
    }
    let state = state?;
    if state == State::Cancelled {
        anyhow::bail!("campaign {id} was cancelled");
    }
    let mut writer = sink.begin()?;
    let mut found = false;
    run.results(|finding| {
        found |= options.fail_on.contains(&finding.verdict);
        writer.write(&finding)
    })
    .await?;
    writer.finish()?;
    run.tell_mute().await?;
    if state == State::Incomplete {
        let progress = run.describe().await?.progress.unwrap_or_default();
        anyhow::bail!(
            "campaign {id} is incomplete, {} of {} targets were visited: {}; go on with\n  {}",
            progress.finished,
            progress.targets,
            progress.cause,
            resume::command(id, options)
        );
    }
    Ok(if found { Ended::Found } else { Ended::Finished })
}

/// What is about to happen, and how fast, before the first packet.
fn announce(id: CampaignId, targets: u64, spec: &Spec) {
    let authorization = match &spec.authorization {
        Some(_) => "signed authorization",
        None => "loopback, no authorization needed",
    };
    say::line(format_args!(
        "campaign {id}: {targets} targets at {}/s, {}/s to each /24 or /64; {authorization}; canary {} for {}",
        spec.rate,
        spec.prefix_rate,
        spec.canary.address,
        spec.canary.domains().collect::<Vec<_>>().join(" and "),
    ));
    let chosen = ajar_probe::probes().filter(|probe| spec.probes.contains(&probe.id()));
    for probe in chosen.filter(|probe| probe.tier() <= spec.tier) {
        let (id, canary) = (probe.id(), &spec.canary);
        let note = match (probe.can_use(canary), probe.doubts(canary)) {
            (false, _) => {
                let needs = probe.needs().unwrap_or("another canary");
                format!("{id} is not tried: it needs {needs}")
            }
            (true, Some(doubts)) if spec.tier >= Tier::Deliver => format!("{id}: {doubts}"),
            _ => continue,
        };
        say::line(note);
    }
}
