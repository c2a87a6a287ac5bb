//! Observations, findings, nonces and sightings.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use ajar_model::{CampaignId, Finding, Nonce, Observation, ProbeId, Timestamp};
use async_trait::async_trait;
use sqlx::{QueryBuilder, Row};

use super::{DatabaseRow, Tx};
use crate::{
    Error, FindingQuery, Mute,
    columns::{Address, At, Document},
    rows::{Awaits, BatchRows, Due, FindingRows, Held, Key, Revisit, Source},
    stored::{self, unsigned},
};

/// Finding, vantage, round, started and finished at, visit, evidence.
pub(super) type ObservationColumns = (i64, String, i64, At, At, i64, Document);

/// Of two sightings of a nonce the earlier one stays. One that takes another's place is to be judged.
pub(super) const KEEPS_EARLIER_SIGHTING: &str = " ON CONFLICT (nonce) DO UPDATE SET \
    received_at = excluded.received_at, egress_ip = excluded.egress_ip, body = excluded.body, \
    judged = false, stray = false WHERE (excluded.received_at, excluded.egress_ip) \
    < (sightings.received_at, sightings.egress_ip)";

/// Of a campaign that was not removed.
const PRESENT: &str = " AND campaign NOT IN (SELECT campaign FROM removed)";

#[async_trait]
impl FindingRows for Tx {
    async fn hold_findings(&mut self, id: CampaignId, keys: &[Key]) -> Result<Vec<Held>, Error> {
        let mut held = self.hold_keys(id, keys).await?;
        // Of rows that are new nothing was observed.
        if held.iter().any(|held| held.finding.is_some()) {
            self.add_observations(id, &mut held).await?;
        }
        Ok(held)
    }

    async fn unjudged(&mut self, limit: u32) -> Result<Vec<Nonce>, Error> {
        let nonces: Vec<String> = sqlx::query_scalar(
            "SELECT nonce FROM sightings WHERE NOT judged AND NOT stray ORDER BY received_at LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&mut *self.0)
        .await?;
        let read = |nonce: &String| stored::parsed("a nonce", nonce);
        nonces.iter().map(read).collect()
    }

    async fn old_strays(
        &mut self,
        horizon: Timestamp,
        most: u32,
        limit: u32,
    ) -> Result<Vec<Nonce>, Error> {
        let nonces: Vec<String> = sqlx::query_scalar(
            "SELECT nonce FROM sightings WHERE stray AND (received_at < $1 OR received_at < \
             (SELECT received_at FROM sightings WHERE stray ORDER BY received_at DESC \
             LIMIT 1 OFFSET $2)) ORDER BY received_at LIMIT $3",
        )
        .bind(At(horizon))
        .bind(i64::from(most.saturating_sub(1)))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.0)
        .await?;
        let read = |nonce: &String| stored::parsed("a nonce", nonce);
        nonces.iter().map(read).collect()
    }

    async fn shut_endpoint(
        &mut self,
        id: CampaignId,
        (ip, port): (IpAddr, u16),
    ) -> Result<bool, Error> {
        let done = sqlx::query(
            "DELETE FROM open_endpoints WHERE campaign = $1 AND ip = $2 AND port = $3 \
             AND NOT EXISTS (SELECT 1 FROM findings f WHERE f.campaign = $1 AND f.ip = $2 \
             AND f.port = $3 AND f.verdict = 'open')",
        )
        .bind(id.to_string())
        .bind(Address(ip))
        .bind(i32::from(port))
        .execute(&mut *self.0)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn unconfirmed(&mut self) -> Result<Vec<CampaignId>, Error> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT f.campaign FROM findings f JOIN campaigns c ON c.id = f.campaign \
             WHERE f.revisit_at IS NOT NULL AND c.state = 'finished' AND NOT c.local",
        )
        .fetch_all(&mut *self.0)
        .await?;
        let read = |id: &String| stored::parsed("a campaign's id", id);
        ids.iter().map(read).collect()
    }

    async fn unproven(&mut self, id: CampaignId) -> Result<Vec<(IpAddr, u16)>, Error> {
        let rows: Vec<(Address, i32)> = sqlx::query_as(
            "SELECT DISTINCT ip, port FROM findings \
             WHERE campaign = $1 AND verdict = 'unproven' ORDER BY ip, port",
        )
        .bind(id.to_string())
        .fetch_all(&mut *self.0)
        .await?;
        rows.into_iter()
            .map(|(ip, port)| Ok((ip.0, unsigned("a port", port.into())?)))
            .collect()
    }

    async fn mute(&mut self, id: CampaignId, ports: u32, limit: u32) -> Result<Mute, Error> {
        // What was heard has a protocol's probe, or another verdict.
        let rows: Vec<(Address, i64)> = sqlx::query_as(
            "SELECT ip, count(*) OVER () FROM findings WHERE campaign = $1 GROUP BY ip \
             HAVING count(DISTINCT port) >= $2 AND min(CASE WHEN probe IN ('connect', 'recognise') \
             AND verdict = 'inconclusive' THEN 1 ELSE 0 END) = 1 ORDER BY ip LIMIT $3",
        )
        .bind(id.to_string())
        .bind(i64::from(ports))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.0)
        .await?;
        Ok(Mute {
            count: unsigned("a count", rows.first().map_or(0, |(_, count)| *count))?,
            first: rows.into_iter().map(|(ip, _)| ip.0).collect(),
        })
    }

    async fn kept_mute(&mut self, id: CampaignId) -> Result<Option<String>, Error> {
        let kept: Option<Option<Document>> =
            sqlx::query_scalar("SELECT mute FROM campaigns WHERE id = $1")
                .bind(id.to_string())
                .fetch_optional(&mut *self.0)
                .await?;
        Ok(kept.flatten().map(|document| document.0))
    }

    async fn keep_mute(&mut self, id: CampaignId, mute: String) -> Result<(), Error> {
        sqlx::query(
            "UPDATE campaigns SET mute = $2 WHERE id = $1 \
             AND state IN ('finished', 'incomplete', 'cancelled')",
        )
        .bind(id.to_string())
        .bind(Document(mute))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn next_revisit(&mut self, id: CampaignId) -> Result<Option<Timestamp>, Error> {
        let next: Option<At> = sqlx::query_scalar(
            "SELECT min(revisit_at) FROM findings WHERE campaign = $1 AND revisit_at IS NOT NULL",
        )
        .bind(id.to_string())
        .fetch_one(&mut *self.0)
        .await?;
        Ok(next.map(|at| at.0))
    }

    async fn hold_due(
        &mut self,
        id: CampaignId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Due>, Error> {
        // In the order of keys, as everybody locks them.
        let rows = sqlx::query(row_lock!(
            "SELECT row, ip, port, visits, revisit_vantage, revisit_round, EXISTS (SELECT 1 FROM open_endpoints o \
             WHERE o.campaign = f.campaign AND o.ip = f.ip AND o.port = f.port) \
             FROM findings f WHERE campaign = $1 AND revisit_at <= $2 \
             ORDER BY ip, port, probe LIMIT $3",
            "FOR UPDATE OF f"
        ))
        .bind(id.to_string())
        .bind(At(now))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter()
            .map(|row| {
                let ip = row.try_get::<Address, _>(1)?.0;
                let port = unsigned("a port", row.try_get::<i32, _>(2)?.into())?;
                Ok(Due {
                    row: row.try_get(0)?,
                    endpoint: SocketAddr::new(ip, port),
                    visits: unsigned("a number of visits", row.try_get(3)?)?,
                    vantage: row.try_get(4)?,
                    round: unsigned("a round", row.try_get(5)?)?,
                    is_open: row.try_get(6)?,
                })
            })
            .collect()
    }

    async fn set_planned(&mut self, row: i64, visit: u32, round: u32) -> Result<(), Error> {
        sqlx::query(
            "UPDATE findings SET revisit_at = NULL, revisit_vantage = NULL, visits = $2, \
             planned_round = CASE WHEN planned_round < $3 THEN $3 ELSE planned_round END \
             WHERE row = $1",
        )
        .bind(row)
        .bind(i64::from(visit))
        .bind(i64::from(round))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn findings(&mut self, query: &FindingQuery) -> Result<Vec<Finding>, Error> {
        let mut sql = QueryBuilder::new("SELECT body FROM findings WHERE body IS NOT NULL");
        sql.push(PRESENT);
        if let Some(campaign) = query.campaign {
            sql.push(" AND campaign = ").push_bind(campaign.to_string());
        }
        if let Some(tenants) = &query.tenants {
            let mut list = sql
                .push(" AND campaign IN (SELECT id FROM campaigns WHERE tenant IN (")
                .separated(", ");
            for tenant in tenants {
                list.push_bind(tenant);
            }
            sql.push("))");
        }
        if !query.verdicts.is_empty() {
            let mut list = sql.push(" AND verdict IN (").separated(", ");
            for verdict in &query.verdicts {
                list.push_bind(verdict.as_str());
            }
            sql.push(")");
        }
        if let Some((campaign, ip, port, probe)) = &query.after {
            let mut after = sql
                .push(" AND (campaign, ip, port, probe) > (")
                .separated(", ");
            after.push_bind(campaign.to_string());
            after.push_bind(Address(*ip));
            after.push_bind(i32::from(*port));
            after.push_bind(probe.as_str());
            sql.push(")");
        }
        sql.push(" ORDER BY campaign, ip, port, probe LIMIT ")
            .push_bind(i64::from(query.limit));
        let bodies: Vec<Document> = sql.build_query_scalar().fetch_all(&mut *self.0).await?;
        let read = |body: &Document| stored::from_json("a finding", &body.0);
        bodies.iter().map(read).collect()
    }

    async fn finding(&mut self, id: &str) -> Result<Option<(Finding, Vec<Observation>)>, Error> {
        let mut sql = QueryBuilder::new(
            "SELECT row, ip, port, probe, body, awaits_mail, revisit_at, revisit_vantage, visits, \
             revisit_round, planned_round FROM findings WHERE body IS NOT NULL",
        );
        sql.push(PRESENT).push(" AND id = ").push_bind(id);
        sql.push(" ORDER BY row LIMIT 1");
        let row = sql.build().fetch_optional(&mut *self.0).await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let mut held = held_row(&row)?;
        let Some(finding) = held.finding.take() else {
            return Ok(None);
        };
        let mut held = [held];
        self.add_observations(finding.campaign, &mut held).await?;
        let [held] = held;
        Ok(Some((finding, held.observations.into_values().collect())))
    }
}

/// Columns: row, ip, port, probe, body, awaits_mail, revisit_at, revisit_vantage, visits,
/// revisit_round, planned_round.
pub(super) fn held_row(row: &DatabaseRow) -> Result<Held, Error> {
    let body: Option<Document> = row.try_get(4)?;
    let round = unsigned("a round", row.try_get(9)?)?;
    let revisit = row
        .try_get::<Option<At>, _>(6)?
        .zip(row.try_get::<Option<String>, _>(7)?)
        .map(|(at, vantage)| Revisit {
            at: at.0,
            vantage,
            round,
        });
    Ok(Held {
        row: row.try_get(0)?,
        key: key(row, 1)?,
        finding: body
            .map(|body| stored::from_json("a finding", &body.0))
            .transpose()?,
        awaits: Awaits {
            mail: row.try_get(5)?,
            revisit,
        },
        visits: unsigned("a number of visits", row.try_get(8)?)?,
        planned_round: unsigned("a round", row.try_get(10)?)?,
        observations: BTreeMap::new(),
    })
}

/// Columns: nonce, campaign, ip, port, probe.
pub(super) fn owner(row: &DatabaseRow) -> Result<(Nonce, CampaignId, Key), Error> {
    let nonce: &str = row.try_get(0)?;
    let campaign: &str = row.try_get(1)?;
    Ok((
        stored::parsed("a nonce", nonce)?,
        stored::parsed("a campaign's id", campaign)?,
        key(row, 2)?,
    ))
}

/// Columns from `at` on: ip, port, probe.
/// Columns: row, ip, port, probe.
pub(super) fn made_row(row: &DatabaseRow) -> Result<(Key, i64), Error> {
    Ok((key(row, 1)?, row.try_get(0)?))
}

fn key(row: &DatabaseRow, at: usize) -> Result<Key, Error> {
    Ok(Key {
        ip: row.try_get::<Address, _>(at)?.0,
        port: unsigned("a port", row.try_get::<i32, _>(at + 1)?.into())?,
        probe: ProbeId::from(row.try_get::<String, _>(at + 2)?),
    })
}

/// Gives each observation to the finding that it is of.
pub(super) fn place(
    campaign: CampaignId,
    held: &mut [Held],
    rows: Vec<ObservationColumns>,
) -> Result<(), Error> {
    let mut places: HashMap<i64, &mut Held> =
        held.iter_mut().map(|held| (held.row, held)).collect();
    for columns in rows {
        if let Some(held) = places.get_mut(&columns.0) {
            let observation = observation(campaign, &held.key, columns)?;
            held.observations
                .insert(Source::of(&observation), observation);
        }
    }
    Ok(())
}

fn observation(
    campaign: CampaignId,
    key: &Key,
    (_, vantage, round, started_at, finished_at, visit, evidence): ObservationColumns,
) -> Result<Observation, Error> {
    Ok(Observation {
        campaign,
        endpoint: SocketAddr::new(key.ip, key.port),
        probe: key.probe.clone(),
        vantage,
        started_at: started_at.0,
        finished_at: finished_at.0,
        visit: unsigned("a visit", visit)?,
        round: unsigned("a round", round)?,
        evidence: stored::from_json("evidence", &evidence.0)?,
    })
}
