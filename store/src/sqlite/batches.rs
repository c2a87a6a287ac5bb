//! Many rows at once in SQLite: a statement for every [`CHUNK`] of them. Row locks are needless: whoever writes is alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Range,
};

use ajar_model::{CampaignId, Nonce, Observation, ShardId, Sighting};
use async_trait::async_trait;
use ipnet::IpNet;
use sqlx::{QueryBuilder, query_builder::Separated};

use super::{
    Tx,
    findings::{KEEPS_EARLIER_SIGHTING, ObservationColumns, held_row, made_row, owner, place},
    leases::lease_row,
};
use crate::{
    Error, SeenWorker,
    columns::{Address, At, Document},
    rows::{BatchRows, FindingRow, Held, Key, LeaseRow},
    stored::{self, signed},
};

/// Rows to one statement: SQLite takes 32,766 values (sqlite.org/limits.html), and no row has more than 12.
const CHUNK: usize = 500;

#[async_trait]
impl BatchRows for Tx {
    async fn insert_shards(&mut self, id: CampaignId, shards: &[Range<u64>]) -> Result<(), Error> {
        for (range, number) in shards.iter().zip(0_i64..) {
            sqlx::query(
                "INSERT INTO shards (campaign, number, first, past) VALUES ($1, $2, $3, $4)",
            )
            .bind(id.to_string())
            .bind(number)
            .bind(signed("a shard's range", range.start)?)
            .bind(signed("a shard's range", range.end)?)
            .execute(&mut *self.0)
            .await?;
        }
        Ok(())
    }

    async fn lock_leases(&mut self, shards: &[ShardId]) -> Result<Vec<LeaseRow>, Error> {
        let mut leases = Vec::new();
        for shard in shards {
            let row = sqlx::query(
                "SELECT campaign, number, token, owner, rate, revision, until, renewal \
                 FROM leases WHERE campaign = $1 AND number = $2",
            )
            .bind(shard.campaign.to_string())
            .bind(signed("a shard's number", shard.number)?)
            .fetch_optional(&mut *self.0)
            .await?;
            leases.extend(row.as_ref().map(lease_row).transpose()?);
        }
        leases.sort_unstable_by_key(|lease| lease.shard);
        Ok(leases)
    }

    async fn lock_overlapping(
        &mut self,
        shard: ShardId,
        blocks: &[IpNet],
    ) -> Result<Vec<LeaseRow>, Error> {
        let mut shards = BTreeSet::from([shard]);
        for blocks in blocks.chunks(CHUNK) {
            let mut query = QueryBuilder::new(
                "SELECT DISTINCT campaign, number FROM lease_blocks WHERE block IN (",
            );
            let mut list = query.separated(", ");
            for block in blocks {
                list.push_bind(block.to_string());
            }
            query.push(")");
            let rows: Vec<(String, i64)> = query.build_query_as().fetch_all(&mut *self.0).await?;
            for (campaign, number) in rows {
                shards.insert(stored::shard(&campaign, number)?);
            }
        }
        let shards: Vec<ShardId> = shards.into_iter().collect();
        self.lock_leases(&shards).await
    }

    async fn put_leases(&mut self, leases: &[LeaseRow]) -> Result<(), Error> {
        for lease in leases {
            sqlx::query(
                "UPDATE leases SET rate = $3, until = $4, renewal = $5 \
                 WHERE campaign = $1 AND number = $2",
            )
            .bind(lease.shard.campaign.to_string())
            .bind(signed("a shard's number", lease.shard.number)?)
            .bind(i64::from(lease.rate))
            .bind(At(lease.until))
            .bind(signed("a renewal's number", lease.renewal)?)
            .execute(&mut *self.0)
            .await?;
        }
        Ok(())
    }

    async fn delete_leases(&mut self, shards: &[ShardId]) -> Result<(), Error> {
        for shard in shards {
            for statement in [
                "DELETE FROM lease_blocks WHERE campaign = $1 AND number = $2",
                "DELETE FROM leases WHERE campaign = $1 AND number = $2",
            ] {
                sqlx::query(statement)
                    .bind(shard.campaign.to_string())
                    .bind(signed("a shard's number", shard.number)?)
                    .execute(&mut *self.0)
                    .await?;
            }
        }
        Ok(())
    }

    async fn put_blocks(&mut self, shard: ShardId, blocks: &[IpNet]) -> Result<bool, Error> {
        let number = signed("a shard's number", shard.number)?;
        let mut put = 0;
        for blocks in blocks.chunks(CHUNK) {
            let mut query =
                QueryBuilder::new("INSERT INTO lease_blocks (block, campaign, number) ");
            query.push_values(blocks, |mut row, block| {
                row.push_bind(block.to_string());
                row.push_bind(shard.campaign.to_string());
                row.push_bind(number);
            });
            query.push(" ON CONFLICT DO NOTHING");
            put += query.build().execute(&mut *self.0).await?.rows_affected();
        }
        Ok(put == blocks.len() as u64)
    }

    async fn hold_keys(&mut self, id: CampaignId, keys: &[Key]) -> Result<Vec<Held>, Error> {
        let mut held = Vec::with_capacity(keys.len());
        for keys in keys.chunks(CHUNK) {
            self.insert_keys(id, keys).await?;
            let mut query = QueryBuilder::new(
                "SELECT f.row, f.ip, f.port, f.probe, f.body, f.awaits_mail, f.revisit_at, \
                 f.revisit_vantage, f.visits, f.revisit_round, f.planned_round FROM (",
            );
            query.push_values(keys, |mut row, key| {
                row.push_bind(Address(key.ip));
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
        Ok(held)
    }

    async fn add_observations(&mut self, id: CampaignId, held: &mut [Held]) -> Result<(), Error> {
        for held in held.chunks_mut(CHUNK) {
            let mut query = QueryBuilder::new(
                "SELECT finding, vantage, round, started_at, finished_at, visit, evidence \
                 FROM observations WHERE finding IN (",
            );
            let mut list = query.separated(", ");
            for held in held.iter() {
                list.push_bind(held.row);
            }
            query.push(")");
            let rows: Vec<ObservationColumns> =
                query.build_query_as().fetch_all(&mut *self.0).await?;
            place(id, held, rows)?;
        }
        Ok(())
    }

    async fn put_observations(
        &mut self,
        _: CampaignId,
        rows: &[(i64, &Observation)],
    ) -> Result<(), Error> {
        for rows in rows.chunks(CHUNK) {
            let evidence = rows
                .iter()
                .map(|(_, o)| stored::to_json("evidence", &o.evidence))
                .collect::<Result<Vec<_>, _>>()?;
            let mut query = QueryBuilder::new(
                "INSERT INTO observations \
                 (finding, vantage, round, started_at, finished_at, visit, evidence) ",
            );
            query.push_values(
                rows.iter().zip(evidence),
                |mut row, ((finding, o), evidence)| {
                    row.push_bind(*finding);
                    row.push_bind(&o.vantage);
                    row.push_bind(o.round);
                    row.push_bind(At(o.started_at));
                    row.push_bind(At(o.finished_at));
                    row.push_bind(o.visit);
                    row.push_bind(evidence);
                },
            );
            query.push(
                " ON CONFLICT (finding, vantage, round) \
                 DO UPDATE SET started_at = excluded.started_at, finished_at = excluded.finished_at, visit = excluded.visit, \
                 evidence = excluded.evidence",
            );
            query.build().execute(&mut *self.0).await?;
        }
        Ok(())
    }

    async fn put_nonces(&mut self, _: CampaignId, rows: &[(Nonce, i64)]) -> Result<(), Error> {
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

    async fn put_findings(&mut self, rows: &[&FindingRow]) -> Result<(), Error> {
        for rows in rows.chunks(CHUNK) {
            let mut query = QueryBuilder::new(
                "UPDATE findings SET id = v.column2, verdict = v.column3, awaits_mail = v.column4, \
                 body = v.column5, revisit_at = v.column6, revisit_vantage = v.column7, \
                 visits = v.column8, revisit_round = v.column9 FROM (",
            );
            query.push_values(rows.iter().zip(bodies(rows)?), |mut values, (row, body)| {
                values.push_bind(row.row);
                bind_finding(&mut values, row, body);
            });
            query.push(") v WHERE findings.row = v.column1");
            query.build().execute(&mut *self.0).await?;
        }
        Ok(())
    }

    async fn make_findings(
        &mut self,
        id: CampaignId,
        rows: &[&FindingRow],
    ) -> Result<BTreeMap<Key, i64>, Error> {
        let mut made = BTreeMap::new();
        for rows in rows.chunks(CHUNK) {
            let mut query = QueryBuilder::new(
                "INSERT INTO findings (campaign, ip, port, probe, id, verdict, awaits_mail, body, \
                 revisit_at, revisit_vantage, visits, revisit_round) ",
            );
            query.push_values(rows.iter().zip(bodies(rows)?), |mut values, (row, body)| {
                values.push_bind(id.to_string());
                values.push_bind(Address(row.finding.ip));
                values.push_bind(row.finding.port);
                values.push_bind(row.finding.probe.as_str());
                bind_finding(&mut values, row, body);
            });
            query.push(" ON CONFLICT (campaign, ip, port, probe) DO NOTHING RETURNING row, ip, port, probe");
            for row in &query.build().fetch_all(&mut *self.0).await? {
                made.extend([made_row(row)?]);
            }
        }
        Ok(made)
    }

    async fn put_sightings(&mut self, sightings: &[Sighting]) -> Result<(), Error> {
        for sightings in sightings.chunks(CHUNK) {
            let bodies = sightings
                .iter()
                .map(|sighting| stored::to_json("a sighting", sighting))
                .collect::<Result<Vec<_>, _>>()?;
            let mut query =
                QueryBuilder::new("INSERT INTO sightings (nonce, received_at, egress_ip, body) ");
            query.push_values(sightings.iter().zip(bodies), |mut row, (sighting, body)| {
                row.push_bind(sighting.nonce.to_string());
                row.push_bind(At(sighting.received_at));
                row.push_bind(Address(sighting.egress_ip));
                row.push_bind(Document(body));
            });
            query.push(KEEPS_EARLIER_SIGHTING);
            query.build().execute(&mut *self.0).await?;
        }
        Ok(())
    }

    async fn keys_of_nonces(
        &mut self,
        nonces: &[Nonce],
    ) -> Result<Vec<(Nonce, CampaignId, Key)>, Error> {
        let mut owners = Vec::new();
        for nonces in nonces.chunks(CHUNK) {
            let mut query = among(
                "SELECT n.nonce, f.campaign, f.ip, f.port, f.probe FROM nonces n \
                 JOIN findings f ON f.row = n.finding WHERE n.nonce",
                nonces,
            );
            for row in query.build().fetch_all(&mut *self.0).await? {
                owners.push(owner(&row)?);
            }
        }
        Ok(owners)
    }

    async fn set_judged(&mut self, nonces: &[Nonce]) -> Result<(), Error> {
        let set = "UPDATE sightings SET judged = true, stray = false WHERE nonce";
        self.for_each_of(set, nonces).await
    }

    async fn set_stray(&mut self, nonces: &[Nonce]) -> Result<(), Error> {
        let set = "UPDATE sightings SET stray = true WHERE nonce";
        self.for_each_of(set, nonces).await
    }

    async fn delete_sightings(&mut self, nonces: &[Nonce]) -> Result<(), Error> {
        self.for_each_of("DELETE FROM sightings WHERE nonce", nonces)
            .await
    }

    async fn sightings(&mut self, nonces: &[Nonce]) -> Result<Vec<Sighting>, Error> {
        let mut sightings = Vec::new();
        for nonces in nonces.chunks(CHUNK) {
            let mut query = among("SELECT body FROM sightings WHERE nonce", nonces);
            let bodies: Vec<Document> = query.build_query_scalar().fetch_all(&mut *self.0).await?;
            for body in bodies {
                sightings.push(stored::from_json("a sighting", &body.0)?);
            }
        }
        Ok(sightings)
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
                row.push_bind(Address(*ip));
                row.push_bind(*port);
            });
            query.push(" ON CONFLICT DO NOTHING");
            new += query.build().execute(&mut *self.0).await?.rows_affected();
        }
        Ok(new)
    }

    async fn put_workers(&mut self, workers: &[SeenWorker]) -> Result<(), Error> {
        for workers in workers.chunks(CHUNK) {
            let mut query = QueryBuilder::new("INSERT INTO workers (worker, vantage, last_seen) ");
            query.push_values(workers, |mut row, seen| {
                row.push_bind(seen.worker.as_str());
                row.push_bind(seen.vantage.as_str());
                row.push_bind(At(seen.last_seen));
            });
            query.push(
                " ON CONFLICT (worker) DO UPDATE SET vantage = excluded.vantage, \
                 last_seen = max(workers.last_seen, excluded.last_seen)",
            );
            query.build().execute(&mut *self.0).await?;
        }
        Ok(())
    }
}

impl Tx {
    /// Runs a statement whose last column is a nonce.
    async fn for_each_of(&mut self, statement: &str, nonces: &[Nonce]) -> Result<(), Error> {
        for nonces in nonces.chunks(CHUNK) {
            let mut query = among(statement, nonces);
            query.build().execute(&mut *self.0).await?;
        }
        Ok(())
    }

    async fn insert_keys(&mut self, id: CampaignId, keys: &[Key]) -> Result<(), Error> {
        let mut query = QueryBuilder::new("INSERT INTO findings (campaign, ip, port, probe) ");
        query.push_values(keys, |mut row, key| {
            row.push_bind(id.to_string());
            row.push_bind(Address(key.ip));
            row.push_bind(key.port);
            row.push_bind(key.probe.as_str());
        });
        query.push(" ON CONFLICT DO NOTHING");
        query.build().execute(&mut *self.0).await?;
        Ok(())
    }
}

/// A statement that ends in the column of a nonce, which is to be one of these.
fn among(statement: &str, nonces: &[Nonce]) -> QueryBuilder<sqlx::Sqlite> {
    let mut query = QueryBuilder::new(statement);
    query.push(" IN (");
    let mut list = query.separated(", ");
    for nonce in nonces {
        list.push_bind(nonce.to_string());
    }
    query.push(")");
    query
}

fn bodies(rows: &[&FindingRow]) -> Result<Vec<String>, Error> {
    let body = |row: &&FindingRow| stored::to_json("a finding", &row.finding);
    rows.iter().map(body).collect()
}

/// Binds the columns that judging fills: id, verdict, awaits_mail, body, revisit_at, revisit_vantage, visits, revisit_round.
fn bind_finding(
    values: &mut Separated<'_, sqlx::Sqlite, &'static str>,
    row: &FindingRow,
    body: String,
) {
    let revisit = row.awaits.revisit.as_ref();
    values.push_bind(row.finding.id.clone());
    values.push_bind(row.finding.verdict.as_str());
    values.push_bind(row.awaits.mail);
    values.push_bind(body);
    values.push_bind(revisit.map(|revisit| At(revisit.at)));
    values.push_bind(revisit.map(|revisit| revisit.vantage.clone()));
    values.push_bind(row.visits);
    values.push_bind(revisit.map_or(0, |revisit| revisit.round));
}
