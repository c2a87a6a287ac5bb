//! Observations in, findings out.
//!
//! Locks are taken in one order: shard, its lease and what that ends (see `release`), then the keys
//! of findings that are new, sorted, then those that are known, sorted, then open endpoints, then
//! counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ajar_model::{
    Ahead, CampaignId, Exposure, Finding, Nonce, Observation, Service, Sighting, Timestamp,
};

use crate::{
    Advance, Batch, Error, Ingested, TOKEN_LIFE,
    counts::{Counts, slot},
    reconcile::{absorb, conclude, mail_nonces},
    release,
    rows::{Backend, FindingRow, Held, JudgingKey, Key, Rows, ShardRow, Source},
    stored,
};

/// Keys judged in one transaction if no batch sets the number.
pub(crate) const KEYS_AT_ONCE: usize = 500;

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
    if row.token != Some(batch.token) {
        let horizon = stored::cutoff(tx.now().await?, TOKEN_LIFE);
        let holder = tx.holder(batch.shard, batch.token).await?;
        let holder = holder.filter(|holder| holder.issued_at > horizon);
        holder.ok_or(fenced)?;
    }
    let mut counts = Counts::default();
    let stale = report(tx.as_mut(), batch, row, &mut counts).await?;
    let slot = slot(batch.shard.number);
    let (mut findings, sightings) =
        judge(tx.as_mut(), campaign, slot, by_key(batch), counts).await?;
    tx.commit().await?;
    if backend.writes_overlap() {
        for late in judge_missed(backend, batch, &sightings).await? {
            findings.retain(|finding| finding.id != late.id);
            findings.push(late);
        }
    }
    Ok(Ingested { stale, findings })
}

/// Judges known keys, which are sorted, on what is stored.
pub(crate) async fn judge_again(
    backend: &dyn Backend,
    campaign: CampaignId,
    keys: &[Key],
) -> Result<Vec<Finding>, Error> {
    let mut changed = Vec::new();
    for keys in keys.chunks(KEYS_AT_ONCE) {
        let known = keys.iter().map(|key| (key.clone(), Vec::new())).collect();
        let mut tx = backend.write().await?;
        let slot = slot(u64::from(keys[0].port));
        let (findings, _) = judge(tx.as_mut(), campaign, slot, known, Counts::default()).await?;
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

/// Takes observations in, judges their keys and adds to the campaign's counts. Returns the findings
/// that changed, and the sightings that were known.
async fn judge(
    tx: &mut dyn Rows,
    campaign: CampaignId,
    slot: i64,
    mut incoming: BTreeMap<Key, Vec<Observation>>,
    counts: Counts,
) -> Result<(Vec<Finding>, Sightings), Error> {
    if incoming.is_empty() {
        counts.put(tx, campaign, slot).await?;
        return Ok(Default::default());
    }
    let judging_key = tx
        .judging_key(campaign)
        .await?
        .ok_or_else(|| Error::Unknown {
            what: format!("campaign {campaign}"),
        })?;
    let mut judged = Judged {
        counts,
        ..Judged::default()
    };
    make_new(tx, campaign, &judging_key, &mut incoming, &mut judged).await?;
    if !incoming.is_empty() {
        judge_known(tx, campaign, &judging_key, incoming, &mut judged).await?;
    }
    judged.counts.put(tx, campaign, slot).await?;
    Ok((judged.findings, judged.sightings))
}

/// What came of judging.
#[derive(Debug, Default)]
struct Judged {
    findings: Vec<Finding>,
    /// Those that were known.
    sightings: Sightings,
    counts: Counts,
}

/// Makes the findings of keys that nothing is known of, which is most of what workers report, and takes them out of `incoming`.
async fn make_new(
    tx: &mut dyn Rows,
    campaign: CampaignId,
    judging_key: &JudgingKey,
    incoming: &mut BTreeMap<Key, Vec<Observation>>,
    judged: &mut Judged,
) -> Result<(), Error> {
    let mut new: Vec<Held> = Vec::new();
    // What was observed twice is folded, for which it is better known what was there before.
    for (key, observations) in incoming.iter_mut() {
        if let [_] = observations[..] {
            new.push(Held::new(key.clone(), observations.pop()));
        }
    }
    if new.is_empty() {
        return Ok(());
    }
    let sightings = sightings_of(tx, &new).await?;
    let rows = new
        .iter()
        .map(|held| conclude(judging_key, held, &sightings));
    let rows: Vec<Option<FindingRow>> = rows.collect();
    let concluded: Vec<&FindingRow> = rows.iter().flatten().collect();
    let made = tx.make_findings(campaign, &concluded).await?;
    let mut taken = BTreeSet::new();
    let mut held_new = Vec::new();
    for (mut held, row) in new.into_iter().zip(rows) {
        let (Some(number), Some(row)) = (made.get(&held.key), row) else {
            let observations = held.observations.into_values().collect();
            incoming.insert(held.key, observations);
            continue;
        };
        incoming.remove(&held.key);
        judged
            .counts
            .change(&held, row.finding.verdict, &row.awaits);
        judged.findings.push(row.finding);
        held.row = *number;
        taken.extend(
            held.observations
                .keys()
                .map(|source| (*number, source.clone())),
        );
        held_new.push(held);
    }
    put_taken(tx, campaign, &held_new, &taken).await?;
    judged.sightings.extend(sightings);
    Ok(())
}

/// Judges keys of which something may be known, with what is known of them.
async fn judge_known(
    tx: &mut dyn Rows,
    campaign: CampaignId,
    judging_key: &JudgingKey,
    mut incoming: BTreeMap<Key, Vec<Observation>>,
    judged: &mut Judged,
) -> Result<(), Error> {
    let keys: Vec<Key> = incoming.keys().cloned().collect();
    let mut held = tx.hold_findings(campaign, &keys).await?;
    let mut taken = BTreeSet::new();
    for held in &mut held {
        for observation in incoming.remove(&held.key).unwrap_or_default() {
            let source = Source::of(&observation);
            if absorb(&mut held.observations, observation)? {
                taken.insert((held.row, source));
            }
        }
    }
    put_taken(tx, campaign, &held, &taken).await?;
    let sightings = sightings_of(tx, &held).await?;
    let mut changed: Vec<FindingRow> = Vec::new();
    for held in &held {
        let Some(row) = conclude(judging_key, held, &sightings) else {
            continue;
        };
        if held.finding.as_ref() == Some(&row.finding) && held.awaits == row.awaits {
            continue;
        }
        let counts = &mut judged.counts;
        counts.change(held, row.finding.verdict, &row.awaits);
        changed.push(row);
    }
    tx.put_findings(&changed.iter().collect::<Vec<_>>()).await?;
    let findings = changed.into_iter().map(|row| row.finding);
    judged.findings.extend(findings);
    judged.sightings.extend(sightings);
    Ok(())
}

async fn put_taken(
    tx: &mut dyn Rows,
    id: CampaignId,
    held: &[Held],
    taken: &BTreeSet<(i64, Source)>,
) -> Result<(), Error> {
    let rows: Vec<(i64, &Observation)> = held
        .iter()
        .flat_map(|held| held.observations.values().map(|o| (held.row, o)))
        .filter(|(row, o)| taken.contains(&(*row, Source::of(o))))
        .collect();
    tx.put_observations(id, &rows).await?;
    let mut nonces: Vec<(Nonce, i64)> = rows
        .iter()
        .flat_map(|(row, o)| mail_nonces(&o.evidence).map(|nonce| (nonce, *row)))
        .collect();
    nonces.sort_unstable();
    nonces.dedup();
    tx.put_nonces(id, &nonces).await
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

/// Records the report on its shard. Returns whether the progress that it asks for is not made.
async fn report(
    tx: &mut dyn Rows,
    batch: &Batch,
    row: ShardRow,
    counts: &mut Counts,
) -> Result<bool, Error> {
    let before = row.tally.total();
    let was_closed = row.closed;
    let now = tx.now().await?;
    let mut row = ShardRow {
        reported_at: row.reported_at.max(Some(stored::to_micros(now))),
        ..row
    };
    let made = match &batch.progress {
        Some(progress) => advance(&mut row, batch, progress)?,
        None => true,
    };
    counts.lose(batch.lost_replies);
    if !row.is_revisit {
        counts.finish(row.tally.total() - before);
    }
    if row.token == Some(batch.token) && !row.closed {
        row.ahead = batch.ahead;
    }
    if row.closed && !was_closed {
        release::shard(tx, batch.shard).await?;
    }
    tx.put_shard(batch.shard, &row).await?;
    Ok(!made)
}

/// Moves the shard's cursor. False if it may not; true also if it did at an earlier delivery of the batch.
fn advance(row: &mut ShardRow, batch: &Batch, progress: &Advance) -> Result<bool, Error> {
    if row.token != Some(batch.token) {
        return Ok(false);
    }
    if row.closed || row.cursor != progress.from {
        // Whoever holds the token began at or before `from`: a cursor past `to` was moved there by this.
        return Ok(row.cursor >= progress.to && (row.closed || !progress.closes));
    }
    // Only a lease that an older version granted has no end.
    let Some(end) = row.to else {
        return Ok(false);
    };
    if progress.to > end {
        return Err(Error::Invalid {
            what: "a shard's progress",
            cause: format!("it goes to {}, and the shard ends at {end}", progress.to),
        });
    }
    if progress.to > row.cursor {
        (row.attempt, row.cause) = (0, None);
    }
    row.cursor = progress.to;
    row.tally += progress.tally;
    if !progress.closes {
        return Ok(true);
    }
    let (counted, expected) = (row.tally.total(), end - row.from);
    if counted != expected {
        return Err(Error::Incomplete {
            shard: batch.shard,
            counted,
            expected,
        });
    }
    (row.closed, row.ahead) = (true, Ahead::default());
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
        let evidence = &observation.evidence;
        let service = evidence.service.as_ref().map(Service::as_str);
        let exposure = evidence.exposure.as_ref().map(Exposure::as_str);
        for word in [service, exposure].into_iter().flatten() {
            check_word(word)?;
        }
        check_time(observation.started_at)?;
        check_time(observation.finished_at)?;
    }
    batch.progress.as_ref().map_or(Ok(()), check_progress)
}

/// The name of a protocol or an exposure goes into results as it is, known or not.
fn check_word(word: &str) -> Result<(), Error> {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    if (1..=64).contains(&word.len()) && word.bytes().all(is_plain) {
        return Ok(());
    }
    Err(Error::Invalid {
        what: "a protocol's name",
        cause: format!("{word:?} is not 1 to 64 of a-z, 0-9, - and _"),
    })
}

/// PostgreSQL's calendar begins in 4713 BC, jiff's earlier; nothing honest happened before 1970.
pub(crate) fn check_time(at: Timestamp) -> Result<(), Error> {
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
