//! Which observations stay, and what they amount to: pure, so that the order in which batches and
//! sightings are stored can be shown not to matter.

use std::collections::{BTreeMap, HashMap, btree_map::Entry};

use ajar_model::{
    Finding, Nonce, Observation, Reply, Sighting, Verdict, evidence::Evidence, judge::judge,
    proof::Kind,
};

use crate::{Error, rows::Bench, stored};

/// Takes an observation in among those of its key, one for each vantage point. False where that changes nothing.
pub(crate) fn absorb(
    known: &mut BTreeMap<String, Observation>,
    incoming: Observation,
) -> Result<bool, Error> {
    match known.entry(incoming.vantage.clone()) {
        Entry::Vacant(place) => {
            place.insert(incoming);
            Ok(true)
        }
        Entry::Occupied(place) => replace(place.into_mut(), incoming),
    }
}

/// The mails that an observation may still be proven by.
pub(crate) fn mail_nonces(evidence: &Evidence) -> impl Iterator<Item = Nonce> {
    evidence
        .attempts
        .iter()
        .filter(|attempt| attempt.kind == Kind::Mail)
        .map(|attempt| attempt.nonce)
}

/// The finding that the observations of one key amount to, and whether a late mail may still prove it; none
/// where there is no observation.
pub(crate) fn conclude(
    bench: &Bench,
    observations: &BTreeMap<String, Observation>,
    sightings: &HashMap<Nonce, Sighting>,
) -> Option<(Finding, bool)> {
    let finding = observations
        .values()
        .map(|observation| {
            let seen: Vec<Sighting> = mail_nonces(&observation.evidence)
                .filter_map(|nonce| sightings.get(&nonce).cloned())
                .collect();
            let judgement = judge(&observation.evidence, &seen, &bench.key);
            Finding::new(&bench.tenant, observation, judgement)
        })
        .reduce(Finding::merge)?;
    let awaits =
        finding.verdict == Verdict::Unproven && observations.values().any(was_mail_accepted);
    Some((finding, awaits))
}

fn replace(stored: &mut Observation, incoming: Observation) -> Result<bool, Error> {
    let started_at = stored.started_at.min(incoming.started_at);
    let wins = outranks(&incoming, stored)?;
    let changed = wins || started_at != stored.started_at;
    if wins {
        *stored = incoming;
    }
    stored.started_at = started_at;
    Ok(changed)
}

fn was_mail_accepted(observation: &Observation) -> bool {
    observation.evidence.attempts.iter().any(|attempt| {
        attempt.kind == Kind::Mail && matches!(attempt.reply, Reply::Accepted { .. })
    })
}

/// A total order but for `started_at`, so that the winner among many is the same in whatever order they come.
fn outranks(incoming: &Observation, stored: &Observation) -> Result<bool, Error> {
    let when = |o: &Observation| (o.finished_at, o.visit);
    if when(incoming) != when(stored) {
        return Ok(when(incoming) > when(stored));
    }
    let text = |o: &Observation| stored::to_json("evidence", &o.evidence);
    Ok(text(incoming)? > text(stored)?)
}
