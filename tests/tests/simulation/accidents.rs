//! What goes wrong, by chance: so much, and then nothing more.

use std::time::Duration;

use ajar_model::{CampaignId, ShardId, signers::AllowedSigners};

use crate::{
    PEACE, boundary,
    hosts::{COORDINATORS, Site, WORKERS, number_of},
    store::Mood,
};

/// Something that is over at a time.
type Mending = (Duration, Box<dyn Fn(&mut turmoil::Sim<'static>)>);

pub struct Accidents {
    chance: fastrand::Rng,
    site: Site,
    campaigns: Vec<CampaignId>,
    next: Duration,
    mending: Vec<Mending>,
}

impl Accidents {
    pub fn new(seed: u64, site: Site, campaigns: Vec<CampaignId>) -> Self {
        Self {
            chance: fastrand::Rng::with_seed(seed),
            site,
            campaigns,
            next: Duration::from_secs(2),
            mending: Vec::new(),
        }
    }

    /// Lets happen what is due.
    pub fn step(&mut self, sim: &mut turmoil::Sim<'static>) {
        let now = boundary::elapsed();
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.mending)
            .into_iter()
            .partition(|(at, _)| *at <= now || now >= PEACE);
        self.mending = later;
        for (_, mend) in due {
            mend(sim);
        }
        if now >= self.next && now < PEACE {
            self.next = now + Duration::from_millis(self.chance.u64(200..5000));
            self.happen(sim, now);
        }
    }

    fn happen(&mut self, sim: &mut turmoil::Sim<'static>, now: Duration) {
        let log = self.site.log.clone();
        let worker = self.one(&WORKERS);
        let coordinator = self.one(&COORDINATORS);
        match self.chance.u32(..15) {
            0 | 1 => self.crash(sim, worker, now),
            2 => self.crash(sim, coordinator, now),
            3 | 4 => {
                log.add(format_args!("{worker} is cut off"));
                COORDINATORS.iter().for_each(|c| sim.partition(worker, *c));
                let mended = now + self.a_while(30);
                self.mend(mended, move |sim| {
                    log.add(format_args!("{worker} is back"));
                    COORDINATORS.iter().for_each(|c| sim.repair(worker, *c));
                });
            }
            5 => {
                log.add(format_args!("{worker} and {coordinator} are apart"));
                sim.partition(worker, coordinator);
                let mended = now + self.a_while(20);
                self.mend(mended, move |sim| sim.repair(worker, coordinator));
            }
            6 => {
                log.add(format_args!("what {worker} says is held up"));
                COORDINATORS.iter().for_each(|c| sim.hold(worker, *c));
                let mended = now + self.a_while(25);
                self.mend(mended, move |sim| {
                    COORDINATORS.iter().for_each(|c| sim.release(worker, *c));
                });
            }
            7 => {
                let notices = self.chance.bool();
                log.add(format_args!("the queue forgets all, notices: {notices}"));
                self.site.queue.forget(notices);
            }
            8 => {
                self.site.queue.keep();
                let queue = self.site.queue.clone();
                let (back, notices) = (now + self.a_while(15), self.chance.bool());
                self.mend(back, move |_| {
                    log.add(format_args!("the queue goes back, notices: {notices}"));
                    queue.go_back(notices);
                });
            }
            9 => {
                let forged: Vec<_> = (0..20).map(|_| self.made_up()).collect();
                log.add(format_args!("the queue is forged"));
                self.site.queue.forge(&forged);
            }
            10 => self.set_clock_wrong(worker, now),
            12 => self.set_clock_wrong(coordinator, now),
            11 => {
                log.add(format_args!("the queue is away"));
                self.site.queue.set_away(true);
                let (queue, back) = (self.site.queue.clone(), now + self.a_while(8));
                self.mend(back, move |_| queue.set_away(false));
            }
            13 => {
                // For less time than it takes until a campaign ends that every coordinator refuses.
                log.add(format_args!("{coordinator} accepts no signature"));
                let number = COORDINATORS.iter().position(|name| *name == coordinator);
                let (site, number) = (self.site.clone(), number.unwrap_or(0));
                site.files[number].send_replace(AllowedSigners::nobody("an empty file"));
                let back = now + self.a_while(15);
                self.mend(back, move |_| {
                    site.files[number].send_replace(site.signers.clone());
                });
            }
            _ => {
                let mood = Mood {
                    away: self.chance.bool(),
                    loses: self.chance.u32(2..6),
                };
                log.add(format_args!("the store: {mood:?}"));
                self.site.store.set_mood(mood);
                let (store, back) = (self.site.store.clone(), now + self.a_while(12));
                self.mend(back, move |_| store.set_mood(Mood::default()));
            }
        }
    }

    fn set_clock_wrong(&mut self, host: &'static str, now: Duration) {
        let wrong = self.chance.i64(-120..120);
        let log = &self.site.log;
        log.add(format_args!("{host}'s wall clock is wrong by {wrong} s"));
        boundary::set_wall_wrong(number_of(host), wrong);
        let right = now + self.a_while(30);
        self.mend(right, move |_| {
            boundary::set_wall_wrong(number_of(host), 0);
        });
    }

    fn crash(&mut self, sim: &mut turmoil::Sim<'static>, host: &'static str, now: Duration) {
        if !sim.is_host_running(host) {
            return;
        }
        let log = self.site.log.clone();
        log.add(format_args!("{host} crashes"));
        sim.crash(host);
        let mended = now + self.a_while(15);
        self.mend(mended, move |sim| {
            log.add(format_args!("{host} is started again"));
            sim.bounce(host);
        });
    }

    fn mend(&mut self, at: Duration, mend: impl Fn(&mut turmoil::Sim<'static>) + 'static) {
        self.mending.push((at, Box::new(mend)));
    }

    fn one(&mut self, hosts: &[&'static str]) -> &'static str {
        hosts[self.chance.usize(..hosts.len())]
    }

    fn a_while(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.chance.u64(100..most * 1000))
    }

    /// A shard that may be there, or not.
    fn made_up(&mut self) -> ShardId {
        let known = self.campaigns[self.chance.usize(..self.campaigns.len())];
        let unknown = CampaignId(self.chance.u128(..).into());
        ShardId {
            campaign: if self.chance.bool() { known } else { unknown },
            number: self.chance.u64(..12),
        }
    }
}
