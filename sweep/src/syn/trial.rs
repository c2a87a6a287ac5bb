//! Which of two ways to send SYNs is quicker here, found out by the first bursts, which take turns. Pure: it is told the times.

use std::time::Duration;

/// Bursts of each way that are compared.
const BURSTS: u32 = 16;
/// SYNs that a burst has at least if it counts: with fewer, the calls cost more than the packets.
const ENOUGH: u32 = 16;

/// How SYNs may leave this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Xdp,
    Raw,
}

/// Bursts that were measured so far.
#[derive(Debug, Default)]
pub struct Trial {
    xdp: Measured,
    raw: Measured,
}

/// Of one way: how many bursts there were, and the least time that one of them took for each SYN. The least, since whatever
/// else this machine does only adds to it.
#[derive(Debug, Default)]
struct Measured {
    bursts: u32,
    least: Option<Duration>,
}

/// What a SYN costs by each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub xdp: Duration,
    pub raw: Duration,
}

impl Verdict {
    pub fn quicker(&self) -> Way {
        match self.xdp <= self.raw {
            true => Way::Xdp,
            false => Way::Raw,
        }
    }
}

impl Trial {
    /// The way of the next burst.
    pub fn way(&self) -> Way {
        match self.xdp.bursts <= self.raw.bursts {
            true => Way::Xdp,
            false => Way::Raw,
        }
    }

    /// Learns that a burst of so many SYNs took `time` by its way. Once there were enough bursts, says what came out.
    pub fn took(&mut self, syns: u32, time: Duration) -> Option<Verdict> {
        if syns < ENOUGH {
            return None;
        }
        let measured = match self.way() {
            Way::Xdp => &mut self.xdp,
            Way::Raw => &mut self.raw,
        };
        let each = time / syns;
        measured.bursts += 1;
        measured.least = Some(measured.least.map_or(each, |least| least.min(each)));
        let enough = self.xdp.bursts.min(self.raw.bursts) >= BURSTS;
        enough.then_some(Verdict {
            xdp: self.xdp.least?,
            raw: self.raw.least?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of bursts of 100 SYNs, of which the first takes three times as long as all others.
    fn tried(xdp: Duration, raw: Duration) -> (u32, Verdict) {
        let mut trial = Trial::default();
        for burst in 0.. {
            let way = trial.way();
            let time = match way {
                Way::Xdp => xdp,
                Way::Raw => raw,
            };
            let slow = if burst < 2 { 3 } else { 1 };
            if let Some(verdict) = trial.took(100, time * slow) {
                return (burst + 1, verdict);
            }
        }
        unreachable!()
    }

    #[test]
    fn each_way_has_its_bursts_and_the_quicker_one_stays() {
        let (quick, slow) = (Duration::from_micros(40), Duration::from_micros(90));
        let (bursts, verdict) = tried(quick, slow);
        assert_eq!(bursts, 2 * BURSTS);
        let (xdp, raw) = (Duration::from_nanos(400), Duration::from_nanos(900));
        assert_eq!(verdict, Verdict { xdp, raw });
        assert_eq!(verdict.quicker(), Way::Xdp);
        assert_eq!(tried(slow, quick).1.quicker(), Way::Raw);
    }

    #[test]
    fn a_few_packets_say_nothing() {
        let mut trial = Trial::default();
        for _ in 0..100 {
            assert_eq!(trial.way(), Way::Xdp);
            assert_eq!(trial.took(3, Duration::from_micros(1)), None);
        }
    }
}
