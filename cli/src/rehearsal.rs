//! `ajar findings replay`: a finding's canary, for whoever repeats the finding by hand.
//!
//! It sends nothing itself: the command that it prints is run by a person, on any machine.

use std::sync::Arc;

use ajar_canary::Recorder;
use ajar_model::{Canary, Sighting};
use ajar_proto::v1;
use futures::future::{BoxFuture, FutureExt};

use crate::{
    args, canary,
    cluster::Cluster,
    exit::{Ended, OrRefuse, from_status, refuse},
    replay, results, stop,
};

pub async fn run(options: &args::FindingReplay) -> anyhow::Result<Ended> {
    let cluster = Cluster::read(&options.finding.source).await?;
    let (finding, observations) = results::named(&cluster, &options.finding).await?;
    let Some(command) = replay::command(&finding, &observations) else {
        return refuse(format_args!(
            "finding {} is {}: only open ones that a stock tool can repeat are replayed",
            finding.id,
            finding.verdict.as_str()
        ));
    };
    let id = finding.campaign.to_string();
    let got = cluster
        .coordinator()
        .campaigns()
        .get(v1::GetRequest { id })
        .await;
    let got = got.map_err(from_status)?.into_inner();
    let spec = got.campaign.and_then(|campaign| campaign.spec);
    let Some(named) = spec.and_then(|spec| spec.canary) else {
        return refuse(format_args!(
            "campaign {} names no canary",
            finding.campaign
        ));
    };
    let named = Canary::try_from(named)?;
    cluster.stop().await?;

    let stop = stop::on_signal();
    let domains: Vec<&str> = named.domains().collect();
    let service = canary::options(&options.canary, Some(&named), named.address, &domains, None)?;
    let started = ajar_canary::serve(service, Arc::new(Telling), stop.clone()).await;
    let running = started.map_err(|error| {
        format!(
            "{error}. If the campaign's own canary runs at {}, this one is not needed:\n  {command}",
            named.address
        )
    });
    let running = running.or_refuse()?;
    say(format_args!(
        "the canary of {} listens at {}; run this, here or elsewhere, and end it by Ctrl-C:\n  {command}\n\
         A proxy that is open shows a line that begins with \"ajar\". Mails that arrive are shown here:",
        finding.campaign, named.address
    ));
    running.join().await;
    Ok(Ended::Finished)
}

/// Shows mails, and stores none.
struct Telling;

impl Recorder for Telling {
    fn record(&self, sighting: Sighting) -> BoxFuture<'_, Result<(), String>> {
        say(format_args!(
            "a mail arrived from {} ({}) for {}",
            sighting.egress_ip,
            sighting.helo.clean(),
            sighting.rcpt_to.clean()
        ));
        async { Ok(()) }.boxed()
    }
}

#[expect(clippy::print_stdout, reason = "this is the command line")]
fn say(text: std::fmt::Arguments<'_>) {
    println!("{text}");
}
