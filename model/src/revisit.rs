//! Which endpoints are worth another visit, and when.
//!
//! Greylisting servers put every stranger off and let those in who come back (RFC 6647); a server that is busy, or
//! limits its clients, takes them later. A verdict on either rests on the visit that was let in. What is open is visited
//! again to be confirmed, see [`crate::confirmation`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    evidence::{Broken, Evidence, Reply},
    judge::Verdict,
    proof::Kind,
};

/// The longest that anybody is waited for, whatever they ask: a stranger's words must not hold a campaign up for days.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Added to what a server asks for, since it may count by whole seconds, and by another clock.
const GRACE: Duration = Duration::from_secs(2);

/// How much longer each wait is than the one before.
const GROWTH: u32 = 10;

/// Visits after the first one that a broken conversation is worth.
const AFTER_A_BREAK: u32 = 1;

/// How often, and how soon, endpoints are visited again; by default, never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revisits {
    /// Visits after the first one, at most; 0 for none.
    pub most: u32,
    /// Seconds to wait before the first of them, unless the endpoint names a time. Each further wait is ten times as long.
    pub after_secs: u32,
    /// Seconds after which what is open is visited once more, so that an owner can be told; none if it is not.
    #[serde(default)]
    pub confirm_after_secs: Option<u32>,
}

/// Rounds that may follow the one that looks for open doors: one for a door that was open at once,
/// and one more for a door that opened only while another was confirmed.
const CONFIRMING_ROUNDS: u32 = 2;

impl Revisits {
    /// Returns the number of the last visit that an endpoint may get, over all rounds and whatever
    /// asks for one.
    pub fn most_visits(&self) -> u32 {
        let rounds = match self.confirm_after_secs {
            Some(_) => 1 + CONFIRMING_ROUNDS,
            None => 1,
        };
        self.most.saturating_add(1).saturating_mul(rounds)
    }

    /// How long to wait after a visit, of this number from 1, before the next one; none if that would show nothing new or was
    /// done often enough. Until its endpoint is open, a mail server that puts us off is worth every visit, and so is whoever
    /// names a time; a conversation that broke, and so left us with nothing, is worth one.
    pub fn wait(&self, evidence: &Evidence, verdict: Verdict, visit: u32) -> Option<Duration> {
        let most = match verdict {
            Verdict::Open => return None,
            // A ban is respected.
            _ if evidence.shut_out_after.is_some() => return None,
            _ if is_put_off(evidence) => self.most,
            Verdict::Inconclusive if broke(evidence) => self.most.min(AFTER_A_BREAK),
            _ => return None,
        };
        if visit > most {
            return None;
        }
        let usual = || {
            let factor = GROWTH.saturating_pow(visit.saturating_sub(1));
            Duration::from_secs(self.after_secs.into()).saturating_mul(factor)
        };
        let stated = evidence.retry_after_secs;
        let stated = stated.map(|secs| Duration::from_secs(secs.into()).saturating_add(GRACE));
        Some(stated.unwrap_or_else(usual).min(LONGEST))
    }
}

/// True if it said: later. Of a mail that it took, it may say so of the check on that.
fn is_put_off(evidence: &Evidence) -> bool {
    let states = evidence.retry_after_secs.is_some();
    let is_later = |reply| matches!(reply, Reply::Temporary { .. });
    evidence.attempts.iter().any(|attempt| {
        let checks = evidence.controls.iter();
        let mut checks = checks.filter(|control| control.of == attempt.variant);
        let is_taken = matches!(attempt.reply, Reply::Accepted { .. });
        let waits = is_later(attempt.reply) || (is_taken && checks.any(|c| is_later(c.reply)));
        waits && (attempt.kind == Kind::Mail || states)
    })
}

/// True if a conversation ended for a reason that may pass.
fn broke(evidence: &Evidence) -> bool {
    let may_pass = |how| matches!(how, Broken::Closed | Broken::TimedOut | Broken::Connect);
    evidence.broken.is_some_and(may_pass)
        || evidence.attempts.iter().any(|attempt| match attempt.reply {
            Reply::Temporary { .. } => true,
            Reply::Broken { how } => may_pass(how),
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::{
        Attempt, Timestamp,
        evidence::Control,
        judge::judge,
        proof::{CanaryKey, Check},
    };

    const TWICE: Revisits = Revisits {
        most: 2,
        after_secs: 30,
        confirm_after_secs: None,
    };

    const NEVER: [u64; 0] = [];

    fn evidence(kind: Kind, reply: Reply, retry_after_secs: Option<u32>) -> Evidence {
        Evidence {
            retry_after_secs,
            attempts: vec![Attempt {
                variant: "v".to_owned(),
                kind,
                nonce: "00112233445566778899aabbccddeeff".parse().unwrap(),
                port: None,
                reply,
                sent: None,
                returns: false,
                turned_away: false,
                is_ignored: false,
                answer: None,
                at: Timestamp::UNIX_EPOCH,
            }],
            ..Evidence::default()
        }
    }

    /// Seconds to wait after the first visit, the second, and so on.
    fn waits(evidence: &Evidence) -> Vec<u64> {
        let key = CanaryKey::from(&SigningKey::from_bytes(&[3; 32]));
        let verdict = judge(evidence, &[], &key).verdict;
        let waits = (1..).map_while(|visit| TWICE.wait(evidence, verdict, visit));
        waits.map(|wait| wait.as_secs()).collect()
    }

    #[test]
    fn whoever_says_later_is_visited_later() {
        let later = Reply::Temporary { code: 450 };
        assert_eq!(waits(&evidence(Kind::Mail, later, None)), [30, 300]);
        assert_eq!(waits(&evidence(Kind::Mail, later, Some(5))), [7, 7]);
        assert_eq!(
            waits(&evidence(Kind::Mail, later, Some(u32::MAX))),
            [1800, 1800]
        );
        assert_eq!(waits(&evidence(Kind::Tunnel, later, None)), [30]);
        assert_eq!(waits(&evidence(Kind::Tunnel, later, Some(9))), [11, 11]);
    }

    #[test]
    fn whoever_decided_is_left_in_peace() {
        let refused = Reply::Refused { code: 550 };
        assert_eq!(waits(&evidence(Kind::Mail, refused, Some(5))), NEVER);
        let accepted = Reply::Accepted { code: 250 };
        assert_eq!(waits(&evidence(Kind::Mail, accepted, None)), NEVER);
        assert_eq!(waits(&Evidence::default()), NEVER);
        let later = evidence(Kind::Mail, Reply::Temporary { code: 450 }, None);
        let verdict = Verdict::Inconclusive;
        assert_eq!(Revisits::default().wait(&later, verdict, 1), None);
        assert_eq!(TWICE.wait(&later, Verdict::Open, 1), None);
    }

    #[test]
    fn a_mail_that_was_taken_waits_for_the_check_on_it() {
        let mut taken = evidence(Kind::Mail, Reply::Accepted { code: 250 }, None);
        taken.controls.push(Control {
            of: "v".to_owned(),
            check: Check::OtherDomain,
            nonce: "00112233445566778899aabbccddee00".parse().unwrap(),
            reply: Reply::Temporary { code: 450 },
            answer: None,
        });
        assert_eq!(waits(&taken), [30, 300]);
        taken.controls[0].of = "w".to_owned();
        assert_eq!(waits(&taken), NEVER);
    }

    #[test]
    fn what_broke_is_tried_once_more() {
        let broken = |how| Evidence {
            broken: Some(how),
            ..Evidence::default()
        };
        assert_eq!(waits(&broken(Broken::TimedOut)), [30]);
        assert_eq!(waits(&broken(Broken::Garbled)), NEVER);
        let how = Broken::Closed;
        assert_eq!(
            waits(&evidence(Kind::Fetch, Reply::Broken { how }, None)),
            [30]
        );
    }
}
