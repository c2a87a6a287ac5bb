//! Which observations stay, and what they amount to: pure, so that the order in which batches and
//! sightings are stored can be shown not to matter.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    time::Duration,
};

use ajar_model::{
    Finding, Nonce, Observation, Reply, Sighting, Timestamp, Verdict,
    confirmation::{self, Judged},
    evidence::{Attempt, Control, Evidence},
    judge::{Doubt, judge},
    proof::{Check, Kind},
};

use crate::{
    Error,
    rows::{Awaits, FindingRow, Held, JudgingKey, Revisit, Source},
    stored,
};

/// How long after a visit its mail proves anything. Relays give up after days; what comes later may
/// be anybody's who has read the nonce meanwhile.
const LATEST_MAIL: Duration = Duration::from_secs(30 * 24 * 3600);

/// Takes an observation in among those of its key, one for each vantage point and round. False if that changes nothing.
pub(crate) fn absorb(
    known: &mut BTreeMap<Source, Observation>,
    incoming: Observation,
) -> Result<bool, Error> {
    match known.entry(Source::of(&incoming)) {
        Entry::Vacant(place) => {
            place.insert(incoming);
            Ok(true)
        }
        Entry::Occupied(mut place) => {
            let folded = fold(place.get(), incoming)?;
            let changed = *place.get() != folded;
            place.insert(folded);
            Ok(changed)
        }
    }
}

/// The mails that an observation may still be proven by.
pub(crate) fn mail_nonces(evidence: &Evidence) -> impl Iterator<Item = Nonce> {
    let mails = evidence.attempts.iter();
    let mails = mails.filter(|attempt| attempt.kind == Kind::Mail);
    let others = evidence.controls.iter();
    let others = others.filter(|control| control.check == Check::OtherDomain);
    mails
        .map(|attempt| attempt.nonce)
        .chain(others.map(|control| control.nonce))
}

/// What the observations of one key amount to; none if there is no observation.
pub(crate) fn conclude(
    judging_key: &JudgingKey,
    held: &Held,
    sightings: &HashMap<Nonce, Sighting>,
) -> Option<FindingRow> {
    let (observations, visits) = (&held.observations, held.visits);
    let mut may_be_relayed = false;
    let judged: Vec<Judged> = observations
        .values()
        .map(|observation| {
            let latest = after(observation.finished_at, LATEST_MAIL);
            let seen: Vec<Sighting> = mail_nonces(&observation.evidence)
                .filter_map(|nonce| sightings.get(&nonce).cloned())
                .filter(|mail| mail.received_at <= latest)
                .collect();
            let judgement = judge(&observation.evidence, &seen, &judging_key.key);
            may_be_relayed |=
                judgement.doubt != Some(Doubt::LeadsToCanary) && was_mail_taken(observation);
            Judged {
                round: observation.round,
                finding: Finding::new(&judging_key.tenant, observation, judgement),
            }
        })
        .collect();
    let by_itself: Vec<Verdict> = judged.iter().map(|seen| seen.finding.verdict).collect();
    let (finding, due) = confirmation::conclude(judged)?;
    let visited = observations.values().zip(by_itself);
    let newest = visited.filter(|(o, _)| o.visit >= visits);
    let revisits = newest.filter_map(|(observation, by_itself)| {
        // What is open need not be asked again for what it has answered, but for what it is to confirm.
        let verdict = match observation.round {
            0 => finding.verdict,
            _ => by_itself,
        };
        let before = visits_before(observations, observation.round);
        let visit = observation.visit.saturating_sub(before).max(1);
        let evidence = &observation.evidence;
        let wait = judging_key.revisits.wait(evidence, verdict, visit)?;
        Some(Revisit {
            at: after(observation.finished_at, wait),
            vantage: observation.vantage.clone(),
            round: observation.round,
        })
    });
    let confirm_after = judging_key.revisits.confirm_after_secs;
    // A round is planned once. Its vantage point may be gone by then, and another one makes it.
    let confirmation = due
        .zip(confirm_after)
        .filter(|(due, _)| due.round > held.planned_round)
        .map(|(due, secs)| Revisit {
            at: after(due.since, Duration::from_secs(secs.into())),
            vantage: due.vantage,
            round: due.round,
        });
    Some(FindingRow {
        row: held.row,
        awaits: Awaits {
            mail: may_be_relayed && finding.verdict != Verdict::Open,
            revisit: revisits
                .chain(confirmation)
                .min()
                .filter(|_| visits.max(finding.attempts) < judging_key.revisits.most_visits()),
        },
        visits: visits.max(finding.attempts),
        finding,
    })
}

/// Visits that were made in the rounds before this one.
fn visits_before(observations: &BTreeMap<Source, Observation>, round: u32) -> u32 {
    let before = observations.values().filter(|o| o.round < round);
    before.map(|o| o.visit).max().unwrap_or_default()
}

fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// Two observations as one: the later one, with the attempts of both. A visit that broke early forgets nothing of the
/// visits before it, whose mail may still arrive.
fn fold(stored: &Observation, incoming: Observation) -> Result<Observation, Error> {
    let started_at = stored.started_at.min(incoming.started_at);
    let attempts = [stored, &incoming].map(|o| o.evidence.attempts.clone());
    let controls = [stored, &incoming].map(|o| o.evidence.controls.clone());
    let mut latest = match outranks(&incoming, stored)? {
        true => incoming,
        false => stored.clone(),
    };
    latest.started_at = started_at;
    latest.evidence.attempts = last_of_each(attempts.concat())?;
    latest.evidence.controls = best_of_each(controls.concat())?;
    Ok(latest)
}

/// Keeps one control of each check of each variant: best an answered one, then a taken, then a
/// decided.
fn best_of_each(controls: Vec<Control>) -> Result<Vec<Control>, Error> {
    let mut ranked = Vec::new();
    for control in controls {
        let text = stored::to_json("a control", &control)?;
        let taken = matches!(control.reply, Reply::Accepted { .. });
        let rank = (control.answer.is_some(), taken, control.is_decided(), text);
        ranked.push((rank, control));
    }
    ranked.sort_by(|one, other| one.0.cmp(&other.0));
    // The best of a key comes last, and stays.
    let key = |control: &Control| (control.of.clone(), control.check, control.nonce);
    let best: BTreeMap<_, _> = ranked.into_iter().map(|(_, c)| (key(&c), c)).collect();
    Ok(best.into_values().collect())
}

/// Keeps the last attempt of each variant, or the one that was answered, in the order in which they
/// ended. A message that any of them handed over may still arrive.
fn last_of_each(attempts: Vec<Attempt>) -> Result<Vec<Attempt>, Error> {
    let mut last: BTreeMap<(String, Nonce), (bool, Timestamp, String, Attempt)> = BTreeMap::new();
    let mut sent: BTreeMap<(String, Nonce), Option<bool>> = BTreeMap::new();
    for attempt in attempts {
        let variant = (attempt.variant.clone(), attempt.nonce);
        let any = sent.entry(variant.clone()).or_insert(attempt.sent);
        *any = either_sent(*any, attempt.sent);
        let text = stored::to_json("an attempt", &attempt)?;
        let ranked = (attempt.answer.is_some(), attempt.at, text, attempt);
        match last.entry(variant) {
            Entry::Vacant(place) => {
                place.insert(ranked);
            }
            Entry::Occupied(mut place) => {
                let (known, new) = (place.get(), &ranked);
                if (new.0, new.1, &new.2) > (known.0, known.1, &known.2) {
                    place.insert(ranked);
                }
            }
        }
    }
    let attempts = last.into_iter().map(|(variant, ranked)| Attempt {
        sent: sent[&variant],
        ..ranked.3
    });
    let mut attempts: Vec<Attempt> = attempts.collect();
    // Equal times keep the order of variants.
    attempts.sort_by_key(|attempt| attempt.at);
    Ok(attempts)
}

/// Whether one of two messages was handed over; unknown if an older version did not say.
fn either_sent(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (None, _) | (_, None) => None,
        (Some(false), Some(false)) => Some(false),
    }
}

fn was_mail_taken(observation: &Observation) -> bool {
    observation.evidence.attempts.iter().any(|attempt| {
        let was_taken = matches!(attempt.reply, Reply::Accepted { .. });
        attempt.kind == Kind::Mail && (was_taken || attempt.sent == Some(true))
    })
}

/// A total order but for `started_at` and the attempts, so that the winner among many is the same in whatever order they
/// come.
fn outranks(incoming: &Observation, stored: &Observation) -> Result<bool, Error> {
    let when = |o: &Observation| (o.finished_at, o.visit);
    if when(incoming) != when(stored) {
        return Ok(when(incoming) > when(stored));
    }
    let text = |o: &Observation| {
        let frame = Evidence {
            attempts: Vec::new(),
            controls: Vec::new(),
            ..o.evidence.clone()
        };
        stored::to_json("evidence", &frame)
    };
    Ok(text(incoming)? > text(stored)?)
}
