//! `ajar findings …`: reading results again, from a store or a cluster.

use std::io::Write;

use ajar_model::{
    Observation, Untrusted,
    evidence::{Broken, Direction, Reply},
    proof::Answer,
};

use crate::{
    args,
    cluster::Cluster,
    exit::{self, Ended},
    output::{Format, Sink, escaped, jsonl, table},
    rehearsal, replay,
    results::{self, Which},
};

pub async fn run(command: args::Findings) -> anyhow::Result<Ended> {
    match command {
        args::Findings::List(options) => list(options, table::FORMAT).await,
        args::Findings::Export(options) => list(options, jsonl::FORMAT).await,
        args::Findings::Show(options) => show(&options).await,
        args::Findings::Replay(options) => rehearsal::run(&options).await,
    }
}

async fn list(options: args::FindingList, usual: Format) -> anyhow::Result<Ended> {
    let campaign = options.campaign.as_deref().map(exit::campaign_id);
    let which = match (campaign.transpose()?, options.history) {
        (Some(campaign), _) => Which::Of(campaign),
        (None, true) => Which::All,
        (None, false) => Which::Newest,
    };
    let sink = Sink::open(&options.output, Some(usual))?;
    let cluster = Cluster::read(&options.source).await?;
    let mut writer = sink.begin()?;
    results::each_endpoint(cluster.coordinator(), which, &options.verdict, |finding| {
        writer.write(&finding)
    })
    .await?;
    writer.finish()?;
    cluster.stop().await?;
    Ok(Ended::Finished)
}

async fn show(options: &args::FindingShow) -> anyhow::Result<Ended> {
    let cluster = Cluster::read(&options.source).await?;
    let (finding, observations) = results::named(&cluster, options).await?;
    let mut out = std::io::stdout().lock();
    escaped::to_writer_pretty(&mut out, &finding)?;
    writeln!(out)?;
    if let Some(doubt) = finding.doubt {
        let verdict = finding.verdict.as_str();
        writeln!(out, "\n{verdict}: {}", doubt.explained())?;
    }
    if let Some(cause) = finding.cause {
        writeln!(out, "\nwhy: {}", cause.explained())?;
    }
    if let Some(command) = replay::command(&finding, &observations) {
        writeln!(
            out,
            "\nto see it without ajar, while its canary runs (`ajar findings replay {}` starts one):\n  {command}",
            finding.id
        )?;
    }
    for observation in &observations {
        print(&mut out, observation)?;
    }
    cluster.stop().await?;
    Ok(Ended::Finished)
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
        let said = said(attempt.reply, &attempt.answer);
        writeln!(out, "  {}: {said}", attempt.variant)?;
    }
    for control in &observation.evidence.controls {
        let said = said(control.reply, &control.answer);
        writeln!(
            out,
            "  {}, check {}: {said}",
            control.of,
            control.check.as_str()
        )?;
    }
    for entry in &observation.evidence.transcript {
        let mark = match entry.direction {
            Direction::Sent => ">",
            Direction::Received => "<",
            Direction::Event => "*",
        };
        for line in entry.text.raw().lines() {
            let line = Untrusted::from(line.to_owned());
            writeln!(out, "  {:>7} ms {mark} {}", entry.at_ms, line.clean())?;
        }
    }
    Ok(())
}

/// A reply in words, with the protocol's own code.
fn said(reply: Reply, answer: &Option<Answer>) -> String {
    let coded = |word: &str, code: u16| match code {
        0 => word.to_owned(),
        code => format!("{word} ({code})"),
    };
    let said = match reply {
        Reply::Accepted { code } => coded("accepted", code),
        Reply::AuthRequired { code } => coded("asks for a login", code),
        Reply::Refused { code } => coded("refused", code),
        Reply::Temporary { code } => coded("put off", code),
        Reply::Broken { how } => match how {
            Broken::Connect => "no connection",
            Broken::Closed => "hung up",
            Broken::TimedOut => "no answer in time",
            Broken::Limit => "too long an answer",
            Broken::Garbled => "an answer that is not of the protocol",
            Broken::Tls => "no TLS",
        }
        .to_owned(),
    };
    match answer {
        Some(_) => format!("{said}, answered by the canary"),
        None => said,
    }
}
