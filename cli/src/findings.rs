//! `ajar findings …`: reading results again, from a store or a cluster.

use std::io::Write;

use ajar_model::{Finding, Observation, evidence::Direction, proof::Answer};
use ajar_proto::v1;

use crate::{
    args,
    cluster::Cluster,
    exit::{self, Ended, from_status},
    output::{Format, Sink, jsonl, table},
    replay, results,
};

pub async fn run(command: args::Findings) -> anyhow::Result<Ended> {
    match command {
        args::Findings::List(options) => list(options, table::FORMAT).await,
        args::Findings::Export(options) => list(options, jsonl::FORMAT).await,
        args::Findings::Show(options) => show(options).await,
    }
}

async fn list(mut options: args::FindingList, usual: Format) -> anyhow::Result<Ended> {
    let campaign = options
        .campaign
        .as_deref()
        .map(exit::campaign_id)
        .transpose()?;
    options.output.format.get_or_insert(usual);
    let sink = Sink::open(&options.output)?;
    let cluster = Cluster::read(&options.source).await?;
    let mut writer = sink.begin()?;
    results::each_endpoint(
        cluster.coordinator(),
        campaign,
        &options.verdict,
        |finding| writer.write(&finding),
    )
    .await?;
    writer.finish()?;
    cluster.stop().await?;
    Ok(Ended::Finished)
}

async fn show(options: args::FindingShow) -> anyhow::Result<Ended> {
    let cluster = Cluster::read(&options.source).await?;
    let request = v1::ShowRequest { id: options.id };
    let shown = cluster
        .coordinator()
        .findings()
        .show(request)
        .await
        .map_err(from_status)?
        .into_inner();
    let finding = shown.finding.map(Finding::try_from).transpose()?;
    let observations = shown.observations.into_iter().map(Observation::try_from);
    let observations = observations.collect::<Result<Vec<_>, _>>()?;
    let mut out = std::io::stdout().lock();
    if let Some(finding) = finding {
        serde_json::to_writer_pretty(&mut out, &finding)?;
        writeln!(out)?;
        if let Some(doubt) = finding.doubt {
            let verdict = finding.verdict.as_str();
            writeln!(out, "\n{verdict}: {}", doubt.explained())?;
        }
        if let Some(cause) = finding.cause {
            writeln!(out, "\nwhy: {}", cause.explained())?;
        }
        if let Some(command) = replay::command(&finding, &observations) {
            writeln!(out, "\nto see it without ajar:\n  {command}")?;
        }
    }
    for observation in &observations {
        print(&mut out, observation)?;
    }
    cluster.stop().await?;
    Ok(Ended::Finished)
}

fn receipt(answer: &Option<Answer>) -> &'static str {
    match answer {
        Some(_) => ", answered by the canary",
        None => "",
    }
}

fn print(out: &mut impl Write, observation: &Observation) -> std::io::Result<()> {
    let Observation {
        endpoint,
        probe,
        vantage,
        visit,
        round,
        started_at,
        ..
    } = observation;
    let purpose = match round {
        0 => "",
        _ => " (to confirm)",
    };
    writeln!(
        out,
        "\n{probe} at {endpoint} from {vantage}, visit {visit}{purpose}, {started_at}"
    )?;
    for attempt in &observation.evidence.attempts {
        let receipt = receipt(&attempt.answer);
        writeln!(out, "  {} {:?}{receipt}", attempt.variant, attempt.reply)?;
    }
    for control in &observation.evidence.controls {
        let (check, receipt) = (control.check.as_str(), receipt(&control.answer));
        writeln!(
            out,
            "  {} check {check}: {:?}{receipt}",
            control.of, control.reply
        )?;
    }
    for entry in &observation.evidence.transcript {
        let mark = match entry.direction {
            Direction::Sent => ">",
            Direction::Received => "<",
            Direction::Event => "*",
        };
        for line in entry.text.raw().lines() {
            let line = ajar_model::Untrusted::from(line.to_owned());
            writeln!(out, "  {:>7} ms {mark} {}", entry.at_ms, line.clean())?;
        }
    }
    Ok(())
}
