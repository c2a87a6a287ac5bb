//! `ajar schedule …`: campaigns that a cluster runs again and again.

use std::io::Write;

use ajar_proto::{convert, dial, v1};

use crate::{
    args, canary, connect,
    exit::{Ended, from_status},
    request::Request,
    stop::{self, unless_stopped},
};

pub async fn run(command: args::Schedule) -> anyhow::Result<Ended> {
    match command {
        args::Schedule::Put(options) => return put(*options).await,
        args::Schedule::List(remote) => return list(&connect::to(&remote)?).await,
        args::Schedule::Pause(one) => {
            let request = v1::PauseScheduleRequest {
                name: one.name,
                tenant: one.tenant.unwrap_or_default(),
            };
            let paused = connect::to(&one.remote)?.schedules().pause(request).await;
            paused.map_err(from_status)?;
        }
        args::Schedule::Resume(one) => {
            let request = v1::ResumeScheduleRequest {
                name: one.name,
                tenant: one.tenant.unwrap_or_default(),
            };
            let resumed = connect::to(&one.remote)?.schedules().resume(request).await;
            resumed.map_err(from_status)?;
        }
        args::Schedule::Remove(one) => {
            let request = v1::RemoveScheduleRequest {
                name: one.name,
                tenant: one.tenant.unwrap_or_default(),
            };
            let removed = connect::to(&one.remote)?.schedules().remove(request).await;
            removed.map_err(from_status)?;
        }
    }
    Ok(Ended::Finished)
}

#[tracing::instrument(name = "schedule put", skip_all)]
async fn put(options: args::SchedulePut) -> anyhow::Result<Ended> {
    let (stop, coordinator) = (stop::on_signal(), connect::to(&options.remote)?);
    let putting = async {
        let request = Request::read(&options.request).await?;
        let canary = canary::registered(&coordinator, &options.request).await?;
        let schedule = v1::Schedule {
            name: options.name,
            cron: options.cron,
            time_zone: options.time_zone,
            spec: Some((&request.with_canary(canary)).into()),
            ..Default::default()
        };
        let request = v1::PutScheduleRequest {
            schedule: Some(schedule),
        };
        let put = coordinator.schedules().put(request).await;
        Ok(put.map_err(from_status)?.into_inner())
    };
    let put = unless_stopped(&stop, putting).await?;
    let next = convert::time_in("next", put.next)?;
    writeln!(std::io::stdout(), "next at {next}")?;
    Ok(Ended::Finished)
}

async fn list(coordinator: &dial::Coordinator) -> anyhow::Result<Ended> {
    let listed = coordinator
        .schedules()
        .list(v1::ListSchedulesRequest {})
        .await
        .map_err(from_status)?;
    let mut out = std::io::stdout().lock();
    for schedule in listed.into_inner().schedules {
        let v1::Schedule {
            name,
            tenant,
            cron,
            time_zone,
            unreadable,
            ..
        } = &schedule;
        let next = match (schedule.paused, schedule.next) {
            (true, _) => "paused".to_owned(),
            (false, _) if !unreadable.is_empty() => format!("cannot run: {unreadable}"),
            (false, None) => "no further time".to_owned(),
            (false, next) => format!("next at {}", convert::time_in("next", next)?),
        };
        let last = match &schedule.last {
            None => "has not run".to_owned(),
            Some(ran) => {
                let at = convert::time_in("last.at", ran.at)?;
                match ran.campaign.as_str() {
                    "" => format!("left out at {at}: {}", ran.cause),
                    campaign => format!("campaign {campaign} at {at}"),
                }
            }
        };
        writeln!(out, "{name}  {tenant}  {cron} {time_zone}  {next}  {last}")?;
    }
    Ok(Ended::Finished)
}
