//! Schedules, and what became of their times.

use ajar_model::{CampaignId, Schedule, Timestamp, campaign::State, schedule::Times};
use async_trait::async_trait;
use sqlx::{QueryBuilder, Row};

use super::{DatabaseRow, Tx};
use crate::{
    Error,
    columns::{At, Document},
    rows::ScheduleRows,
    schedules::{ListedSchedule, Outcome, Ran, ScheduleKey, ScheduleQuery},
    stored,
};

const SCHEDULES: &str = "SELECT s.tenant, s.name, s.cron, s.time_zone, s.spec, s.created_at, s.paused, \
    s.handled_at, r.at, r.campaign, r.cause FROM schedules s LEFT JOIN scheduled_runs r \
    ON r.tenant = s.tenant AND r.schedule = s.name AND r.at = \
    (SELECT max(at) FROM scheduled_runs WHERE tenant = s.tenant AND schedule = s.name) WHERE true";

#[async_trait]
impl ScheduleRows for Tx {
    async fn put_schedule(&mut self, schedule: &Schedule) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO schedules (tenant, name, cron, time_zone, spec, created_at, paused, handled_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant, name) DO UPDATE SET \
             cron = excluded.cron, time_zone = excluded.time_zone, spec = excluded.spec, \
             handled_at = excluded.handled_at, next_at = NULL",
        )
        .bind(&schedule.spec.tenant)
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

    async fn schedules(
        &mut self,
        query: &ScheduleQuery,
        now: Timestamp,
    ) -> Result<Vec<ListedSchedule>, Error> {
        let mut sql = QueryBuilder::new(SCHEDULES);
        if let Some(tenants) = &query.tenants {
            let mut list = sql.push(" AND s.tenant IN (").separated(", ");
            for tenant in tenants {
                list.push_bind(tenant);
            }
            sql.push(")");
        }
        if let Some(name) = &query.name {
            sql.push(" AND s.name = ").push_bind(name.to_string());
        }
        if query.due {
            sql.push(" AND NOT s.paused AND (s.next_at IS NULL OR s.next_at <= ")
                .push_bind(At(now))
                .push(")");
        }
        sql.push(" ORDER BY s.tenant, s.name");
        let rows = sql.build().fetch_all(&mut *self.0).await?;
        rows.iter().map(listed).collect()
    }

    async fn put_next(
        &mut self,
        key: &ScheduleKey,
        handled: Timestamp,
        next: Timestamp,
    ) -> Result<(), Error> {
        sqlx::query(
            "UPDATE schedules SET next_at = $4 \
             WHERE tenant = $1 AND name = $2 AND handled_at = $3",
        )
        .bind(&key.tenant)
        .bind(key.name.to_string())
        .bind(At(handled))
        .bind(At(next))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn hold_schedule(
        &mut self,
        key: &ScheduleKey,
        paused: bool,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let done = sqlx::query(
            "UPDATE schedules SET paused = $3, next_at = NULL, \
             handled_at = CASE WHEN handled_at > $4 THEN handled_at ELSE $4 END \
             WHERE tenant = $1 AND name = $2",
        )
        .bind(&key.tenant)
        .bind(key.name.to_string())
        .bind(paused)
        .bind(At(now))
        .execute(&mut *self.0)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn delete_schedule(&mut self, key: &ScheduleKey) -> Result<bool, Error> {
        let done = sqlx::query("DELETE FROM schedules WHERE tenant = $1 AND name = $2")
            .bind(&key.tenant)
            .bind(key.name.to_string())
            .execute(&mut *self.0)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn lock_schedule(
        &mut self,
        key: &ScheduleKey,
    ) -> Result<Option<(bool, Timestamp)>, Error> {
        let locked = row_lock!(
            "SELECT paused, handled_at FROM schedules WHERE tenant = $1 AND name = $2",
            "FOR UPDATE"
        );
        let row: Option<(bool, At)> = sqlx::query_as(locked)
            .bind(&key.tenant)
            .bind(key.name.to_string())
            .fetch_optional(&mut *self.0)
            .await?;
        Ok(row.map(|(paused, handled)| (paused, handled.0)))
    }

    async fn last_campaign(
        &mut self,
        key: &ScheduleKey,
    ) -> Result<Option<(CampaignId, State)>, Error> {
        let row: Option<(String, String)> = sqlx::query_as(
            "SELECT c.id, c.state FROM scheduled_runs r JOIN campaigns c ON c.id = r.campaign \
             WHERE r.tenant = $1 AND r.schedule = $2 ORDER BY r.at DESC LIMIT 1",
        )
        .bind(&key.tenant)
        .bind(key.name.to_string())
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
        key: &ScheduleKey,
        ran: &Ran,
        handled: Timestamp,
    ) -> Result<(), Error> {
        let (campaign, cause) = match &ran.outcome {
            Outcome::Started(campaign) => (Some(campaign.to_string()), None),
            Outcome::Skipped(cause) => (None, Some(cause)),
        };
        sqlx::query(
            "INSERT INTO scheduled_runs (tenant, schedule, at, campaign, cause) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&key.tenant)
        .bind(key.name.to_string())
        .bind(At(ran.at))
        .bind(campaign)
        .bind(cause)
        .execute(&mut *self.0)
        .await?;
        sqlx::query(
            "UPDATE schedules SET handled_at = $3, next_at = NULL WHERE tenant = $1 AND name = $2",
        )
        .bind(&key.tenant)
        .bind(key.name.to_string())
        .bind(At(handled))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }
}

fn listed(row: &DatabaseRow) -> Result<ListedSchedule, Error> {
    let text = |at: usize| row.try_get::<String, _>(at);
    let key = ScheduleKey {
        tenant: text(0)?,
        name: stored::parsed("a schedule's name", &text(1)?)?,
    };
    let (cron, time_zone, paused) = (text(2)?, text(3)?, row.try_get(6)?);
    let spec: Document = row.try_get(4)?;
    let (created_at, handled): (At, At) = (row.try_get(5)?, row.try_get(7)?);
    let read = || {
        Ok(Schedule {
            name: key.name.clone(),
            times: Times::new(&cron, &time_zone)
                .map_err(|cause| stored::corrupt("a schedule", cause))?,
            spec: stored::from_json("a schedule's spec", &spec.0)?,
            created_at: created_at.0,
            paused,
            handled: handled.0,
        })
    };
    let schedule = read().map_err(|error: Error| error.to_string());
    let last = match row.try_get::<Option<At>, _>(8)? {
        None => None,
        Some(at) => Some(Ran {
            at: at.0,
            outcome: match row.try_get::<Option<String>, _>(9)? {
                Some(id) => Outcome::Started(stored::parsed("a campaign's id", &id)?),
                None => Outcome::Skipped(row.try_get::<Option<String>, _>(10)?.unwrap_or_default()),
            },
        }),
    };
    Ok(ListedSchedule {
        schedule,
        key,
        cron,
        time_zone,
        paused,
        handled: handled.0,
        last,
    })
}
