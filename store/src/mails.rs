//! Stores sightings of mails, judges the findings that they prove, and keeps mails of no finding
//! until they are old.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use ajar_model::{CampaignId, Finding, Nonce, Sighting, Timestamp};

use crate::{
    Error, Recorded,
    ingest::{KEYS_AT_ONCE, check_time, judge_again},
    rows::{Backend, Key},
    stored,
};

/// See [`crate::Store::record_sightings`].
///
/// A sighting is visible before its observation is looked for, and an observation before its
/// sightings are looked for once more: whichever comes second sees the other.
pub(crate) async fn record_sightings(
    backend: &dyn Backend,
    sightings: &[Sighting],
) -> Result<Recorded, Error> {
    let mut earliest: BTreeMap<Nonce, Sighting> = BTreeMap::new();
    for sighting in sightings {
        check_time(sighting.received_at)?;
        let sighting = Sighting {
            received_at: stored::to_micros(sighting.received_at),
            ..sighting.clone()
        };
        let order = |sighting: &Sighting| (sighting.received_at, sighting.egress_ip);
        match earliest.entry(sighting.nonce) {
            Entry::Occupied(mut kept) if order(&sighting) < order(kept.get()) => {
                kept.insert(sighting);
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(place) => drop(place.insert(sighting)),
        }
    }
    let (nonces, sightings): (Vec<Nonce>, Vec<Sighting>) = earliest.into_iter().unzip();
    let mut tx = backend.write().await?;
    tx.put_sightings(&sightings).await?;
    tx.commit().await?;
    judge_nonces(backend, &nonces).await
}

/// See [`crate::Store::judge_sightings`].
pub(crate) async fn judge_sightings(backend: &dyn Backend) -> Result<Vec<Finding>, Error> {
    let nonces = backend.read().await?.unjudged(KEYS_AT_ONCE as u32).await?;
    Ok(judge_nonces(backend, &nonces).await?.changed)
}

/// Judges the findings of sighted nonces. A sighting that is of no finding yet stays unjudged.
async fn judge_nonces(backend: &dyn Backend, nonces: &[Nonce]) -> Result<Recorded, Error> {
    if nonces.is_empty() {
        return Ok(Recorded::default());
    }
    let mut known = BTreeSet::new();
    let mut keys: BTreeMap<CampaignId, BTreeSet<Key>> = BTreeMap::new();
    for (nonce, campaign, key) in backend.read().await?.keys_of_nonces(nonces).await? {
        known.insert(nonce);
        keys.entry(campaign).or_default().insert(key);
    }
    let mut changed = Vec::new();
    for (campaign, keys) in keys {
        let keys: Vec<Key> = keys.into_iter().collect();
        changed.extend(judge_again(backend, campaign, &keys).await?);
    }
    let (known, strays): (Vec<Nonce>, Vec<Nonce>) =
        nonces.iter().partition(|nonce| known.contains(nonce));
    let mut tx = backend.write().await?;
    tx.set_judged(&known).await?;
    tx.set_stray(&strays).await?;
    tx.commit().await?;
    Ok(Recorded { changed, strays })
}

/// See [`crate::Store::forget_sightings`].
pub(crate) async fn forget_sightings(
    backend: &dyn Backend,
    horizon: Timestamp,
    most: u32,
) -> Result<(), Error> {
    loop {
        let mut tx = backend.read().await?;
        let old = tx.old_strays(horizon, most, KEYS_AT_ONCE as u32).await?;
        if old.is_empty() {
            return Ok(());
        }
        let known = tx.keys_of_nonces(&old).await?;
        drop(tx);
        let known: BTreeSet<Nonce> = known.into_iter().map(|(nonce, ..)| nonce).collect();
        let (known, strays): (Vec<Nonce>, Vec<Nonce>) =
            old.iter().partition(|nonce| known.contains(nonce));
        let mut tx = backend.write().await?;
        tx.set_judged(&known).await?;
        tx.delete_sightings(&strays).await?;
        tx.commit().await?;
    }
}
