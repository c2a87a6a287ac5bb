//! Campaigns that are run again and again: keeping their schedules, and starting what is due.

use std::time::Duration;

use ajar_model::{
    CampaignId, Plan, Schedule, Timestamp,
    schedule::{Due, GRACE, ScheduleName, Times},
};
use ajar_proto::{convert, trace, v1, v1::schedule_service_server::ScheduleService};
use ajar_store::{AuditEntry, Hold, ListedSchedule, Outcome, Run, ScheduleKey, ScheduleQuery};
use tonic::{Code, Request, Response, Status};
use ulid::Ulid;

use crate::{
    Coordinator, Drives, admit::NotAdmitted, audit::entry, caller, error, tenants::Tenants,
};

/// How long a schedule that cannot be run is left alone.
const LATER: Duration = Duration::from_secs(60);

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
        let query = ScheduleQuery {
            tenants: caller::tenants(&request).names(),
            ..ScheduleQuery::default()
        };
        let listed = self.options.store.schedules(&query).await;
        let schedules = listed.map_err(error::store)?.into_iter().map(described);
        Ok(Response::new(v1::ListSchedulesResponse {
            schedules: schedules.collect(),
        }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveScheduleRequest>,
    ) -> Reply<v1::RemoveScheduleResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let request = request.into_inner();
        let key = self
            .schedule_of(&tenants, &request.name, &request.tenant)
            .await?;
        let entry = entry(&caller, "schedule.remove", key.name.to_string());
        let removed = self.options.store.remove_schedule(&key, &entry).await;
        if removed.map_err(error::store)? {
            Ok(Response::new(v1::RemoveScheduleResponse {}))
        } else {
            Err(no_schedule(&key.name))
        }
    }

    async fn pause(
        &self,
        request: Request<v1::PauseScheduleRequest>,
    ) -> Reply<v1::PauseScheduleResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let request = request.into_inner();
        let key = self
            .schedule_of(&tenants, &request.name, &request.tenant)
            .await?;
        self.hold(&key, true, &caller, "schedule.pause").await?;
        Ok(Response::new(v1::PauseScheduleResponse {}))
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeScheduleRequest>,
    ) -> Reply<v1::ResumeScheduleResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let request = request.into_inner();
        let key = self
            .schedule_of(&tenants, &request.name, &request.tenant)
            .await?;
        self.hold(&key, false, &caller, "schedule.resume").await?;
        Ok(Response::new(v1::ResumeScheduleResponse {}))
    }
}

impl Coordinator {
    /// Starts the campaigns whose time has come. What is wrong with one schedule is not the others'
    /// fault.
    pub(crate) async fn start_due(&self) -> Result<(), Status> {
        if self.options.drives != Drives::Shared {
            return Ok(());
        }
        let query = ScheduleQuery {
            due: true,
            ..ScheduleQuery::default()
        };
        let due = self.options.store.schedules(&query).await;
        for listed in due.map_err(error::store)? {
            match self.start_or_wait(&listed).await {
                Err(status) if status.code() == Code::Unavailable => return Err(status),
                Err(status) => {
                    let what = format!("schedule {} of {}", listed.key.name, listed.key.tenant);
                    self.troubles.log(&what, status.message());
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    async fn start_or_wait(&self, listed: &ListedSchedule) -> Result<(), Status> {
        let now = self.clock.now();
        let ListedSchedule { key, handled, .. } = listed;
        let schedule = match &listed.schedule {
            Ok(schedule) => schedule,
            Err(cause) => {
                self.look_again(key, *handled, later(now)).await?;
                return Err(Status::internal(cause.clone()));
            }
        };
        match schedule.due(now) {
            Due::Nothing => {
                // A schedule without a next time is looked at again: a new time-zone database may have one.
                let next = schedule.times.next(*handled);
                self.look_again(key, *handled, next.unwrap_or(later(now)))
                    .await
            }
            Due::Run(at) => self.start(schedule, key, at).await,
            Due::Missed(at) => {
                let missed = "no coordinator started it within an hour: none was there, or none accepts its authorization";
                let handled = now.saturating_sub(GRACE).unwrap_or(at).max(at);
                self.skip(key, at, handled, missed).await
            }
        }
    }

    async fn look_again(
        &self,
        key: &ScheduleKey,
        handled: Timestamp,
        next: Timestamp,
    ) -> Result<(), Status> {
        let looked = self.options.store.look_again(key, handled, next).await;
        looked.map_err(error::store)
    }

    /// Returns the schedule of this name, and of this tenant if one is named, among those of these
    /// tenants.
    async fn schedule_of(
        &self,
        tenants: &Tenants,
        name: &str,
        tenant: &str,
    ) -> Result<ScheduleKey, Status> {
        let name: ScheduleName = convert::parse("name", name)?;
        let query = ScheduleQuery {
            tenants: tenants.names(),
            name: Some(name.clone()),
            due: false,
        };
        let found = self.options.store.schedules(&query).await;
        let found = found.map_err(error::store)?.into_iter();
        let mut found = found
            .map(|listed| listed.key)
            .filter(|key| tenant.is_empty() || key.tenant == tenant);
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only),
            (Some(one), Some(other)) => Err(Status::failed_precondition(format!(
                "tenants {} and {} have a schedule {name}: name one with --tenant",
                one.tenant, other.tenant
            ))),
            (None, _) => Err(no_schedule(&name)),
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
        key: &ScheduleKey,
        paused: bool,
        caller: &str,
        action: &str,
    ) -> Result<(), Status> {
        let hold = Hold {
            key,
            paused,
            now: self.clock.now(),
            audit: &entry(caller, action, format!("schedule {}", key.name)),
        };
        let held = self.options.store.hold_schedule(&hold).await;
        if held.map_err(error::store)? {
            Ok(())
        } else {
            Err(no_schedule(&key.name))
        }
    }

    async fn start(
        &self,
        schedule: &Schedule,
        key: &ScheduleKey,
        at: Timestamp,
    ) -> Result<(), Status> {
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
                return self.skip(key, at, at, status.message()).await;
            }
        };
        let run = Run {
            key,
            at,
            handled: at,
            campaign: Ok(&admitted.admission()),
            skipped: &skipped(name, at),
        };
        let outcome = match self.options.store.run_scheduled(&run).await {
            // Another try would not mend it, and would keep the schedules after this one waiting.
            Err(error) if !error.is_transient() => {
                return self.skip(key, at, at, &error.to_string()).await;
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
        key: &ScheduleKey,
        at: Timestamp,
        handled: Timestamp,
        cause: &str,
    ) -> Result<(), Status> {
        let run = Run {
            key,
            at,
            handled,
            campaign: Err(cause),
            skipped: &skipped(&key.name, at),
        };
        let outcome = self.options.store.run_scheduled(&run).await;
        if outcome.map_err(error::store)?.is_some() {
            warn(&key.name, cause);
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

fn described(listed: ListedSchedule) -> v1::Schedule {
    let schedule = listed.schedule.as_ref().ok();
    let next = schedule.and_then(|schedule| schedule.times.next(Timestamp::now()).ok());
    v1::Schedule {
        name: listed.key.name.to_string(),
        tenant: listed.key.tenant,
        spec: schedule.map(|schedule| (&schedule.spec).into()),
        cron: listed.cron,
        time_zone: listed.time_zone,
        paused: listed.paused,
        next: next.map(convert::time_out),
        last: listed.last.map(|ran| {
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
        unreadable: listed.schedule.err().unwrap_or_default(),
    }
}

/// When a schedule is looked at again that cannot be run.
fn later(now: Timestamp) -> Timestamp {
    now.saturating_add(LATER).unwrap_or(Timestamp::MAX)
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
