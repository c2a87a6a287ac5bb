//! `ajar workers` and `ajar canaries`: who is there in a cluster.

use std::io::Write;

use ajar_model::{Canary, Timestamp};
use ajar_proto::{convert, v1};
use comfy_table::{Table, presets};
use ulid::Ulid;

use crate::{
    args, connect,
    exit::{Ended, from_status},
    output::table::minute,
};

/// A canary that was not heard of for so long is gone.
const GONE_SECS: i64 = 75;

pub async fn workers(remote: &args::Remote) -> anyhow::Result<Ended> {
    let mut client = connect::to(remote)?.fleet();
    let listed = client.list_workers(v1::ListWorkersRequest {});
    let workers = listed.await.map_err(from_status)?.into_inner().workers;
    let mut table = table(&["VANTAGE", "WORKER", "SINCE", "DOES"]);
    for worker in &workers {
        let mut does: Vec<String> = worker.leases.iter().map(held).collect();
        let troubles = worker.troubles.iter();
        does.extend(troubles.map(|trouble| format!("{}: {}", trouble.campaign, trouble.cause)));
        if does.is_empty() {
            does.push("waits for work".to_owned());
        }
        let since = started(&worker.name).map_or_else(|| "?".to_owned(), minute);
        table.add_row([&worker.vantage, &worker.name, &since, &does.join("\n")]);
    }
    print(
        &table,
        "no worker is there: start one with `ajar worker --coordinator URL`",
    )
}

pub async fn canaries(remote: &args::Remote) -> anyhow::Result<Ended> {
    let mut client = connect::to(remote)?.fleet();
    let listed = client.list_canaries(v1::ListFleetCanariesRequest {});
    let canaries = listed.await.map_err(from_status)?.into_inner().canaries;
    let mut table = table(&["ADDRESS", "PORTS", "MAIL DOMAINS", "SINCE", "STATE"]);
    for listed in canaries {
        let Some(canary) = listed.canary else {
            continue;
        };
        let canary = Canary::try_from(canary)?;
        let time = |field, time: Option<_>| time.map(|time| convert::time_in(field, Some(time)));
        let first_seen = time("first_seen", listed.first_seen).transpose()?;
        let last_seen = time("last_seen", listed.last_seen).transpose()?;
        let state = match last_seen {
            None => "not known: registered by an older version".to_owned(),
            Some(at) if Timestamp::now().as_second() - at.as_second() > GONE_SECS => {
                format!("gone, last heard of at {}", minute(at))
            }
            Some(_) => "ready".to_owned(),
        };
        let Canary {
            smtp,
            http,
            https,
            raw,
            ..
        } = canary;
        table.add_row([
            canary.address.to_string(),
            format!("{smtp},{http},{https},{raw}"),
            canary.domains().collect::<Vec<_>>().join(" "),
            first_seen.map_or_else(|| "?".to_owned(), minute),
            state,
        ]);
    }
    print(
        &table,
        "no canary was ever registered: start one with `ajar canary --coordinator URL`",
    )
}

fn held(leases: &v1::WorkerLeases) -> String {
    let noun = if leases.leases == 1 {
        "lease"
    } else {
        "leases"
    };
    let v1::WorkerLeases {
        campaign,
        leases,
        rate,
    } = leases;
    format!("{campaign}: {leases} {noun}, {rate}/s")
}

/// When a worker started: its name says so.
fn started(name: &str) -> Option<Timestamp> {
    let ulid = Ulid::from_string(name.rsplit_once('-')?.1).ok()?;
    Timestamp::from_millisecond(i64::try_from(ulid.timestamp_ms()).ok()?).ok()
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}

fn print(table: &Table, none: &str) -> anyhow::Result<Ended> {
    let mut out = std::io::stdout().lock();
    match table.row_count() {
        0 => writeln!(out, "{none}")?,
        _ => {
            for line in table.lines() {
                writeln!(out, "{}", line.trim_end())?;
            }
        }
    }
    Ok(Ended::Finished)
}
