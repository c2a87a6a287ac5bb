//! Observations, findings, nonces and sightings in PostgreSQL.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use ajar_model::{CampaignId, Finding, Nonce, Observation, ProbeId, Sighting, Timestamp};
use async_trait::async_trait;
use sqlx::{QueryBuilder, Row, postgres::PgRow};

use super::{PostgresRows, at::At};
use crate::{
    Error, FindingQuery,
    rows::{FindingRow, FindingRows, Held, Key},
    stored::{self, unsigned},
};

type ObservationColumns = (i64, String, At, At, i64, String);

#[async_trait]
impl FindingRows for PostgresRows {
    async fn hold_findings(&mut self, id: CampaignId, keys: &[Key]) -> Result<Vec<Held>, Error> {
        self.insert_keys(id, keys).await?;
        let rows = sqlx::query(
            "SELECT f.row, f.ip, f.port, f.probe, f.body::text, f.awaits_mail FROM ajar.findings f \
             JOIN unnest($2::inet[], $3::int[], $4::text[]) AS k (ip, port, probe) \
             ON f.ip = k.ip AND f.port = k.port AND f.probe = k.probe \
             WHERE f.campaign = $1 ORDER BY f.ip, f.port, f.probe FOR UPDATE OF f",
        )
        .bind(id.to_string())
        .bind(keys.iter().map(|key| key.ip).collect::<Vec<_>>())
        .bind(
            keys.iter()
                .map(|key| i32::from(key.port))
                .collect::<Vec<_>>(),
        )
        .bind(
            keys.iter()
                .map(|key| key.probe.as_str())
                .collect::<Vec<_>>(),
        )
        .fetch_all(&mut *self.0)
        .await?;
        let mut held = rows.iter().map(held_row).collect::<Result<Vec<_>, _>>()?;
        self.add_observations(id, &mut held).await?;
        Ok(held)
    }

    async fn put_observations(&mut self, rows: &[(i64, &Observation)]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let evidence = rows
            .iter()
            .map(|(_, o)| stored::to_json("evidence", &o.evidence))
            .collect::<Result<Vec<_>, _>>()?;
        sqlx::query(
            "INSERT INTO ajar.observations \
             (finding, vantage, started_at, finished_at, visit, evidence) \
             SELECT finding, vantage, started_at, finished_at, visit, evidence::json \
             FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::timestamptz[], \
             $5::bigint[], $6::text[]) \
             AS o (finding, vantage, started_at, finished_at, visit, evidence) \
             ON CONFLICT (finding, vantage) DO UPDATE SET started_at = excluded.started_at, \
             finished_at = excluded.finished_at, visit = excluded.visit, \
             evidence = excluded.evidence",
        )
        .bind(rows.iter().map(|row| row.0).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.1.vantage.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| At(row.1.started_at))
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| At(row.1.finished_at))
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| i64::from(row.1.visit))
                .collect::<Vec<_>>(),
        )
        .bind(evidence)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn put_nonces(&mut self, rows: &[(Nonce, i64)]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO ajar.nonces (nonce, finding) \
             SELECT nonce, finding FROM unnest($1::text[], $2::bigint[]) AS n (nonce, finding) \
             ON CONFLICT DO NOTHING",
        )
        .bind(rows.iter().map(|row| row.0.to_string()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.1).collect::<Vec<_>>())
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn put_findings(&mut self, rows: &[FindingRow]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let bodies = rows
            .iter()
            .map(|row| stored::to_json("a finding", &row.finding))
            .collect::<Result<Vec<_>, _>>()?;
        sqlx::query(
            "UPDATE ajar.findings f SET id = n.id, verdict = n.verdict, \
             awaits_mail = n.awaits_mail, body = n.body::json \
             FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bool[], $5::text[]) \
             AS n (row, id, verdict, awaits_mail, body) WHERE f.row = n.row",
        )
        .bind(rows.iter().map(|row| row.row).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.finding.id.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            rows.iter()
                .map(|row| row.finding.verdict.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(|row| row.awaits_mail).collect::<Vec<_>>())
        .bind(bodies)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn sightings(&mut self, nonces: &[Nonce]) -> Result<Vec<Sighting>, Error> {
        if nonces.is_empty() {
            return Ok(Vec::new());
        }
        let bodies: Vec<String> =
            sqlx::query_scalar("SELECT body::text FROM ajar.sightings WHERE nonce = ANY ($1)")
                .bind(nonces.iter().map(Nonce::to_string).collect::<Vec<_>>())
                .fetch_all(&mut *self.0)
                .await?;
        let read = |body: &String| stored::from_json("a sighting", body);
        bodies.iter().map(read).collect()
    }

    async fn put_sighting(&mut self, sighting: &Sighting) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO ajar.sightings (nonce, received_at, egress_ip, body) \
             VALUES ($1, $2, $3, $4::text::json) \
             ON CONFLICT (nonce) DO UPDATE SET received_at = excluded.received_at, \
             egress_ip = excluded.egress_ip, body = excluded.body, \
             judged = false \
             WHERE (excluded.received_at, excluded.egress_ip) \
             < (sightings.received_at, sightings.egress_ip)",
        )
        .bind(sighting.nonce.to_string())
        .bind(At(sighting.received_at))
        .bind(sighting.egress_ip)
        .bind(stored::to_json("a sighting", sighting)?)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn keys_of_nonce(&mut self, nonce: Nonce) -> Result<Vec<(CampaignId, Key)>, Error> {
        let rows = sqlx::query(
            "SELECT f.ip, f.port, f.probe, f.campaign FROM ajar.nonces n \
             JOIN ajar.findings f ON f.row = n.finding WHERE n.nonce = $1 ORDER BY f.row",
        )
        .bind(nonce.to_string())
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter()
            .map(|row| {
                let campaign: &str = row.try_get(3)?;
                Ok((stored::parsed("a campaign's id", campaign)?, key(row, 0)?))
            })
            .collect()
    }

    async fn unjudged(&mut self, limit: u32) -> Result<Vec<Nonce>, Error> {
        let nonces: Vec<String> = sqlx::query_scalar(
            "SELECT s.nonce FROM ajar.sightings s WHERE NOT s.judged \
             AND EXISTS (SELECT 1 FROM ajar.nonces n WHERE n.nonce = s.nonce) \
             ORDER BY s.received_at LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&mut *self.0)
        .await?;
        let read = |nonce: &String| stored::parsed("a nonce", nonce);
        nonces.iter().map(read).collect()
    }

    async fn set_judged(&mut self, nonce: Nonce) -> Result<(), Error> {
        sqlx::query("UPDATE ajar.sightings SET judged = true WHERE nonce = $1")
            .bind(nonce.to_string())
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn delete_unmatched(&mut self, horizon: Timestamp, most: u32) -> Result<(), Error> {
        sqlx::query(
            "DELETE FROM ajar.sightings WHERE NOT judged AND (received_at < $1 OR received_at < \
             (SELECT received_at FROM ajar.sightings WHERE NOT judged ORDER BY received_at DESC \
             LIMIT 1 OFFSET $2)) \
             AND NOT EXISTS (SELECT 1 FROM ajar.nonces n WHERE n.nonce = sightings.nonce)",
        )
        .bind(At(horizon))
        .bind(i64::from(most.saturating_sub(1)))
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn put_open_endpoints(
        &mut self,
        id: CampaignId,
        endpoints: &[(IpAddr, u16)],
    ) -> Result<u64, Error> {
        if endpoints.is_empty() {
            return Ok(0);
        }
        let done = sqlx::query(
            "INSERT INTO ajar.open_endpoints (campaign, ip, port) \
             SELECT $1, ip, port FROM unnest($2::inet[], $3::int[]) AS e (ip, port) \
             ON CONFLICT DO NOTHING",
        )
        .bind(id.to_string())
        .bind(
            endpoints
                .iter()
                .map(|endpoint| endpoint.0)
                .collect::<Vec<_>>(),
        )
        .bind(
            endpoints
                .iter()
                .map(|endpoint| i32::from(endpoint.1))
                .collect::<Vec<_>>(),
        )
        .execute(&mut *self.0)
        .await?;
        Ok(done.rows_affected())
    }

    async fn unproven(&mut self, id: CampaignId) -> Result<Vec<(IpAddr, u16)>, Error> {
        let rows: Vec<(IpAddr, i32)> = sqlx::query_as(
            "SELECT DISTINCT ip, port FROM ajar.findings \
             WHERE campaign = $1 AND verdict = 'unproven' ORDER BY ip, port",
        )
        .bind(id.to_string())
        .fetch_all(&mut *self.0)
        .await?;
        rows.into_iter()
            .map(|(ip, port)| Ok((ip, unsigned("a port", port.into())?)))
            .collect()
    }

    async fn findings(&mut self, query: &FindingQuery) -> Result<Vec<Finding>, Error> {
        let mut sql =
            QueryBuilder::new("SELECT body::text FROM ajar.findings WHERE body IS NOT NULL");
        if let Some(campaign) = query.campaign {
            sql.push(" AND campaign = ").push_bind(campaign.to_string());
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
            after.push_bind(*ip);
            after.push_bind(i32::from(*port));
            after.push_bind(probe.as_str());
            sql.push(")");
        }
        sql.push(" ORDER BY campaign, ip, port, probe LIMIT ")
            .push_bind(i64::from(query.limit));
        let bodies: Vec<String> = sql.build_query_scalar().fetch_all(&mut *self.0).await?;
        let read = |body: &String| stored::from_json("a finding", body);
        bodies.iter().map(read).collect()
    }

    async fn finding(&mut self, id: &str) -> Result<Option<(Finding, Vec<Observation>)>, Error> {
        let row = sqlx::query(
            "SELECT row, ip, port, probe, body::text, awaits_mail FROM ajar.findings \
             WHERE id = $1 AND body IS NOT NULL ORDER BY row LIMIT 1",
        )
        .bind(id)
        .fetch_optional(&mut *self.0)
        .await?;
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

impl PostgresRows {
    async fn insert_keys(&mut self, id: CampaignId, keys: &[Key]) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO ajar.findings (campaign, ip, port, probe) SELECT $1, ip, port, probe \
             FROM unnest($2::inet[], $3::int[], $4::text[]) AS k (ip, port, probe) \
             ON CONFLICT DO NOTHING",
        )
        .bind(id.to_string())
        .bind(keys.iter().map(|key| key.ip).collect::<Vec<_>>())
        .bind(
            keys.iter()
                .map(|key| i32::from(key.port))
                .collect::<Vec<_>>(),
        )
        .bind(
            keys.iter()
                .map(|key| key.probe.as_str())
                .collect::<Vec<_>>(),
        )
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn add_observations(&mut self, id: CampaignId, held: &mut [Held]) -> Result<(), Error> {
        let rows: Vec<ObservationColumns> = sqlx::query_as(
            "SELECT finding, vantage, started_at, finished_at, visit, evidence::text \
             FROM ajar.observations WHERE finding = ANY ($1)",
        )
        .bind(held.iter().map(|held| held.row).collect::<Vec<_>>())
        .fetch_all(&mut *self.0)
        .await?;
        let mut places: HashMap<i64, &mut Held> =
            held.iter_mut().map(|held| (held.row, held)).collect();
        for columns in rows {
            if let Some(held) = places.get_mut(&columns.0) {
                let observation = observation(id, &held.key, columns)?;
                held.observations
                    .insert(observation.vantage.clone(), observation);
            }
        }
        Ok(())
    }
}

/// Columns: row, ip, port, probe, body, awaits_mail.
fn held_row(row: &PgRow) -> Result<Held, Error> {
    let body: Option<&str> = row.try_get(4)?;
    Ok(Held {
        row: row.try_get(0)?,
        key: key(row, 1)?,
        finding: body
            .map(|body| stored::from_json("a finding", body))
            .transpose()?,
        awaits_mail: row.try_get(5)?,
        observations: BTreeMap::new(),
    })
}

/// Columns from `at` on: ip, port, probe.
fn key(row: &PgRow, at: usize) -> Result<Key, Error> {
    Ok(Key {
        ip: row.try_get(at)?,
        port: unsigned("a port", row.try_get::<i32, _>(at + 1)?.into())?,
        probe: ProbeId::from(row.try_get::<String, _>(at + 2)?),
    })
}

fn observation(
    campaign: CampaignId,
    key: &Key,
    (_, vantage, started_at, finished_at, visit, evidence): ObservationColumns,
) -> Result<Observation, Error> {
    Ok(Observation {
        campaign,
        endpoint: SocketAddr::new(key.ip, key.port),
        probe: key.probe.clone(),
        vantage,
        started_at: started_at.0,
        finished_at: finished_at.0,
        visit: unsigned("a visit", visit)?,
        evidence: stored::from_json("evidence", &evidence)?,
    })
}
