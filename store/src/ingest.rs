//! Observations and sightings in, findings out.
//!
//! Locks are taken in one order: shard, then the keys of findings, sorted.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ajar_model::{CampaignId, Finding, Nonce, Observation, Sighting, Timestamp};

use crate::{
    Advance, Batch, Error, Ingested,
    reconcile::{absorb, conclude, mail_nonces},
    rows::{Backend, FindingRow, Held, Key, Rows, ShardRow},
    stored,
};

/// Keys judged in one transaction where no batch sets the number.
const KEYS_AT_ONCE: usize = 500;

type Sightings = HashMap<Nonce, Sighting>;

/// See [`crate::Store::ingest`].
pub(crate) async fn ingest(backend: &dyn Backend, batch: &Batch) -> Result<Ingested, Error> {
    check(batch)?;
    let campaign = batch.shard.campaign;
    let fenced = Error::Fenced {
        shard: batch.shard,
        token: batch.token,
    };
    let mut tx = backend.write().await?;
    let Some(row) = tx.lock_shard(batch.shard).await? else {
        return Err(fenced);
    };
    if row.token != Some(batch.token) && !tx.token_issued(batch.shard, batch.token).await? {
        return Err(fenced);
    }
    let stale = report(tx.as_mut(), batch, row).await?;
    let (mut findings, sightings) = judge(tx.as_mut(), campaign, by_key(batch)).await?;
    tx.commit().await?;
    if backend.writes_overlap() {
        for late in judge_missed(backend, batch, &sightings).await? {
            findings.retain(|finding| finding.id != late.id);
            findings.push(late);
        }
    }
    Ok(Ingested { stale, findings })
}

/// See [`crate::Store::record_sighting`].
///
/// A sighting is visible before its observation is looked for, and an observation before its sightings are looked
/// for once more: whichever comes second sees the other.
pub(crate) async fn record_sighting(
    backend: &dyn Backend,
    sighting: &Sighting,
) -> Result<Option<Finding>, Error> {
    check_time(sighting.received_at)?;
    let sighting = Sighting {
        received_at: stored::to_micros(sighting.received_at),
        ..sighting.clone()
    };
    let mut tx = backend.write().await?;
    tx.put_sighting(&sighting).await?;
    tx.commit().await?;
    let keys = backend.read().await?.keys_of_nonce(sighting.nonce).await?;
    let mut changed = None;
    for (campaign, key) in keys {
        let findings = judge_again(backend, campaign, &[key]).await?;
        changed = changed.or(findings.into_iter().next());
    }
    Ok(changed)
}

/// See [`crate::Store::rejudge_sighted`].
pub(crate) async fn rejudge_sighted(
    backend: &dyn Backend,
    campaign: CampaignId,
) -> Result<Vec<Finding>, Error> {
    let keys = backend.read().await?.sighted_keys(campaign).await?;
    judge_again(backend, campaign, &keys).await
}

/// Judges known keys, which are sorted, on what is stored.
async fn judge_again(
    backend: &dyn Backend,
    campaign: CampaignId,
    keys: &[Key],
) -> Result<Vec<Finding>, Error> {
    let mut changed = Vec::new();
    for keys in keys.chunks(KEYS_AT_ONCE) {
        let known = keys.iter().map(|key| (key.clone(), Vec::new())).collect();
        let mut tx = backend.write().await?;
        let (findings, _) = judge(tx.as_mut(), campaign, known).await?;
        tx.commit().await?;
        changed.extend(findings);
    }
    Ok(changed)
}

/// Judges those of the batch's keys again whose sightings are other ones than when the batch was judged.
async fn judge_missed(
    backend: &dyn Backend,
    batch: &Batch,
    known: &Sightings,
) -> Result<Vec<Finding>, Error> {
    let owners: HashMap<Nonce, &Observation> = batch
        .observations
        .iter()
        .flat_map(|o| mail_nonces(&o.evidence).map(move |nonce| (nonce, o)))
        .collect();
    if owners.is_empty() {
        return Ok(Vec::new());
    }
    let nonces: Vec<Nonce> = owners.keys().copied().collect();
    let sightings = backend.read().await?.sightings(&nonces).await?;
    let missed: BTreeSet<Key> = sightings
        .iter()
        .filter(|sighting| known.get(&sighting.nonce) != Some(sighting))
        .filter_map(|sighting| owners.get(&sighting.nonce))
        .map(|observation| key_of(observation))
        .collect();
    let missed: Vec<Key> = missed.into_iter().collect();
    judge_again(backend, batch.shard.campaign, &missed).await
}

/// Takes observations in and judges their keys. Returns the findings that changed, and the sightings that were known.
async fn judge(
    tx: &mut dyn Rows,
    campaign: CampaignId,
    mut incoming: BTreeMap<Key, Vec<Observation>>,
) -> Result<(Vec<Finding>, Sightings), Error> {
    if incoming.is_empty() {
        return Ok(Default::default());
    }
    let bench = tx.bench(campaign).await?.ok_or_else(|| Error::Unknown {
        what: format!("campaign {campaign}"),
    })?;
    let keys: Vec<Key> = incoming.keys().cloned().collect();
    let mut held = tx.hold_findings(campaign, &keys).await?;
    let mut taken = BTreeSet::new();
    for held in &mut held {
        for observation in incoming.remove(&held.key).unwrap_or_default() {
            let vantage = observation.vantage.clone();
            if absorb(&mut held.observations, observation)? {
                taken.insert((held.row, vantage));
            }
        }
    }
    put_taken(tx, &held, &taken).await?;
    let sightings = sightings_of(tx, &held).await?;
    let changed: Vec<FindingRow> = held
        .iter()
        .filter_map(|held| {
            let (finding, awaits_mail) = conclude(&bench, &held.observations, &sightings)?;
            let row = held.row;
            (held.finding.as_ref() != Some(&finding)).then_some(FindingRow {
                row,
                finding,
                awaits_mail,
            })
        })
        .collect();
    tx.put_findings(&changed).await?;
    let findings = changed.into_iter().map(|row| row.finding).collect();
    Ok((findings, sightings))
}

async fn put_taken(
    tx: &mut dyn Rows,
    held: &[Held],
    taken: &BTreeSet<(i64, String)>,
) -> Result<(), Error> {
    let rows: Vec<(i64, &Observation)> = held
        .iter()
        .flat_map(|held| held.observations.values().map(|o| (held.row, o)))
        .filter(|(row, o)| taken.contains(&(*row, o.vantage.clone())))
        .collect();
    tx.put_observations(&rows).await?;
    let mut nonces: Vec<(Nonce, i64)> = rows
        .iter()
        .flat_map(|(row, o)| mail_nonces(&o.evidence).map(|nonce| (nonce, *row)))
        .collect();
    nonces.sort_unstable();
    nonces.dedup();
    tx.put_nonces(&nonces).await
}

async fn sightings_of(tx: &mut dyn Rows, held: &[Held]) -> Result<Sightings, Error> {
    let nonces: Vec<Nonce> = held
        .iter()
        .flat_map(|held| held.observations.values())
        .flat_map(|o| mail_nonces(&o.evidence))
        .collect();
    let sightings = tx.sightings(&nonces).await?;
    Ok(sightings.into_iter().map(|s| (s.nonce, s)).collect())
}

/// Notes the report on its shard. True where the progress that it asks for is not made.
async fn report(tx: &mut dyn Rows, batch: &Batch, row: ShardRow) -> Result<bool, Error> {
    let was_closed = row.closed;
    let mut row = ShardRow {
        reported_at: row.reported_at.max(Some(stored::to_micros(batch.now))),
        ..row
    };
    let made = match &batch.progress {
        Some(progress) => advance(&mut row, batch, progress)?,
        None => true,
    };
    if row.closed && !was_closed {
        tx.end_lease(batch.shard).await?;
    }
    tx.put_shard(batch.shard, &row).await?;
    Ok(!made)
}

/// Moves the shard's cursor. False where it may not; true also where it did at an earlier delivery of the batch.
fn advance(row: &mut ShardRow, batch: &Batch, progress: &Advance) -> Result<bool, Error> {
    if row.token != Some(batch.token) {
        return Ok(false);
    }
    if row.closed || row.cursor != progress.from {
        // Whoever holds the token began at or before `from`: a cursor past `to` was moved there by this.
        return Ok(row.cursor >= progress.to && (row.closed || progress.closes.is_none()));
    }
    row.cursor = progress.to;
    row.tally += progress.tally;
    let Some(expected) = progress.closes else {
        return Ok(true);
    };
    let counted = row.tally.total();
    if counted != expected {
        return Err(Error::Incomplete {
            shard: batch.shard,
            counted,
            expected,
        });
    }
    let token = row.token;
    *row = ShardRow {
        closed: true,
        ..std::mem::take(row).without_lease(token)
    };
    Ok(true)
}

fn check(batch: &Batch) -> Result<(), Error> {
    for observation in &batch.observations {
        if observation.campaign != batch.shard.campaign {
            return Err(Error::Invalid {
                what: "an observation",
                cause: format!(
                    "it is of campaign {}, reported for shard {}",
                    observation.campaign, batch.shard
                ),
            });
        }
        stored::name("a vantage point", &observation.vantage)?;
        stored::name("a probe's name", observation.probe.as_str())?;
        check_time(observation.started_at)?;
        check_time(observation.finished_at)?;
    }
    batch.progress.as_ref().map_or(Ok(()), check_progress)
}

/// PostgreSQL's calendar begins in 4713 BC, jiff's earlier; nothing honest happened before 1970.
fn check_time(at: Timestamp) -> Result<(), Error> {
    if at < Timestamp::UNIX_EPOCH {
        return Err(Error::Invalid {
            what: "a time",
            cause: format!("{at} is before 1970"),
        });
    }
    Ok(())
}

/// No slot has two outcomes; so the sums stay in range, and a move that is delivered twice is told from two moves.
fn check_progress(progress: &Advance) -> Result<(), Error> {
    let Advance {
        from, to, tally, ..
    } = progress;
    let fields = [
        tally.answered,
        tally.refused,
        tally.silent,
        tally.unreachable,
        tally.denied,
        tally.failed,
    ];
    let counted: u128 = fields.into_iter().map(u128::from).sum();
    let cause = match to.checked_sub(*from) {
        None => format!("it goes back from {from} to {to}"),
        Some(slots) if counted > u128::from(slots) => {
            format!("it counts {counted} outcomes from {from} to {to}")
        }
        Some(_) => return Ok(()),
    };
    Err(Error::Invalid {
        what: "a shard's progress",
        cause,
    })
}

fn by_key(batch: &Batch) -> BTreeMap<Key, Vec<Observation>> {
    let mut keys: BTreeMap<Key, Vec<Observation>> = BTreeMap::new();
    for observation in &batch.observations {
        keys.entry(key_of(observation))
            .or_default()
            .push(Observation {
                started_at: stored::to_micros(observation.started_at),
                finished_at: stored::to_micros(observation.finished_at),
                ..observation.clone()
            });
    }
    keys
}

fn key_of(observation: &Observation) -> Key {
    Key {
        ip: observation.endpoint.ip(),
        port: observation.endpoint.port(),
        probe: observation.probe.clone(),
    }
}
