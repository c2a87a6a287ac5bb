//! Which target is sent its SYN next, and which one has been silent for long enough. Pure: it is given the time.

use std::{collections::VecDeque, ops::Range, time::Duration};

use tokio::time::Instant;

/// Every target of a range is sent a SYN in order, and once more in each further pass if nothing is known of it by then.
#[derive(Debug)]
pub struct Passes {
    end: u64,
    wait: Duration,
    passes: Vec<Pass>,
    /// Targets before this one were handed out as settled.
    settled: u64,
}

/// One walk over the range, which follows the one before at a distance in time.
#[derive(Debug)]
struct Pass {
    next: u64,
    /// Targets before the number were sent their SYN by this time. Of those before `waited`, long ago.
    sent: VecDeque<(Instant, u64)>,
    waited: u64,
}

impl Passes {
    /// `attempts` walks, at least one. Answers are waited for as long as `wait`.
    pub fn new(range: Range<u64>, attempts: u32, wait: Duration) -> Self {
        let pass = || Pass {
            next: range.start,
            sent: VecDeque::new(),
            waited: range.start,
        };
        Self {
            end: range.end,
            wait,
            passes: (0..attempts.max(1)).map(|_| pass()).collect(),
            settled: range.start,
        }
    }

    /// True if a target is left that was never sent a SYN.
    pub fn is_starting(&self) -> bool {
        self.passes[0].next < self.end
    }

    /// True if a target may be sent a SYN now.
    pub fn is_due(&mut self, now: Instant) -> bool {
        self.look(now);
        (0..self.passes.len()).any(|at| self.passes[at].next < self.limit(at))
    }

    /// The next target to be sent a SYN, of which nothing is `known`, and which one it is for it, from 1; further passes go
    /// first. None if it is too early, or all is done.
    pub fn next(&mut self, now: Instant, known: impl Fn(u64) -> bool) -> Option<(u64, u32)> {
        self.look(now);
        for at in (0..self.passes.len()).rev() {
            let limit = self.limit(at);
            let pass = &mut self.passes[at];
            // A first pass has nobody to leave out, but for those who answered what was sent before a restart.
            while pass.next < limit && known(pass.next) {
                pass.next += 1;
            }
            if pass.next < limit {
                pass.next += 1;
                return Some((pass.next - 1, at as u32 + 1));
            }
        }
        None
    }

    /// Notes that everything that was handed out was sent by `now`.
    pub fn sent(&mut self, now: Instant) {
        for pass in &mut self.passes {
            let before = pass.sent.back().map_or(pass.waited, |(_, number)| *number);
            if pass.next > before {
                pass.sent.push_back((now, pass.next));
            }
        }
    }

    /// Every target before this one was sent its last SYN long enough ago.
    pub fn settled(&mut self, now: Instant) -> u64 {
        self.look(now);
        self.settled = self.waited();
        self.settled
    }

    /// When something else can be done than now; now if targets are to be settled; none if SYNs are due, or nothing is left.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let settles = (self.waited() > self.settled).then_some(now);
        let sent = self.passes.iter().filter_map(|pass| pass.sent.front());
        let sent = sent.map(|(at, _)| *at + self.wait);
        sent.chain(settles).min()
    }

    fn waited(&self) -> u64 {
        self.passes.last().map_or(self.end, |pass| pass.waited)
    }

    /// How far a pass may go by now.
    fn limit(&self, pass: usize) -> u64 {
        match pass.checked_sub(1) {
            None => self.end,
            Some(before) => self.passes[before].waited,
        }
    }

    fn look(&mut self, now: Instant) {
        for pass in &mut self.passes {
            while let Some((_, number)) = pass.sent.pop_front_if(|(at, _)| *at + self.wait <= now) {
                pass.waited = number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(1);

    fn due(passes: &mut Passes, now: Instant, known: &[u64]) -> Vec<u64> {
        let next = || passes.next(now, |number| known.contains(&number));
        let sent = std::iter::from_fn(next).map(|(number, _)| number).collect();
        passes.sent(now);
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_asked_again_and_settled_after_the_last_wait() {
        let start = Instant::now();
        let mut passes = Passes::new(10..15, 2, WAIT);
        assert_eq!(due(&mut passes, start, &[]), [10, 11, 12, 13, 14]);
        assert!(!passes.is_starting());
        assert_eq!(due(&mut passes, start + WAIT / 2, &[]), [0; 0]);
        assert_eq!(passes.settled(start + WAIT / 2), 10);
        assert_eq!(passes.due(start + WAIT / 2), Some(start + WAIT));
        assert_eq!(due(&mut passes, start + WAIT, &[11, 14]), [10, 12, 13]);
        assert_eq!(passes.settled(start + WAIT), 10);
        assert_eq!(passes.due(start + WAIT), Some(start + 2 * WAIT));
        // To look whether SYNs are due is not to settle.
        assert!(!passes.is_due(start + 2 * WAIT));
        assert_eq!(passes.due(start + 2 * WAIT), Some(start + 2 * WAIT));
        assert_eq!(passes.settled(start + 2 * WAIT), 15);
        assert_eq!(passes.due(start + 2 * WAIT), None);
        assert_eq!(due(&mut passes, start + 3 * WAIT, &[]), [0; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_pass_goes_on_while_the_first_one_does() {
        let start = Instant::now();
        let mut passes = Passes::new(0..1_000_000, 2, WAIT);
        let mut next = |now| passes.next(now, |_| false);
        assert_eq!((next(start), next(start)), (Some((0, 1)), Some((1, 1))));
        passes.sent(start);
        let mut next = |now| passes.next(now, |_| false);
        assert_eq!(next(start + WAIT), Some((0, 2)));
        assert_eq!(next(start + WAIT), Some((1, 2)));
        assert_eq!(next(start + WAIT), Some((2, 1)));
    }
}
