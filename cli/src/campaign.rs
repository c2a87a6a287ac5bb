//! `ajar campaign …`: submitting and steering campaigns on a cluster.

use std::io::Write;

use ajar_model::campaign::State;
use ajar_proto::{convert, dial, v1};

use crate::{
    args, canary, connect,
    exit::{self, Ended, from_status},
    output::table,
    progress,
    progress::Of,
    request::{self, Request},
    run::{self, Run},
    say,
    stop::{self, unless_stopped},
};

pub async fn run(command: args::Campaign) -> anyhow::Result<Ended> {
    match command {
        args::Campaign::Submit(options) => submit(*options).await,
        args::Campaign::List(cluster) => list(&connect::to(&cluster)?).await,
        args::Campaign::Show(one) => show(&connect::to(&one.remote)?, &one.id).await,
        args::Campaign::Watch(one) => watch(&connect::to(&one.remote)?, &one.id).await,
        args::Campaign::Pause(one) => {
            let request = v1::PauseRequest { id: one.id };
            connect::to(&one.remote)?
                .campaigns()
                .pause(request)
                .await
                .map_err(from_status)?;
            Ok(Ended::Finished)
        }
        args::Campaign::Resume(options) => {
            let args::Resume {
                campaign,
                authorization,
            } = options;
            let id = exit::campaign_id(&campaign.id)?;
            let authorization = request::authorization(&authorization)?;
            Run::new(&connect::to(&campaign.remote)?, id)
                .resume(authorization.as_ref().map(|(signed, _)| signed))
                .await?;
            Ok(Ended::Finished)
        }
        args::Campaign::Cancel(one) => {
            let request = v1::CancelRequest { id: one.id };
            connect::to(&one.remote)?
                .campaigns()
                .cancel(request)
                .await
                .map_err(from_status)?;
            Ok(Ended::Finished)
        }
        args::Campaign::Remove(one) => {
            let request = v1::RemoveRequest { id: one.id };
            connect::to(&one.remote)?
                .campaigns()
                .remove(request)
                .await
                .map_err(from_status)?;
            Ok(Ended::Finished)
        }
        args::Campaign::StopAll(cluster) => stop_all(&connect::to(&cluster)?).await,
        args::Campaign::StartAgain(cluster) => {
            connect::to(&cluster)?
                .campaigns()
                .start_again(v1::StartAgainRequest {})
                .await
                .map_err(from_status)?;
            Ok(Ended::Finished)
        }
    }
}

#[tracing::instrument(name = "campaign submit", skip_all)]
async fn submit(options: args::Submit) -> anyhow::Result<Ended> {
    let (stop, coordinator) = (stop::on_signal(), connect::to(&options.remote)?);
    let id = run::new_id();
    let submitting = async {
        let request = Request::read(&options.request).await?;
        let canary = canary::registered(&coordinator, &options.request).await?;
        let spec = request.with_canary(canary);
        Run::new(&coordinator, id).submit(&spec).await
    };
    unless_stopped(&stop, submitting).await?;
    writeln!(std::io::stdout(), "{id}")?;
    Ok(Ended::Finished)
}

async fn list(coordinator: &dial::Coordinator) -> anyhow::Result<Ended> {
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{:<26}  {:<10}  targets, open endpoints",
        "campaign", "state"
    )?;
    let mut after = String::new();
    loop {
        let request = v1::ListRequest { after };
        let listed = coordinator.campaigns().list(request).await;
        let campaigns = listed.map_err(from_status)?.into_inner().campaigns;
        for campaign in &campaigns {
            writeln!(out, "{}", line(campaign)?)?;
        }
        match campaigns.into_iter().last() {
            Some(last) => after = last.id,
            None => return Ok(Ended::Finished),
        }
    }
}

async fn show(coordinator: &dial::Coordinator, id: &str) -> anyhow::Result<Ended> {
    let request = v1::GetRequest { id: id.to_owned() };
    let got = coordinator.campaigns().get(request).await;
    let got = got.map_err(from_status)?.into_inner();
    let mute = run::mute(&got);
    let v1::GetResponse {
        campaign,
        quarantined,
        ..
    } = got;
    let campaign = campaign.ok_or_else(|| anyhow::anyhow!("the coordinator sent no campaign"))?;
    let (spec, progress) = (
        campaign.spec.clone().unwrap_or_default(),
        campaign.progress.clone().unwrap_or_default(),
    );
    let tally = progress.tally.unwrap_or_default();
    let mut out = std::io::stdout().lock();
    let summary = v1::CampaignSummary {
        id: campaign.id,
        state: campaign.state,
        targets: Some(progress.targets),
        finished: progress.finished,
        open_endpoints: progress.open_endpoints,
        stopped: progress.stopped.clone(),
        created_at: campaign.created_at,
        tenant: spec.tenant.clone(),
        ..v1::CampaignSummary::default()
    };
    writeln!(out, "{}", line(&summary)?)?;
    writeln!(
        out,
        "targets   {} less {}",
        spec.targets.join(" "),
        none(&spec.exclude.join(" "))
    )?;
    writeln!(out, "ports     {}", spec.ports)?;
    writeln!(out, "probes    {}", spec.probes.join(" "))?;
    writeln!(
        out,
        "rate      {}/s, {}/s to each /24 or /64; {}/s leased to {} workers",
        spec.rate, spec.prefix_rate, progress.rate, progress.workers
    )?;
    writeln!(
        out,
        "shards    {} of {} closed, {} leased, {} given up",
        progress.closed, progress.shards, progress.leased, progress.quarantined
    )?;
    writeln!(
        out,
        "outcomes  {} answered, {} refused, {} silent, {} unreachable, {} denied, {} failed, of {}",
        tally.answered,
        tally.refused,
        tally.silent,
        tally.unreachable,
        tally.denied,
        tally.failed,
        progress.targets
    )?;
    for count in &progress.verdicts {
        writeln!(out, "          {} {}", count.count, count.verdict)?;
    }
    if progress.lost_replies > 0 {
        writeln!(
            out,
            "lost      {} replies to SYNs: open ports may be missed, sweep at a lower --rate",
            progress.lost_replies
        )?;
    }
    let is_over = convert::state_in(campaign.state)?.is_final();
    if let Some(next) = progress.next_revisit.filter(|_| !is_over) {
        let (left, seconds) = (progress.awaiting_revisit, next.seconds);
        writeln!(out, "revisits  {left} waiting, the first due in {seconds}s")?;
    }
    if !progress.cause.is_empty() {
        writeln!(out, "cause     {}", progress.cause)?;
    }
    if !progress.stopped.is_empty() {
        writeln!(
            out,
            "stop      {}; `ajar campaign start-again` lifts it",
            progress.stopped
        )?;
    }
    if let Some(mute) = mute {
        writeln!(out, "{mute}")?;
    }
    for shard in &quarantined {
        writeln!(out, "given up  {}", given_up(shard))?;
    }
    for trouble in &progress.troubles {
        writeln!(out, "trouble   {}", progress::trouble(trouble))?;
    }
    Ok(Ended::Finished)
}

async fn watch(coordinator: &dial::Coordinator, id: &str) -> anyhow::Result<Ended> {
    let stop = stop::on_signal();
    let run = Run::new(coordinator, exit::campaign_id(id)?).showing(Of::Cluster);
    let state = run.follow(&stop).await?;
    if stop.is_cancelled() {
        return Ok(Ended::Interrupted);
    }
    show(coordinator, id).await?;
    match state {
        State::Incomplete => anyhow::bail!("campaign {id} is incomplete"),
        State::Cancelled => anyhow::bail!("campaign {id} was cancelled"),
        _ => Ok(Ended::Finished),
    }
}

async fn stop_all(coordinator: &dial::Coordinator) -> anyhow::Result<Ended> {
    let stopped = coordinator
        .campaigns()
        .stop_all(v1::StopAllRequest {})
        .await
        .map_err(from_status)?;
    let stopped = stopped.into_inner();
    for id in &stopped.ids {
        writeln!(std::io::stdout(), "{id}")?;
    }
    say::line("everything is stopped: `ajar campaign start-again` lets it go on");
    Ok(Ended::Finished)
}

fn line(campaign: &v1::CampaignSummary) -> anyhow::Result<String> {
    let state = convert::state_in(campaign.state)?;
    let targets = campaign.targets.map(|targets| targets.to_string());
    let stopped = match campaign.stopped.as_str() {
        "" => "",
        _ => ", stopped",
    };
    let created_at = convert::time_in("created_at", campaign.created_at)?;
    Ok(format!(
        "{}  {:<10}  {}/{} targets  {} open{stopped}  {}  {}",
        campaign.id,
        state.as_str(),
        campaign.finished,
        targets.as_deref().unwrap_or("?"),
        campaign.open_endpoints,
        table::minute(created_at),
        campaign.tenant
    ))
}

/// A shard that was given up, and why.
fn given_up(shard: &v1::Quarantined) -> String {
    let cause = match shard.cause.as_str() {
        "" => "each worker that took it went silent",
        cause => cause,
    };
    format!(
        "shard {}, {} targets in {}: {cause}",
        shard.number,
        shard.targets,
        shard.networks.join(" ")
    )
}

fn none(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}
