//! `ajar exclude …`: addresses that get no packet, whatever campaigns name them.

use std::io::Write;

use ajar_proto::{convert, dial, v1};

use crate::{
    args, connect,
    exit::{Ended, from_status},
};

pub async fn run(command: args::Exclude) -> anyhow::Result<Ended> {
    match command {
        args::Exclude::Add(options) => add(options).await,
        args::Exclude::List(options) => list(&connect::to(&options.remote)?, options.all).await,
        args::Exclude::Remove(options) => {
            let request = v1::RemoveExclusionRequest { id: options.id };
            let client = &mut connect::to(&options.remote)?.exclusions();
            client.remove(request).await.map_err(from_status)?;
            Ok(Ended::Finished)
        }
    }
}

async fn add(options: args::ExcludeAdd) -> anyhow::Result<Ended> {
    let request = v1::AddExclusionsRequest {
        targets: options.target.iter().map(ToString::to_string).collect(),
        reason: options.reason,
        tenant: options.tenant.unwrap_or_default(),
        lasts: options.lasts.map(|lasts| {
            let seconds = std::time::Duration::from_secs(lasts.into());
            convert::duration_out(seconds)
        }),
    };
    let client = &mut connect::to(&options.remote)?.exclusions();
    let added = client.add(request).await.map_err(from_status)?;
    for id in added.into_inner().ids {
        writeln!(std::io::stdout(), "{id}")?;
    }
    Ok(Ended::Finished)
}

async fn list(coordinator: &dial::Coordinator, all: bool) -> anyhow::Result<Ended> {
    let mut out = std::io::stdout();
    let mut after = String::new();
    loop {
        let request = v1::ListExclusionsRequest { all, after };
        let listed = coordinator.exclusions().list(request).await;
        let exclusions = listed.map_err(from_status)?.into_inner().exclusions;
        for exclusion in &exclusions {
            writeln!(out, "{}", line(exclusion)?)?;
        }
        match exclusions.into_iter().last() {
            Some(last) => after = last.id,
            None => return Ok(Ended::Finished),
        }
    }
}

fn line(exclusion: &v1::Exclusion) -> anyhow::Result<String> {
    let v1::Exclusion {
        id,
        tenant,
        target,
        reason,
        by,
        ..
    } = exclusion;
    let tenant = match tenant.as_str() {
        "" => "all tenants",
        tenant => tenant,
    };
    let end = match (exclusion.removed_at, exclusion.expires_at) {
        (Some(at), _) => format!("over since {}", convert::time_in("removed_at", Some(at))?),
        (None, Some(at)) => format!("until {}", convert::time_in("expires_at", Some(at))?),
        (None, None) => "in force".to_owned(),
    };
    Ok(format!("{id}  {target}  {tenant}  {end}  {by}: {reason}"))
}
