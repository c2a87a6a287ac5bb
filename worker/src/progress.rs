//! How far a shard is, although its targets end in any order.
//!
//! What is kept grows with the visits that go on and with the answers that came early, not with the targets: between two
//! visits that go on, everything is finished, and a tally of it is enough.

use std::collections::BTreeMap;

use ajar_model::{Ahead, Outcome, Tally};

/// Outcomes of the targets from the cursor on. The cursor moves up to the first visit that goes on.
///
/// Below the front, targets are finished or being visited. From the front on, nothing is known of a target unless it is
/// in the window.
#[derive(Debug)]
pub struct Progress {
    cursor: u64,
    front: u64,
    /// What was finished between the cursor and the first visit.
    finished: Tally,
    /// Visits below the front, each with what was finished between it and the next one.
    visits: BTreeMap<u64, Tally>,
    /// Targets from the front on: their outcome, or none while they are visited.
    window: BTreeMap<u64, Option<Outcome>>,
    /// A target got its outcome that was not told yet.
    has_news: bool,
}

/// A run of targets that all have their outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub from: u64,
    pub to: u64,
    /// The outcomes in between.
    pub tally: Tally,
}

impl Run {
    /// No target at all.
    pub fn none(cursor: u64) -> Self {
        Self {
            from: cursor,
            to: cursor,
            tally: Tally::default(),
        }
    }
}

impl Progress {
    /// Everything before `cursor` is done.
    pub fn new(cursor: u64) -> Self {
        Self {
            cursor,
            front: cursor,
            finished: Tally::default(),
            visits: BTreeMap::new(),
            window: BTreeMap::new(),
            has_news: false,
        }
    }

    /// Returns whether a target got its outcome since the last call of [`Self::ahead`].
    pub fn has_news(&self) -> bool {
        self.has_news
    }

    /// The number of the first target without an outcome, or behind one, when it was reported last.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// True if the target is being visited, or has its outcome.
    pub fn knows(&self, number: u64) -> bool {
        number < self.front || self.window.contains_key(&number)
    }

    /// True if the cursor could move.
    pub fn is_ready(&self) -> bool {
        self.finished.total() > 0
    }

    /// Where it would move to.
    pub fn ready_to(&self) -> u64 {
        self.cursor + self.finished.total()
    }

    /// Tells which targets beyond the cursor have their outcome.
    pub fn ahead(&mut self) -> Ahead {
        self.has_news = false;
        let mut all = self.finished;
        self.visits.values().for_each(|tally| all += *tally);
        let outcomes = self.window.values().flatten();
        outcomes.for_each(|outcome| all.count(*outcome));
        Ahead {
            finished: all.total(),
            answered: all.answered,
        }
    }

    /// Notes that a target is visited, of which nothing was known.
    pub fn begin(&mut self, number: u64) {
        self.window.insert(number, None);
        self.absorb();
    }

    /// Notes the outcome of a target that was visited, or of which nothing was known.
    pub fn finish(&mut self, number: u64, outcome: Outcome) {
        self.has_news = true;
        if number >= self.front {
            self.window.insert(number, Some(outcome));
            return self.absorb();
        }
        let mut tally = self.visits.remove(&number).unwrap_or_default();
        tally.count(outcome);
        *self.before(number) += tally;
    }

    /// Moves the front: every target before `to` of which nothing is known was silent.
    pub fn settle(&mut self, to: u64) {
        while let Some((&number, _)) = self.window.first_key_value()
            && number < to
        {
            self.silent_until(number);
            self.absorb();
        }
        self.silent_until(to);
        self.absorb();
    }

    /// Moves the front over targets that are known.
    fn absorb(&mut self) {
        while let Some(first) = self.window.first_entry()
            && *first.key() == self.front
        {
            match first.remove() {
                Some(outcome) => self.before(self.front).count(outcome),
                None => drop(self.visits.insert(self.front, Tally::default())),
            }
            self.front += 1;
        }
    }

    fn silent_until(&mut self, to: u64) {
        let silent = to.saturating_sub(self.front);
        self.has_news |= silent > 0;
        self.before(to).silent += silent;
        self.front = self.front.max(to);
    }

    /// The tally that a target of this number belongs to.
    fn before(&mut self, number: u64) -> &mut Tally {
        let visit = self.visits.range_mut(..number).next_back();
        visit.map_or(&mut self.finished, |(_, tally)| tally)
    }

    /// Moves the cursor as far as it goes; none if it stays.
    pub fn advance(&mut self) -> Option<Run> {
        let tally = std::mem::take(&mut self.finished);
        let from = self.cursor;
        self.cursor += tally.total();
        (self.cursor > from).then_some(Run {
            from,
            to: self.cursor,
            tally,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_behind_a_slow_target_is_news() {
        let mut progress = Progress::new(0);
        progress.begin(0);
        assert!(!progress.has_news());
        progress.settle(3);
        assert!(progress.has_news() && !progress.is_ready());
        assert_eq!(progress.ahead().finished, 2);
        assert!(!progress.has_news());
        progress.finish(3, Outcome::Refused);
        assert!(progress.has_news());
    }

    #[test]
    fn the_cursor_waits_for_the_slowest_target() {
        let mut progress = Progress::new(10);
        for number in 10..13 {
            progress.begin(number);
        }
        progress.finish(11, Outcome::Answered);
        progress.finish(12, Outcome::Refused);
        assert_eq!(progress.advance(), None);
        let ahead = progress.ahead();
        assert_eq!((ahead.finished, ahead.answered), (2, 1));
        progress.finish(10, Outcome::Answered);
        let run = progress.advance().unwrap();
        assert_eq!((run.from, run.to, run.tally.total()), (10, 13, 3));
        assert_eq!(
            (run.tally.answered, run.tally.silent, run.tally.refused),
            (2, 0, 1)
        );
        assert_eq!(progress.advance(), None);
    }

    #[test]
    fn who_never_answered_is_counted_as_silent_and_kept_nowhere() {
        let mut progress = Progress::new(0);
        progress.begin(500_000);
        progress.finish(7, Outcome::Refused);
        progress.finish(600_000, Outcome::Unreachable);
        assert!(progress.knows(7) && progress.knows(500_000) && !progress.knows(8));
        progress.settle(1_000_000);
        assert!(progress.knows(8));
        assert_eq!((progress.visits.len(), progress.window.len()), (1, 0));
        let run = progress.advance().unwrap();
        assert_eq!((run.from, run.to), (0, 500_000));
        assert_eq!((run.tally.silent, run.tally.refused), (499_999, 1));
        progress.finish(500_000, Outcome::Answered);
        let run = progress.advance().unwrap();
        assert_eq!((run.from, run.to), (500_000, 1_000_000));
        assert_eq!((run.tally.silent, run.tally.unreachable), (499_998, 1));
    }

    /// The same events, counted one by one.
    #[test]
    fn any_order_of_events_gives_every_target_its_outcome_once() {
        const OUTCOMES: [Outcome; 3] = [Outcome::Answered, Outcome::Refused, Outcome::Failed];
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let count = random.u64(1..60);
            let mut progress = Progress::new(0);
            let mut outcomes: Vec<Option<Outcome>> = vec![None; count as usize];
            let mut visited = Vec::new();
            let (mut front, mut reported) = (0, Tally::default());
            while progress.cursor() < count {
                let number = random.u64(0..count);
                match random.u8(0..4) {
                    0 if !progress.knows(number) => {
                        progress.begin(number);
                        visited.push(number);
                    }
                    1 if !progress.knows(number) => {
                        progress.finish(number, OUTCOMES[1]);
                        outcomes[number as usize] = Some(OUTCOMES[1]);
                    }
                    2 if !visited.is_empty() => {
                        let number = visited.swap_remove(random.usize(0..visited.len()));
                        let outcome = OUTCOMES[random.usize(0..3)];
                        progress.finish(number, outcome);
                        outcomes[number as usize] = Some(outcome);
                    }
                    _ => {
                        front = random.u64(front..=count);
                        progress.settle(front);
                        let silent = (0..front).filter(|n| !visited.contains(n));
                        silent.for_each(|n| {
                            outcomes[n as usize].get_or_insert(Outcome::Silent);
                        });
                    }
                }
                let known = outcomes.iter().flatten().count() as u64;
                assert_eq!(progress.ahead().finished, known - progress.cursor());
                let Some(run) = progress.advance() else {
                    continue;
                };
                let mut expect = Tally::default();
                for outcome in &outcomes[run.from as usize..run.to as usize] {
                    expect.count(outcome.expect("the cursor passed an unfinished target"));
                }
                assert_eq!(run.tally, expect);
                reported += run.tally;
            }
            assert_eq!(reported.total(), count);
        }
    }
}
