//! Many rows at once in PostgreSQL: one statement over arrays.

use std::{collections::BTreeMap, net::IpAddr, ops::Range};

use ajar_model::{CampaignId, Nonce, Observation, ShardId, Sighting};
use async_trait::async_trait;
use ipnet::IpNet;
use sqlx::AssertSqlSafe;

use super::{
    Tx,
    findings::{KEEPS_EARLIER_SIGHTING, ObservationColumns, held_row, made_row, owner, place},
    leases::lease_row,
    partitions::partition,
};
use crate::{
    Error, SeenWorker,
    columns::{At, Document},
    rows::{BatchRows, FindingRow, Held, Key, LeaseRow},
    stored::{self, signed},
};

#[async_trait]
impl BatchRows for Tx {
    async fn insert_shards(&mut self, id: CampaignId, shards: &[Range<u64>]) -> Result<(), Error> {
        let end = |end: u64| signed("a shard's range", end);
        let firsts = shards.iter().map(|range| end(range.start));
        let pasts = shards.iter().map(|range| end(range.end));
        sqlx::query(
            "INSERT INTO shards (campaign, number, first, past) \
             SELECT $1, ordinality - 1, first, past \
             FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS s (first, past)",
        )
        .bind(id.to_string())
        .bind(firsts.collect::<Result<Vec<_>, _>>()?)
        .bind(pasts.collect::<Result<Vec<_>, _>>()?)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn lock_leases(&mut self, shards: &[ShardId]) -> Result<Vec<LeaseRow>, Error> {
        let (campaigns, numbers) = columns(shards)?;
        let rows = sqlx::query(
            "SELECT campaign, number, token, owner, rate, revision, until, renewal FROM leases \
             WHERE (campaign, number) IN (SELECT * FROM unnest($1::text[], $2::bigint[])) \
             ORDER BY campaign, number FOR NO KEY UPDATE",
        )
        .bind(campaigns)
        .bind(numbers)
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter().map(lease_row).collect()
    }

    async fn lock_overlapping(
        &mut self,
        shard: ShardId,
        blocks: &[IpNet],
    ) -> Result<Vec<LeaseRow>, Error> {
        let rows = sqlx::query(
            "SELECT campaign, number, token, owner, rate, revision, until, renewal FROM leases \
             WHERE (campaign, number) IN (SELECT $1::text, $2::bigint UNION \
             SELECT campaign, number FROM lease_blocks WHERE block = ANY ($3::cidr[])) \
             ORDER BY campaign, number FOR NO KEY UPDATE",
        )
        .bind(shard.campaign.to_string())
        .bind(signed("a shard's number", shard.number)?)
        .bind(blocks)
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter().map(lease_row).collect()
    }

    async fn put_leases(&mut self, leases: &[LeaseRow]) -> Result<(), Error> {
        let shards: Vec<ShardId> = leases.iter().map(|lease| lease.shard).collect();
        let (campaigns, numbers) = columns(&shards)?;
        let rates: Vec<i64> = leases.iter().map(|lease| lease.rate.into()).collect();
        let ends: Vec<At> = leases.iter().map(|lease| At(lease.until)).collect();
        let number = |lease: &LeaseRow| signed("a renewal's number", lease.renewal);
        let renewals = leases.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        sqlx::query(
            "UPDATE leases l SET rate = n.rate, until = n.until, renewal = n.renewal \
             FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::bigint[]) \
             AS n (campaign, number, rate, until, renewal) \
             WHERE l.campaign = n.campaign AND l.number = n.number",
        )
        .bind(campaigns)
        .bind(numbers)
        .bind(rates)
        .bind(ends)
        .bind(renewals)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn delete_leases(&mut self, shards: &[ShardId]) -> Result<(), Error> {
        let (campaigns, numbers) = columns(shards)?;
        for statement in [
            "DELETE FROM lease_blocks WHERE (campaign, number) IN \
             (SELECT * FROM unnest($1::text[], $2::bigint[]))",
            "DELETE FROM leases WHERE (campaign, number) IN \
             (SELECT * FROM unnest($1::text[], $2::bigint[]))",
        ] {
            sqlx::query(statement)
                .bind(&campaigns)
                .bind(&numbers)
                .execute(&mut *self.0)
                .await?;
        }
        Ok(())
    }

    async fn put_blocks(&mut self, shard: ShardId, blocks: &[IpNet]) -> Result<bool, Error> {
        let done = sqlx::query(
            "INSERT INTO lease_blocks (block, campaign, number) \
             SELECT block, $2, $3 FROM unnest($1::cidr[]) AS b (block) ON CONFLICT DO NOTHING",
        )
        .bind(blocks)
        .bind(shard.campaign.to_string())
        .bind(signed("a shard's number", shard.number)?)
        .execute(&mut *self.0)
        .await?;
        Ok(done.rows_affected() == blocks.len() as u64)
    }

    async fn hold_keys(&mut self, id: CampaignId, keys: &[Key]) -> Result<Vec<Held>, Error> {
        let ips: Vec<_> = keys.iter().map(|key| key.ip).collect();
        let ports: Vec<_> = keys.iter().map(|key| i32::from(key.port)).collect();
        let probes: Vec<_> = keys.iter().map(|key| key.probe.as_str()).collect();
        // One statement makes a row or locks the one that is there, in the order of keys, and finds it by the key whatever the
        // planner thinks of the table.
        let rows = sqlx::query(
            "INSERT INTO findings AS f (campaign, ip, port, probe) SELECT $1, ip, port, probe \
             FROM unnest($2::inet[], $3::int[], $4::text[]) AS k (ip, port, probe) \
             ON CONFLICT (campaign, ip, port, probe) DO UPDATE SET probe = f.probe \
             RETURNING f.row, f.ip, f.port, f.probe, f.body, f.awaits_mail, f.revisit_at, \
             f.revisit_vantage, f.visits, f.revisit_round, f.planned_round",
        )
        .bind(id.to_string())
        .bind(ips)
        .bind(ports)
        .bind(probes)
        .fetch_all(&mut *self.0)
        .await?;
        let held: Result<Vec<Held>, Error> = rows.iter().map(held_row).collect();
        let mut held = held?;
        held.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(held)
    }

    async fn add_observations(&mut self, id: CampaignId, held: &mut [Held]) -> Result<(), Error> {
        let rows: Vec<ObservationColumns> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT finding, vantage, round, started_at, finished_at, visit, evidence \
             FROM {} WHERE finding = ANY ($1)",
            partition("observations", id)
        )))
        .bind(held.iter().map(|held| held.row).collect::<Vec<_>>())
        .fetch_all(&mut *self.0)
        .await?;
        place(id, held, rows)
    }

    async fn put_observations(
        &mut self,
        id: CampaignId,
        rows: &[(i64, &Observation)],
    ) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let evidence = rows
            .iter()
            .map(|(_, o)| stored::to_json("evidence", &o.evidence))
            .collect::<Result<Vec<_>, _>>()?;
        sqlx::query(AssertSqlSafe(format!(
            "INSERT INTO {} \
             (campaign, finding, vantage, started_at, finished_at, visit, evidence, round) \
             SELECT $8, finding, vantage, started_at, finished_at, visit, evidence::json, round \
             FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::timestamptz[], \
             $5::bigint[], $6::text[], $7::bigint[]) \
             AS o (finding, vantage, started_at, finished_at, visit, evidence, round) \
             ON CONFLICT (finding, vantage, round) DO UPDATE SET started_at = excluded.started_at, \
             finished_at = excluded.finished_at, visit = excluded.visit, \
             evidence = excluded.evidence",
            partition("observations", id)
        )))
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
        .bind(
            rows.iter()
                .map(|row| i64::from(row.1.round))
                .collect::<Vec<_>>(),
        )
        .bind(id.to_string())
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn put_nonces(&mut self, id: CampaignId, rows: &[(Nonce, i64)]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        sqlx::query(AssertSqlSafe(format!(
            "INSERT INTO {} (campaign, nonce, finding) \
             SELECT $3, nonce, finding FROM unnest($1::text[], $2::bigint[]) AS n (nonce, finding) \
             ON CONFLICT DO NOTHING",
            partition("nonces", id)
        )))
        .bind(rows.iter().map(|row| row.0.to_string()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.1).collect::<Vec<_>>())
        .bind(id.to_string())
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn put_findings(&mut self, rows: &[&FindingRow]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let query = sqlx::query(
            "UPDATE findings f SET id = n.id, verdict = n.verdict, \
             awaits_mail = n.awaits_mail, body = n.body::json, revisit_at = n.revisit_at, \
             revisit_vantage = n.revisit_vantage, visits = n.visits, \
             revisit_round = n.revisit_round \
             FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bool[], $5::text[], \
             $6::timestamptz[], $7::text[], $8::bigint[], $9::bigint[]) \
             AS n (row, id, verdict, awaits_mail, body, revisit_at, revisit_vantage, visits, \
             revisit_round) \
             WHERE f.row = n.row",
        )
        .bind(rows.iter().map(|row| row.row).collect::<Vec<_>>());
        bind_findings(query, rows)?.execute(&mut *self.0).await?;
        Ok(())
    }

    async fn make_findings(
        &mut self,
        id: CampaignId,
        rows: &[&FindingRow],
    ) -> Result<BTreeMap<Key, i64>, Error> {
        if rows.is_empty() {
            return Ok(BTreeMap::new());
        }
        let findings = rows.iter().map(|row| &row.finding);
        let query = sqlx::query(
            "INSERT INTO findings (campaign, ip, port, probe, id, verdict, awaits_mail, body, \
             revisit_at, revisit_vantage, visits, revisit_round) \
             SELECT $1, ip, port, probe, id, verdict, awaits_mail, body::json, \
             revisit_at, revisit_vantage, visits, revisit_round \
             FROM unnest($2::inet[], $3::int[], $4::text[], $5::text[], $6::text[], $7::bool[], \
             $8::text[], $9::timestamptz[], $10::text[], $11::bigint[], $12::bigint[]) \
             AS n (ip, port, probe, id, verdict, awaits_mail, body, revisit_at, revisit_vantage, \
             visits, revisit_round) \
             ON CONFLICT (campaign, ip, port, probe) DO NOTHING RETURNING row, ip, port, probe",
        )
        .bind(id.to_string())
        .bind(findings.clone().map(|f| f.ip).collect::<Vec<_>>())
        .bind(
            findings
                .clone()
                .map(|f| i32::from(f.port))
                .collect::<Vec<_>>(),
        )
        .bind(findings.map(|f| f.probe.as_str()).collect::<Vec<_>>());
        let made = bind_findings(query, rows)?.fetch_all(&mut *self.0).await?;
        made.iter().map(made_row).collect()
    }

    async fn put_sightings(&mut self, sightings: &[Sighting]) -> Result<(), Error> {
        let bodies = sightings
            .iter()
            .map(|sighting| stored::to_json("a sighting", sighting))
            .collect::<Result<Vec<_>, _>>()?;
        sqlx::query(AssertSqlSafe(format!(
            "INSERT INTO sightings (nonce, received_at, egress_ip, body) \
             SELECT nonce, received_at, egress_ip, body::json \
             FROM unnest($1::text[], $2::timestamptz[], $3::inet[], $4::text[]) \
             AS s (nonce, received_at, egress_ip, body){KEEPS_EARLIER_SIGHTING}"
        )))
        .bind(
            sightings
                .iter()
                .map(|sighting| sighting.nonce.to_string())
                .collect::<Vec<_>>(),
        )
        .bind(
            sightings
                .iter()
                .map(|sighting| At(sighting.received_at))
                .collect::<Vec<_>>(),
        )
        .bind(
            sightings
                .iter()
                .map(|sighting| sighting.egress_ip)
                .collect::<Vec<_>>(),
        )
        .bind(bodies)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn keys_of_nonces(
        &mut self,
        nonces: &[Nonce],
    ) -> Result<Vec<(Nonce, CampaignId, Key)>, Error> {
        let rows = sqlx::query(
            "SELECT n.nonce, f.campaign, f.ip, f.port, f.probe FROM nonces n \
             JOIN findings f ON f.row = n.finding JOIN campaigns c ON c.id = f.campaign \
             WHERE n.nonce = ANY ($1)",
        )
        .bind(nonces.iter().map(Nonce::to_string).collect::<Vec<_>>())
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter().map(owner).collect()
    }

    async fn set_judged(&mut self, nonces: &[Nonce]) -> Result<(), Error> {
        self.set_on_sightings("judged = true, stray = false", nonces)
            .await
    }

    async fn set_stray(&mut self, nonces: &[Nonce]) -> Result<(), Error> {
        self.set_on_sightings("stray = true", nonces).await
    }

    async fn delete_sightings(&mut self, nonces: &[Nonce]) -> Result<(), Error> {
        sqlx::query(
            "DELETE FROM sightings s USING \
             (SELECT nonce FROM sightings WHERE nonce = ANY ($1) ORDER BY nonce FOR UPDATE) h \
             WHERE s.nonce = h.nonce",
        )
        .bind(nonces.iter().map(Nonce::to_string).collect::<Vec<_>>())
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn sightings(&mut self, nonces: &[Nonce]) -> Result<Vec<Sighting>, Error> {
        if nonces.is_empty() {
            return Ok(Vec::new());
        }
        let bodies: Vec<Document> =
            sqlx::query_scalar("SELECT body FROM sightings WHERE nonce = ANY ($1)")
                .bind(nonces.iter().map(Nonce::to_string).collect::<Vec<_>>())
                .fetch_all(&mut *self.0)
                .await?;
        let read = |body: &Document| stored::from_json("a sighting", &body.0);
        bodies.iter().map(read).collect()
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
            "INSERT INTO open_endpoints (campaign, ip, port) \
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

    async fn put_workers(&mut self, workers: &[SeenWorker]) -> Result<(), Error> {
        let (mut names, mut vantages, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for seen in workers {
            names.push(seen.worker.as_str());
            vantages.push(seen.vantage.as_str());
            times.push(At(seen.last_seen));
        }
        sqlx::query(
            "INSERT INTO workers (worker, vantage, last_seen) \
             SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[]) \
             ON CONFLICT (worker) DO UPDATE SET vantage = excluded.vantage, \
             last_seen = greatest(workers.last_seen, excluded.last_seen)",
        )
        .bind(names)
        .bind(vantages)
        .bind(times)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }
}

impl Tx {
    /// Locks them in the order of nonces, as whoever puts sightings does.
    async fn set_on_sightings(
        &mut self,
        what: &'static str,
        nonces: &[Nonce],
    ) -> Result<(), Error> {
        sqlx::query(AssertSqlSafe(format!(
            "UPDATE sightings s SET {what} FROM \
             (SELECT nonce FROM sightings WHERE nonce = ANY ($1) ORDER BY nonce FOR UPDATE) h \
             WHERE s.nonce = h.nonce"
        )))
        .bind(nonces.iter().map(Nonce::to_string).collect::<Vec<_>>())
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// Binds the columns that judging fills: id, verdict, awaits_mail, body, revisit_at, revisit_vantage, visits, revisit_round.
fn bind_findings<'q>(query: Query<'q>, rows: &[&'q FindingRow]) -> Result<Query<'q>, Error> {
    let bodies = rows
        .iter()
        .map(|row| stored::to_json("a finding", &row.finding))
        .collect::<Result<Vec<_>, _>>()?;
    let rows = rows.iter();
    let ids: Vec<&str> = rows.clone().map(|row| &*row.finding.id).collect();
    let verdicts = rows.clone().map(|row| row.finding.verdict.as_str());
    let mails = rows.clone().map(|row| row.awaits.mail);
    let visits = rows.clone().map(|row| i64::from(row.visits));
    let revisits = rows.map(|row| row.awaits.revisit.as_ref());
    let times = revisits.clone().map(|due| due.map(|due| At(due.at)));
    let vantages = revisits.clone().map(|due| due.map(|due| &*due.vantage));
    let rounds = revisits.map(|due| due.map_or(0, |due| i64::from(due.round)));
    Ok(query
        .bind(ids)
        .bind(verdicts.collect::<Vec<_>>())
        .bind(mails.collect::<Vec<_>>())
        .bind(bodies)
        .bind(times.collect::<Vec<_>>())
        .bind(vantages.collect::<Vec<Option<&str>>>())
        .bind(visits.collect::<Vec<_>>())
        .bind(rounds.collect::<Vec<_>>()))
}

/// Shards as columns, to be unnested.
fn columns(shards: &[ShardId]) -> Result<(Vec<String>, Vec<i64>), Error> {
    let campaigns = shards.iter().map(|shard| shard.campaign.to_string());
    let numbers = shards
        .iter()
        .map(|shard| signed("a shard's number", shard.number));
    Ok((campaigns.collect(), numbers.collect::<Result<_, _>>()?))
}
