//! Campaigns that are run again and again: keeping their schedules, and starting what is due.

use ajar_model::{
    CampaignId, Plan, Schedule, Timestamp,
    schedule::{Due, GRACE, ScheduleName, Times},
};
use ajar_proto::{convert, trace, v1, v1::schedule_service_server::ScheduleService};
use ajar_store::{AuditEntry, Hold, Outcome, Ran, Run};
use tonic::{Request, Response, Status};
use ulid::Ulid;

use crate::{Coordinator, Drives, admit::NotAdmitted, caller, error, tenants::Tenants};

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ScheduleService for Coordinator {
    async fn put(
        &self,
        request: Request<v1::PutScheduleRequest>,
    ) -> Reply<v1::PutScheduleResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let wanted = request.into_inner().schedule.unwrap_or_default();
        let now = Timestamp::now();
        let schedule = Schedule {
            name: convert::parse("schedule.name", &wanted.name)?,
            times: Times::new(&wanted.cron, &wanted.time_zone).map_err(invalid)?,
            spec: convert::spec_in(wanted.spec)?,
            created_at: now,
            paused: false,
            handled: now,
        };
        self.check_tenant(&tenants, &schedule.spec.tenant, &caller)
            .await?;
        self.check_name(&tenants, &schedule.name).await?;
        let next = self.check_schedule(&schedule)?;
        let entry = entry(
            &caller,
            "schedule.put",
            format!("{}: {}, next at {next}", schedule.name, schedule.times),
        );
        let put = self.options.store.put_schedule(&schedule, &entry).await;
        put.map_err(error::store)?;
        Ok(Response::new(v1::PutScheduleResponse {
            next: Some(convert::time_out(next)),
        }))
    }

    async fn list(
        &self,
        request: Request<v1::ListSchedulesRequest>,
    ) -> Reply<v1::ListSchedulesResponse> {
        let listed = self.schedules_of(&caller::tenants(&request)).await?;
        let schedules = listed.into_iter().map(described).collect();
        Ok(Response::new(v1::ListSchedulesResponse { schedules }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveScheduleRequest>,
    ) -> Reply<v1::RemoveScheduleResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let name: ScheduleName = convert::parse("name", &request.into_inner().name)?;
        self.schedule_of(&tenants, &name).await?;
        let entry = entry(&caller, "schedule.remove", name.to_string());
        let removed = self.options.store.remove_schedule(&name, &entry).await;
        match removed.map_err(error::store)? {
            true => Ok(Response::new(v1::RemoveScheduleResponse {})),
            false => Err(no_schedule(&name)),
        }
    }

    async fn pause(
        &self,
        request: Request<v1::PauseScheduleRequest>,
    ) -> Reply<v1::PauseScheduleResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let name: ScheduleName = convert::parse("name", &request.into_inner().name)?;
        self.schedule_of(&tenants, &name).await?;
        self.hold(&name, true, &caller, "schedule.pause").await?;
        Ok(Response::new(v1::PauseScheduleResponse {}))
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeScheduleRequest>,
    ) -> Reply<v1::ResumeScheduleResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let name: ScheduleName = convert::parse("name", &request.into_inner().name)?;
        self.schedule_of(&tenants, &name).await?;
        self.hold(&name, false, &caller, "schedule.resume").await?;
        Ok(Response::new(v1::ResumeScheduleResponse {}))
    }
}

impl Coordinator {
    /// Starts the campaigns whose time has come.
    pub(crate) async fn start_due(&self) -> Result<(), Status> {
        if self.options.drives != Drives::Shared {
            return Ok(());
        }
        let schedules = self.options.store.schedules().await.map_err(error::store)?;
        for (schedule, _) in schedules {
            let now = Timestamp::now();
            match schedule.due(now) {
                Due::Nothing => {}
                Due::Run(at) => self.start(&schedule, at).await?,
                Due::Missed(at) => {
                    let missed = "no coordinator started it within an hour: none was there, or none accepts its authorization";
                    let handled = now.saturating_sub(GRACE).unwrap_or(at).max(at);
                    self.skip(&schedule, at, handled, missed).await?;
                }
            }
        }
        Ok(())
    }

    /// The schedules of these tenants, by name, and what became of their last times.
    async fn schedules_of(
        &self,
        tenants: &Tenants,
    ) -> Result<Vec<(Schedule, Option<Ran>)>, Status> {
        let schedules = self.options.store.schedules().await;
        let mut schedules = schedules.map_err(error::store)?;
        schedules.retain(|(schedule, _)| tenants.include(&schedule.spec.tenant));
        Ok(schedules)
    }

    /// Fails unless there is a schedule of this name, and of these tenants.
    async fn schedule_of(&self, tenants: &Tenants, name: &ScheduleName) -> Result<(), Status> {
        let schedules = self.schedules_of(tenants).await?;
        let mut names = schedules.iter().map(|(schedule, _)| &schedule.name);
        match names.any(|known| known == name) {
            true => Ok(()),
            false => Err(no_schedule(name)),
        }
    }

    /// Fails if the name is that of another tenant's schedule, whose place it would take.
    async fn check_name(&self, tenants: &Tenants, name: &ScheduleName) -> Result<(), Status> {
        let schedules = self.options.store.schedules().await;
        let schedules = schedules.map_err(error::store)?;
        let mut named = schedules.iter().filter(|(known, _)| known.name == *name);
        match named.all(|(known, _)| tenants.include(&known.spec.tenant)) {
            true => Ok(()),
            false => Err(Status::already_exists(format!(
                "the name {name} is taken: choose another one"
            ))),
        }
    }

    /// Refuses what could not run by now, or not at its next time, which is returned.
    fn check_schedule(&self, schedule: &Schedule) -> Result<Timestamp, Status> {
        if self.options.drives != Drives::Shared {
            let cause = "schedules need a coordinator that stays: start `ajar coordinator`";
            return Err(Status::failed_precondition(cause));
        }
        let (spec, next) = (&schedule.spec, schedule.times.next(schedule.handled));
        let next = next.map_err(invalid)?;
        self.check_shape(spec)?;
        Plan::of(CampaignId(Ulid::nil()), spec).map_err(invalid)?;
        let permission = self.permit(spec).map_err(NotAdmitted::from)?;
        match permission.authorization() {
            Some(authorization) if authorization.not_after <= next => {
                Err(Status::permission_denied(format!(
                    "the authorization ends at {}, before the first run at {next}: sign one that holds longer",
                    authorization.not_after
                )))
            }
            _ => Ok(next),
        }
    }

    async fn hold(
        &self,
        name: &ScheduleName,
        paused: bool,
        caller: &str,
        action: &str,
    ) -> Result<(), Status> {
        let hold = Hold {
            name,
            paused,
            now: Timestamp::now(),
            audit: &entry(caller, action, format!("schedule {name}")),
        };
        match self.options.store.hold_schedule(&hold).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(no_schedule(name)),
            Err(error) => Err(error::store(error)),
        }
    }

    async fn start(&self, schedule: &Schedule, at: Timestamp) -> Result<(), Status> {
        let (name, mut spec) = (&schedule.name, schedule.spec.clone());
        spec.traceparent = trace::current();
        let id = CampaignId(Ulid::new());
        let admitted = match self.admitted(id, spec, &format!("schedule {name}")) {
            Ok(admitted) => admitted,
            // Another coordinator may accept it, or this one in a minute.
            Err(NotAdmitted::Here(cause)) => {
                tracing::debug!(schedule = %name, %cause, "a schedule's authorization is not accepted here");
                return Ok(());
            }
            Err(NotAdmitted::Anywhere(status)) => {
                return self.skip(schedule, at, at, status.message()).await;
            }
        };
        let run = Run {
            schedule: name,
            at,
            handled: at,
            campaign: Ok(&admitted.admission()),
            skipped: &skipped(name, at),
        };
        let outcome = match self.options.store.run_scheduled(&run).await {
            // Another try would not mend it, and would keep the schedules after this one waiting.
            Err(error) if !error.is_transient() => {
                return self.skip(schedule, at, at, &error.to_string()).await;
            }
            outcome => outcome.map_err(error::store)?,
        };
        match outcome {
            Some(Outcome::Started(id)) => {
                count("started");
                tracing::info!(schedule = %name, campaign = %id, "a schedule started a campaign");
                self.offer_admitted(&admitted).await;
            }
            Some(Outcome::Skipped(cause)) => warn(name, &cause),
            // Another coordinator was first.
            None => {}
        }
        Ok(())
    }

    async fn skip(
        &self,
        schedule: &Schedule,
        at: Timestamp,
        handled: Timestamp,
        cause: &str,
    ) -> Result<(), Status> {
        let run = Run {
            schedule: &schedule.name,
            at,
            handled,
            campaign: Err(cause),
            skipped: &skipped(&schedule.name, at),
        };
        let outcome = self.options.store.run_scheduled(&run).await;
        if outcome.map_err(error::store)?.is_some() {
            warn(&schedule.name, cause);
        }
        Ok(())
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("ajar_scheduled_runs_total", "outcome" => outcome).increment(1);
}

fn warn(schedule: &ScheduleName, cause: &str) {
    count("left_out");
    tracing::warn!(%schedule, cause, "a schedule started no campaign");
}

fn described((schedule, last): (Schedule, Option<Ran>)) -> v1::Schedule {
    let next = schedule.times.next(Timestamp::now());
    v1::Schedule {
        name: schedule.name.to_string(),
        cron: schedule.times.cron().to_owned(),
        time_zone: schedule.times.time_zone().to_owned(),
        spec: Some((&schedule.spec).into()),
        paused: schedule.paused,
        next: next.ok().map(convert::time_out),
        last: last.map(|ran| {
            let (campaign, cause) = match ran.outcome {
                Outcome::Started(id) => (id.to_string(), String::new()),
                Outcome::Skipped(cause) => (String::new(), cause),
            };
            v1::ScheduledRun {
                at: Some(convert::time_out(ran.at)),
                campaign,
                cause,
            }
        }),
    }
}

fn entry(actor: &str, action: &str, detail: String) -> AuditEntry {
    AuditEntry {
        at: Timestamp::now(),
        actor: actor.to_owned(),
        action: action.to_owned(),
        authorization: None,
        campaign: None,
        detail,
    }
}

/// The entry of a time at which nothing was started; the store adds why.
fn skipped(name: &ScheduleName, at: Timestamp) -> AuditEntry {
    entry("coordinator", "schedule.skip", format!("{name} at {at}"))
}

fn invalid(cause: impl std::fmt::Display) -> Status {
    Status::invalid_argument(cause.to_string())
}

fn no_schedule(name: &ScheduleName) -> Status {
    Status::not_found(format!(
        "there is no schedule {name}; `ajar schedule list` shows those that exist"
    ))
}
