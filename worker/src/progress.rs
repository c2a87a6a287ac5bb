//! How far a shard is, although its targets end in any order.

use std::collections::VecDeque;

use ajar_model::{Ahead, Outcome, Tally};

/// Outcomes of the targets from the cursor on. The cursor moves over an unbroken run of them.
#[derive(Debug)]
pub struct Progress {
    cursor: u64,
    outcomes: VecDeque<Option<Outcome>>,
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
            outcomes: VecDeque::new(),
        }
    }

    /// The targets beyond the cursor that have their outcome.
    pub fn ahead(&self) -> Ahead {
        let mut ahead = Ahead::default();
        for outcome in self.outcomes.iter().flatten() {
            ahead.finished += 1;
            ahead.answered += u64::from(*outcome == Outcome::Answered);
        }
        ahead
    }

    /// How many targets lie between the cursor and the farthest finished one.
    pub fn spread(&self) -> usize {
        self.outcomes.len()
    }

    /// The number of the first target without an outcome, or behind one.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Notes the outcome of a target. Panics if it is before the cursor.
    pub fn finish(&mut self, number: u64, outcome: Outcome) {
        let at = (number - self.cursor) as usize;
        if at >= self.outcomes.len() {
            self.outcomes.resize(at + 1, None);
        }
        self.outcomes[at] = Some(outcome);
    }

    /// Moves the cursor as far as it goes; none if it stays.
    pub fn advance(&mut self) -> Option<Run> {
        let from = self.cursor;
        let mut tally = Tally::default();
        while let Some(Some(outcome)) = self.outcomes.front().copied() {
            tally.count(outcome);
            self.outcomes.pop_front();
            self.cursor += 1;
        }
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
    fn the_cursor_waits_for_the_slowest_target() {
        let mut progress = Progress::new(10);
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
        progress.finish(14, Outcome::Silent);
        assert_eq!((progress.advance(), progress.spread()), (None, 2));
    }
}
