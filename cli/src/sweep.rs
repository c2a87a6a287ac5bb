//! `ajar sweep`: discovery alone. It is a campaign at tier `connect`, in a store that nobody keeps.

use std::{
    io::{BufWriter, Write},
    net::IpAddr,
};

use ajar_model::{Effort, Tier};
use ajar_probe::Limits;
use ajar_store::Access;
use serde::Serialize;

use crate::{
    args,
    exit::{Ended, OrRefuse},
    local::LocalCluster,
    output,
    progress::Of,
    request::Request,
    run::{self, Run},
    signers,
    stop::{self, unless_stopped},
};

#[derive(Serialize)]
struct Pair {
    ip: IpAddr,
    port: u16,
}

pub async fn run(options: args::Sweep) -> anyhow::Result<Ended> {
    let file = output::open(&options.output)?;
    let stop = stop::on_signal();
    let signers = signers::follow(options.authorization.allowed_signers.as_deref())?;
    let options = as_request(options);
    let reading = Request::read(&options);
    let request = unless_stopped(&stop, reading).await?;
    ajar_worker::check(options.discovery.sweep).or_refuse()?;
    let directory = tempfile::tempdir()?;
    let store = directory.path().join("sweep.db");
    let id = run::new_id();
    let mut cluster = LocalCluster::start(
        &store.to_string_lossy(),
        signers.clone(),
        id,
        Access::Scratch,
    )
    .await?;
    let run = Run::new(&cluster.coordinator, id).showing(Of::Sweep);
    run.submit(&request.without_canary()).await?;
    cluster.work(signers, Limits::default(), args::Standpoint::default());
    run.follow(&stop).await?;
    let mut out: Box<dyn Write + Send> = match file {
        Some(file) => {
            output::empty(&file)?;
            Box::new(BufWriter::new(file))
        }
        None => Box::new(BufWriter::new(std::io::stdout())),
    };
    run.results(|finding| {
        let pair = Pair {
            ip: finding.ip,
            port: finding.port,
        };
        serde_json::to_writer(&mut out, &pair)?;
        Ok(out.write_all(b"\n")?)
    })
    .await?;
    out.flush()?;
    run.tell_mute().await?;
    cluster.stop().await?;
    Ok(match stop.is_cancelled() {
        true => Ended::Interrupted,
        false => Ended::Finished,
    })
}

fn as_request(options: args::Sweep) -> args::Request {
    args::Request {
        targets: options.targets,
        probes: vec!["all".to_owned()],
        rates: options.rates,
        discovery: options.discovery,
        tier: Some(Tier::Connect),
        effort: Effort::Normal,
        authorization: options.authorization,
        canary: None,
        canary_domain: Vec::new(),
        settle: 0,
        revisits: 0,
        revisit_after: 0,
        confirm_after: args::Wait(None),
    }
}
