//! Observations, findings, nonces and sightings in SQLite.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use ajar_model::{CampaignId, Finding, Nonce, Observation, ProbeId, Sighting, Timestamp};
use async_trait::async_trait;
use sqlx::{QueryBuilder, Row, sqlite::SqliteRow};

use super::{CHUNK, SqliteRows, sortable, unsortable};
use crate::{
    Error, FindingQuery,
    rows::{FindingRow, FindingRows, Held, Key},
    stored::{self, micros, unsigned},
};

type ObservationColumns = (i64, String, i64, i64, i64, String);

#[async_trait]
impl FindingRows for SqliteRows {
    async fn hold_findings(&mut self, id: CampaignId, keys: &[Key]) -> Result<Vec<Held>, Error> {
        let mut held = Vec::with_capacity(keys.len());
        for keys in keys.chunks(CHUNK) {
            self.insert_keys(id, keys).await?;
            let mut query = QueryBuilder::new(
                "SELECT f.row, f.ip, f.port, f.probe, f.body, f.awaits_mail FROM (",
            );
            query.push_values(keys, |mut row, key| {
                row.push_bind(sortable(key.ip));
                row.push_bind(key.port);
                row.push_bind(key.probe.as_str());
            });
            // A plain join may be turned round, and then reads every finding of the campaign.
            query.push(
                ") k CROSS JOIN findings f \
                 ON f.ip = k.column1 AND f.port = k.column2 AND f.probe = k.column3 \
                 WHERE f.campaign = ",
            );
            query.push_bind(id.to_string());
            let rows = query.build().fetch_all(&mut *self.0).await?;
            for row in &rows {
                held.push(held_row(row)?);
            }
        }
        self.add_observations(id, &mut held).await?;
        Ok(held)
    }

    async fn put_observations(&mut self, rows: &[(i64, &Observation)]) -> Result<(), Error> {
        for rows in rows.chunks(CHUNK) {
            let evidence = rows
                .iter()
                .map(|(_, o)| stored::to_json("evidence", &o.evidence))
                .collect::<Result<Vec<_>, _>>()?;
            let mut query = QueryBuilder::new(
                "INSERT INTO observations \
                 (finding, vantage, started_at, finished_at, visit, evidence) ",
            );
            query.push_values(
                rows.iter().zip(evidence),
                |mut row, ((finding, o), evidence)| {
                    row.push_bind(*finding);
                    row.push_bind(&o.vantage);
                    row.push_bind(micros(o.started_at));
                    row.push_bind(micros(o.finished_at));
                    row.push_bind(o.visit);
                    row.push_bind(evidence);
                },
            );
            query.push(
                " ON CONFLICT (finding, vantage) DO UPDATE SET started_at = excluded.started_at, \
                 finished_at = excluded.finished_at, visit = excluded.visit, \
                 evidence = excluded.evidence",
            );
            query.build().execute(&mut *self.0).await?;
        }
        Ok(())
    }

    async fn put_nonces(&mut self, rows: &[(Nonce, i64)]) -> Result<(), Error> {
        for rows in rows.chunks(CHUNK) {
            let mut query = QueryBuilder::new("INSERT INTO nonces (nonce, finding) ");
            query.push_values(rows, |mut row, (nonce, finding)| {
                row.push_bind(nonce.to_string());
                row.push_bind(*finding);
            });
            query.push(" ON CONFLICT DO NOTHING");
            query.build().execute(&mut *self.0).await?;
        }
        Ok(())
    }

    async fn put_findings(&mut self, rows: &[FindingRow]) -> Result<(), Error> {
        for row in rows {
            sqlx::query(
                "UPDATE findings SET id = $2, verdict = $3, awaits_mail = $4, body = $5 \
                 WHERE row = $1",
            )
            .bind(row.row)
            .bind(&row.finding.id)
            .bind(row.finding.verdict.as_str())
            .bind(row.awaits_mail)
            .bind(stored::to_json("a finding", &row.finding)?)
            .execute(&mut *self.0)
            .await?;
        }
        Ok(())
    }

    async fn sightings(&mut self, nonces: &[Nonce]) -> Result<Vec<Sighting>, Error> {
        let mut sightings = Vec::new();
        for nonces in nonces.chunks(CHUNK) {
            let mut query = QueryBuilder::new("SELECT body FROM sightings WHERE nonce IN (");
            let mut list = query.separated(", ");
            for nonce in nonces {
                list.push_bind(nonce.to_string());
            }
            query.push(")");
            let bodies: Vec<String> = query.build_query_scalar().fetch_all(&mut *self.0).await?;
            for body in bodies {
                sightings.push(stored::from_json("a sighting", &body)?);
            }
        }
        Ok(sightings)
    }

    async fn put_sighting(&mut self, sighting: &Sighting) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO sightings (nonce, received_at, egress_ip, body) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (nonce) DO UPDATE SET received_at = excluded.received_at, \
             egress_ip = excluded.egress_ip, body = excluded.body, \
             judged = 0 \
             WHERE (excluded.received_at, excluded.egress_ip) \
             < (sightings.received_at, sightings.egress_ip)",
        )
        .bind(sighting.nonce.to_string())
        .bind(micros(sighting.received_at))
        .bind(sortable(sighting.egress_ip))
        .bind(stored::to_json("a sighting", sighting)?)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn keys_of_nonce(&mut self, nonce: Nonce) -> Result<Vec<(CampaignId, Key)>, Error> {
        let rows = sqlx::query(
            "SELECT f.ip, f.port, f.probe, f.campaign FROM nonces n \
             JOIN findings f ON f.row = n.finding WHERE n.nonce = $1 ORDER BY f.row",
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
            "SELECT s.nonce FROM sightings s WHERE s.judged = 0 \
             AND EXISTS (SELECT 1 FROM nonces n WHERE n.nonce = s.nonce) \
             ORDER BY s.received_at LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&mut *self.0)
        .await?;
        let read = |nonce: &String| stored::parsed("a nonce", nonce);
        nonces.iter().map(read).collect()
    }

    async fn set_judged(&mut self, nonce: Nonce) -> Result<(), Error> {
        sqlx::query("UPDATE sightings SET judged = 1 WHERE nonce = $1")
            .bind(nonce.to_string())
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn delete_unmatched(&mut self, horizon: Timestamp, most: u32) -> Result<(), Error> {
        sqlx::query(
            "DELETE FROM sightings WHERE judged = 0 AND (received_at < $1 OR received_at < \
             (SELECT received_at FROM sightings WHERE judged = 0 ORDER BY received_at DESC \
             LIMIT 1 OFFSET $2)) \
             AND NOT EXISTS (SELECT 1 FROM nonces n WHERE n.nonce = sightings.nonce)",
        )
        .bind(micros(horizon))
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
        let mut new = 0;
        for endpoints in endpoints.chunks(CHUNK) {
            let mut query = QueryBuilder::new("INSERT INTO open_endpoints (campaign, ip, port) ");
            query.push_values(endpoints, |mut row, (ip, port)| {
                row.push_bind(id.to_string());
                row.push_bind(sortable(*ip));
                row.push_bind(*port);
            });
            query.push(" ON CONFLICT DO NOTHING");
            new += query.build().execute(&mut *self.0).await?.rows_affected();
        }
        Ok(new)
    }

    async fn unproven(&mut self, id: CampaignId) -> Result<Vec<(IpAddr, u16)>, Error> {
        let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(
            "SELECT DISTINCT ip, port FROM findings \
             WHERE campaign = $1 AND verdict = 'unproven' ORDER BY ip, port",
        )
        .bind(id.to_string())
        .fetch_all(&mut *self.0)
        .await?;
        rows.into_iter()
            .map(|(ip, port)| Ok((unsortable(&ip)?, unsigned("a port", port)?)))
            .collect()
    }

    async fn findings(&mut self, query: &FindingQuery) -> Result<Vec<Finding>, Error> {
        let mut sql = QueryBuilder::new("SELECT body FROM findings WHERE body IS NOT NULL");
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
            after.push_bind(sortable(*ip));
            after.push_bind(*port);
            after.push_bind(probe.as_str());
            sql.push(")");
        }
        sql.push(" ORDER BY campaign, ip, port, probe LIMIT ")
            .push_bind(query.limit);
        let bodies: Vec<String> = sql.build_query_scalar().fetch_all(&mut *self.0).await?;
        let read = |body: &String| stored::from_json("a finding", body);
        bodies.iter().map(read).collect()
    }

    async fn finding(&mut self, id: &str) -> Result<Option<(Finding, Vec<Observation>)>, Error> {
        let row = sqlx::query(
            "SELECT row, ip, port, probe, body, awaits_mail FROM findings \
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

impl SqliteRows {
    async fn insert_keys(&mut self, id: CampaignId, keys: &[Key]) -> Result<(), Error> {
        let mut query = QueryBuilder::new("INSERT INTO findings (campaign, ip, port, probe) ");
        query.push_values(keys, |mut row, key| {
            row.push_bind(id.to_string());
            row.push_bind(sortable(key.ip));
            row.push_bind(key.port);
            row.push_bind(key.probe.as_str());
        });
        query.push(" ON CONFLICT DO NOTHING");
        query.build().execute(&mut *self.0).await?;
        Ok(())
    }

    async fn add_observations(&mut self, id: CampaignId, held: &mut [Held]) -> Result<(), Error> {
        for held in held.chunks_mut(CHUNK) {
            let mut query = QueryBuilder::new(
                "SELECT finding, vantage, started_at, finished_at, visit, evidence \
                 FROM observations WHERE finding IN (",
            );
            let mut list = query.separated(", ");
            for held in held.iter() {
                list.push_bind(held.row);
            }
            query.push(")");
            let rows: Vec<ObservationColumns> =
                query.build_query_as().fetch_all(&mut *self.0).await?;
            let mut places: HashMap<i64, &mut Held> =
                held.iter_mut().map(|held| (held.row, held)).collect();
            for columns in rows {
                if let Some(held) = places.get_mut(&columns.0) {
                    let observation = observation(id, &held.key, columns)?;
                    held.observations
                        .insert(observation.vantage.clone(), observation);
                }
            }
        }
        Ok(())
    }
}

/// Columns: row, ip, port, probe, body, awaits_mail.
fn held_row(row: &SqliteRow) -> Result<Held, Error> {
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
fn key(row: &SqliteRow, at: usize) -> Result<Key, Error> {
    Ok(Key {
        ip: unsortable(row.try_get(at)?)?,
        port: unsigned("a port", row.try_get(at + 1)?)?,
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
        started_at: stored::timestamp(started_at)?,
        finished_at: stored::timestamp(finished_at)?,
        visit: unsigned("a visit", visit)?,
        evidence: stored::from_json("evidence", &evidence)?,
    })
}
