//! Schedules, and what became of their times.

use ajar_model::{
    CampaignId, Schedule, Timestamp,
    campaign::State,
    schedule::{ScheduleName, Times},
};
use async_trait::async_trait;

use super::Tx;
use crate::{
    Error,
    columns::{At, Document},
    rows::ScheduleRows,
    schedules::{Outcome, Ran},
    stored,
};

const SCHEDULES: &str = "SELECT s.name, s.cron, s.time_zone, s.spec, s.created_at, s.paused, s.handled_at, \
    r.at, r.campaign, r.cause FROM schedules s LEFT JOIN scheduled_runs r ON r.schedule = s.name \
    AND r.at = (SELECT max(at) FROM scheduled_runs WHERE schedule = s.name) ORDER BY s.name";

type ScheduleColumns = (
    String,
    String,
    String,
    Document,
    At,
    bool,
    At,
    Option<At>,
    Option<String>,
    Option<String>,
);

#[async_trait]
impl ScheduleRows for Tx {
    async fn put_schedule(&mut self, schedule: &Schedule) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO schedules (name, cron, time_zone, spec, created_at, paused, handled_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO UPDATE SET \
             cron = excluded.cron, time_zone = excluded.time_zone, spec = excluded.spec, \
             handled_at = excluded.handled_at",
        )
        .bind(schedule.name.to_string())
        .bind(schedule.times.cron())
        .bind(schedule.times.time_zone())
        .bind(Document(stored::to_json(
            "a schedule's spec",
            &schedule.spec,
        )?))
        .bind(At(schedule.created_at))
        .bind(schedule.paused)
        .bind(At(schedule.handled))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn schedules(&mut self) -> Result<Vec<(Schedule, Option<Ran>)>, Error> {
        let rows: Vec<ScheduleColumns> = sqlx::query_as(SCHEDULES).fetch_all(&mut *self.0).await?;
        rows.into_iter().map(schedule).collect()
    }

    async fn hold_schedule(
        &mut self,
        name: &ScheduleName,
        paused: bool,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let done = sqlx::query(
            "UPDATE schedules SET paused = $2, \
             handled_at = CASE WHEN handled_at > $3 THEN handled_at ELSE $3 END WHERE name = $1",
        )
        .bind(name.to_string())
        .bind(paused)
        .bind(At(now))
        .execute(&mut *self.0)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn delete_schedule(&mut self, name: &ScheduleName) -> Result<bool, Error> {
        let done = sqlx::query("DELETE FROM schedules WHERE name = $1")
            .bind(name.to_string())
            .execute(&mut *self.0)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn lock_schedule(
        &mut self,
        name: &ScheduleName,
    ) -> Result<Option<(bool, Timestamp)>, Error> {
        let locked = row_lock!(
            "SELECT paused, handled_at FROM schedules WHERE name = $1",
            "FOR UPDATE"
        );
        let row: Option<(bool, At)> = sqlx::query_as(locked)
            .bind(name.to_string())
            .fetch_optional(&mut *self.0)
            .await?;
        Ok(row.map(|(paused, handled)| (paused, handled.0)))
    }

    async fn last_campaign(
        &mut self,
        name: &ScheduleName,
    ) -> Result<Option<(CampaignId, State)>, Error> {
        let row: Option<(String, String)> = sqlx::query_as(
            "SELECT c.id, c.state FROM scheduled_runs r JOIN campaigns c ON c.id = r.campaign \
             WHERE r.schedule = $1 ORDER BY r.at DESC LIMIT 1",
        )
        .bind(name.to_string())
        .fetch_optional(&mut *self.0)
        .await?;
        row.map(|(id, state)| {
            Ok((
                stored::parsed("a campaign's id", &id)?,
                stored::parsed("a campaign's state", &state)?,
            ))
        })
        .transpose()
    }

    async fn put_run(
        &mut self,
        name: &ScheduleName,
        ran: &Ran,
        handled: Timestamp,
    ) -> Result<(), Error> {
        let (campaign, cause) = match &ran.outcome {
            Outcome::Started(campaign) => (Some(campaign.to_string()), None),
            Outcome::Skipped(cause) => (None, Some(cause)),
        };
        sqlx::query(
            "INSERT INTO scheduled_runs (schedule, at, campaign, cause) VALUES ($1, $2, $3, $4)",
        )
        .bind(name.to_string())
        .bind(At(ran.at))
        .bind(campaign)
        .bind(cause)
        .execute(&mut *self.0)
        .await?;
        sqlx::query("UPDATE schedules SET handled_at = $2 WHERE name = $1")
            .bind(name.to_string())
            .bind(At(handled))
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }
}

fn schedule(columns: ScheduleColumns) -> Result<(Schedule, Option<Ran>), Error> {
    let (name, cron, time_zone, spec, created_at, paused, handled, ran_at, campaign, cause) =
        columns;
    let schedule = Schedule {
        name: stored::parsed("a schedule's name", &name)?,
        times: Times::new(&cron, &time_zone)
            .map_err(|cause| stored::corrupt("a schedule", cause))?,
        spec: stored::from_json("a schedule's spec", &spec.0)?,
        created_at: created_at.0,
        paused,
        handled: handled.0,
    };
    let outcome = match campaign {
        Some(id) => Outcome::Started(stored::parsed("a campaign's id", &id)?),
        None => Outcome::Skipped(cause.unwrap_or_default()),
    };
    let ran = ran_at.map(|at| Ran { at: at.0, outcome });
    Ok((schedule, ran))
}
