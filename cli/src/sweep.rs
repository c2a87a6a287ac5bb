//! `ajar sweep`: discovery alone. It is a campaign at tier `connect`, in a store that nobody keeps.

use std::{
    io::{BufWriter, Write},
    net::{IpAddr, Ipv4Addr},
};

use ajar_model::{CampaignId, Canary, proof::CanaryKey};
use ed25519_dalek::SigningKey;
use serde::Serialize;
use ulid::Ulid;

use crate::{
    args,
    cluster::Cluster,
    exit::{Ended, unless_stopped},
    output,
    request::Request,
    scan, signers,
};

/// One result line.
#[derive(Serialize)]
struct Pair {
    ip: IpAddr,
    port: u16,
}

/// Runs it.
pub async fn run(options: args::Sweep) -> anyhow::Result<Ended> {
    let file = output::open(&options.output)?;
    let stop = scan::stop_on_signal();
    let signers = signers::follow(options.authorization.allowed_signers.as_deref())?;
    let accepted = signers.borrow().clone();
    let options = as_request(options);
    let reading = Request::read(&options, &accepted);
    let request = unless_stopped(&stop, reading).await?;
    let directory = tempfile::tempdir()?;
    let store = directory.path().join("sweep.db");
    let id = CampaignId(Ulid::new());
    let mut cluster = Cluster::start(&store.to_string_lossy(), signers.clone(), id).await?;
    let spec = request.with_canary(no_canary());
    scan::submit(&cluster.coordinator, id, &spec).await?;
    cluster.work(signers, Vec::new(), ajar_probe::Limits::default());
    scan::follow(&cluster.coordinator, id, &stop).await?;
    let mut out: Box<dyn Write + Send> = match file {
        Some(file) => {
            output::empty(&file)?;
            Box::new(BufWriter::new(file))
        }
        None => Box::new(BufWriter::new(std::io::stdout())),
    };
    scan::each_endpoint(&cluster.coordinator, Some(id), &[], |finding| {
        let pair = Pair {
            ip: finding.ip,
            port: finding.port,
        };
        serde_json::to_writer(&mut out, &pair)?;
        Ok(out.write_all(b"\n")?)
    })
    .await?;
    out.flush()?;
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
        sweep: options.sweep,
        tier: Some(args::Tier::Connect),
        authorization: options.authorization,
        canary: None,
        canary_domain: None,
        settle: 0,
    }
}

/// At tier `connect` nothing is ever sent to a canary.
fn no_canary() -> Canary {
    Canary {
        domain: String::new(),
        address: Ipv4Addr::UNSPECIFIED.into(),
        smtp: 0,
        http: 0,
        https: 0,
        raw: 0,
        key: CanaryKey::from(&SigningKey::from_bytes(&[0; 32])),
    }
}
