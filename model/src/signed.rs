//! The answers and mails that the canary signed. No others count.

use std::collections::BTreeSet;

use crate::{
    evidence::{Attempt, Evidence},
    nonce::Nonce,
    proof::{Answer, CanaryKey, Sighting},
};

/// The answers and mails of one observation that its campaign's own canary signed. A signature
/// costs tens of microseconds to check, so each is checked once.
pub(crate) struct Signed<'a> {
    answers: Vec<&'a Answer>,
    mails: Vec<&'a Sighting>,
}

impl<'a> Signed<'a> {
    /// Checks the signatures of answers to attempts, and of mails with their nonces or with those
    /// of their checks.
    pub(crate) fn of(evidence: &'a Evidence, sightings: &'a [Sighting], key: &CanaryKey) -> Self {
        let answers = evidence.attempts.iter().filter_map(|attempt| {
            let answer = attempt.answer.as_ref()?;
            answer.proves(attempt.nonce, key).then_some(answer)
        });
        let attempts = evidence.attempts.iter().map(|attempt| attempt.nonce);
        let controls = evidence.controls.iter().map(|control| control.nonce);
        let nonces: BTreeSet<Nonce> = attempts.chain(controls).collect();
        // Anybody can run another canary.
        let mails = sightings
            .iter()
            .filter(|seen| nonces.contains(&seen.nonce) && seen.is_signed_by(key));
        Self {
            answers: answers.collect(),
            mails: mails.collect(),
        }
    }

    /// Returns the canary's answer to an attempt.
    pub(crate) fn answer<'b>(&self, attempt: &'b Attempt) -> Option<&'b Answer> {
        let answer = attempt.answer.as_ref()?;
        (answer.nonce == attempt.nonce && self.answers.contains(&answer)).then_some(answer)
    }

    /// Iterates over the mails with this nonce.
    pub(crate) fn mails(&self, nonce: Nonce) -> impl Iterator<Item = &Sighting> {
        let mails = self.mails.iter().copied();
        mails.filter(move |seen| seen.nonce == nonce)
    }
}
