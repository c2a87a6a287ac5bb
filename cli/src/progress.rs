//! How far a campaign is: a bar on a terminal, a line every few seconds elsewhere.

use std::{
    collections::{HashSet, VecDeque},
    io::IsTerminal,
    time::{Duration, Instant},
};

use ajar_proto::v1;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::say;

/// Between two lines without a terminal.
const EVERY: Duration = Duration::from_secs(5);

/// The span that the shown rate is of.
const WINDOW: Duration = Duration::from_secs(15);

/// No target ended for so long, and for as long as [`MISSED`] of them take at the shown rate: what is left takes its own time.
const STILL: Duration = Duration::from_secs(2);
/// See [`STILL`].
const MISSED: f64 = 3.0;

/// Targets that ended lately, of which a rate can be told.
const ENOUGH: u64 = 2;

/// Whose progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Scan,
    /// A scan's, with shards and workers.
    Cluster,
    /// A sweep's, which looks for no doors.
    Sweep,
}

/// Shows progress on standard error.
pub struct Display {
    bar: ProgressBar,
    on_terminal: bool,
    said: Instant,
    meter: Meter,
    of: Of,
    /// Troubles that were shown.
    troubles: HashSet<String>,
}

impl Display {
    /// For a campaign of this many targets.
    pub fn new(targets: u64, of: Of) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            Some(targets),
            match on_terminal {
                true => ProgressDrawTarget::stderr(),
                false => ProgressDrawTarget::hidden(),
            },
        );
        let style = match std::env::var_os("NO_COLOR") {
            Some(_) => "{bar:30} {percent:>3}% {human_pos}/{human_len} {msg}",
            None => "{bar:30.cyan/blue} {percent:>3}% {human_pos}/{human_len} {msg}",
        };
        bar.set_style(ProgressStyle::with_template(style).expect("the template is a constant"));
        say::show_bar(&bar);
        Self {
            bar,
            on_terminal,
            said: Instant::now(),
            meter: Meter::default(),
            of,
            troubles: HashSet::new(),
        }
    }

    /// Shows where the campaign stands.
    pub fn show(&mut self, seen: &v1::WatchResponse) {
        let Some(progress) = &seen.progress else {
            return;
        };
        for trouble in progress.troubles.iter().map(trouble) {
            self.tell(trouble);
        }
        if progress.lost_replies > 0 {
            let lost =
                "replies to SYNs are lost: open ports may be missed, sweep at a lower --rate";
            self.tell(lost.to_owned());
        }
        if !progress.stopped.is_empty() {
            self.tell(format!(
                "{}; `ajar campaign start-again` lets it go on",
                progress.stopped
            ));
        }
        let mut text = self
            .meter
            .read(Instant::now(), seen.state(), progress, self.of);
        if self.of == Of::Cluster {
            text = format!("{text}; {}", cluster(progress));
        }
        self.bar.set_position(self.meter.finished);
        self.bar.set_message(text.clone());
        if !self.on_terminal && self.said.elapsed() >= EVERY {
            self.said = Instant::now();
            say::line(format_args!(
                "{}/{} targets, {text}",
                self.meter.finished, progress.targets
            ));
        }
    }

    /// A line of its own, the first time that it is said.
    fn tell(&mut self, line: String) {
        if self.troubles.insert(line.clone()) {
            say::line(line);
        }
    }

    /// Takes the bar away, and says what was counted.
    pub fn end(&self) {
        self.bar.finish_and_clear();
        say::forget_bar();
        if let Some(last) = &self.meter.last {
            say::line(last);
        }
    }
}

/// Turns looks at a campaign into a rate and the time that is left. What it counts never goes back: a worker that dies takes
/// the news of targets beyond its cursor with it, and they are visited again.
#[derive(Debug, Default)]
struct Meter {
    finished: u64,
    answered: u64,
    /// How many targets were finished, and when, within the last [`WINDOW`].
    looks: VecDeque<(Instant, u64)>,
    /// When a target was last seen to end, and the rate then.
    moved: Option<(Instant, f64)>,
    /// What was counted so far.
    last: Option<String>,
}

impl Meter {
    fn read(
        &mut self,
        now: Instant,
        state: v1::CampaignState,
        progress: &v1::Progress,
        of: Of,
    ) -> String {
        let moves = progress.finished > self.finished;
        self.finished = self.finished.max(progress.finished);
        self.answered = self.answered.max(progress.answered);
        let rate = self.rate(now);
        if moves {
            self.moved = Some((now, rate));
        }
        let found = match of {
            Of::Sweep => format!("{} answered", self.answered),
            Of::Scan | Of::Cluster => {
                format!(
                    "{} answered, {} open",
                    self.answered, progress.open_endpoints
                )
            }
        };
        self.last = Some(format!(
            "{}/{} targets, {found}",
            self.finished, progress.targets
        ));
        if state == v1::CampaignState::Settling {
            return format!("{found}, waiting for mail of {}", progress.awaiting_mail);
        }
        let left = progress.targets.saturating_sub(self.finished);
        if let (0, 0, Some(next)) = (left, progress.leased, progress.next_revisit) {
            let waiting = match progress.awaiting_revisit {
                1 => "1 finding".to_owned(),
                n => format!("{n} findings"),
            };
            let left = clock(next.seconds as f64);
            return format!("{found}, {waiting} to look at again in {left}");
        }
        if left == 0 {
            return format!("{rate:.0}/s, {found}");
        }
        let stands_still = self.moved.is_none_or(|(moved, rate)| {
            let quiet = now - moved;
            quiet >= STILL && quiet.as_secs_f64() * rate >= MISSED
        });
        if stands_still || self.ended() < ENOUGH {
            return format!("{found}, waiting for {left}");
        }
        format!(
            "{rate:.0}/s, {found}, {} left",
            clock((left as f64 / rate).ceil())
        )
    }

    /// Targets that ended within the window.
    fn ended(&self) -> u64 {
        self.finished - self.looks.front().map_or(0, |look| look.1)
    }

    /// Targets a second, lately.
    fn rate(&mut self, now: Instant) -> f64 {
        self.looks.push_back((now, self.finished));
        while self.looks.len() > 2 && now - self.looks[1].0 > WINDOW {
            self.looks.pop_front();
        }
        let (since, before) = self.looks[0];
        let seconds = (now - since).as_secs_f64();
        match seconds > 0.0 {
            true => (self.finished - before) as f64 / seconds,
            false => 0.0,
        }
    }
}

/// Who works on a campaign, how fast they may, and how late their results are.
fn cluster(progress: &v1::Progress) -> String {
    let results = match &progress.since_report {
        Some(since) => format!("last results {} ago", clock(since.seconds as f64)),
        None => "no results yet".to_owned(),
    };
    let workers = match progress.workers {
        1 => "1 worker".to_owned(),
        n => format!("{n} workers"),
    };
    format!(
        "{workers} leased {}/s of {}/s, {} of {} shards closed, {results}",
        progress.rate, progress.most_rate, progress.closed, progress.shards
    )
}

/// Why a worker gave a lease back.
pub fn trouble(trouble: &v1::Trouble) -> String {
    format!(
        "{} at {}: {}",
        trouble.worker, trouble.vantage, trouble.cause
    )
}

fn clock(seconds: f64) -> String {
    let seconds = seconds.min(1e9) as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown for looks at these tenths of a second: targets finished and answered, of 100.
    fn shown(looks: impl IntoIterator<Item = (u64, u64, u64)>) -> Vec<String> {
        let (start, mut meter) = (Instant::now(), Meter::default());
        let read = |(tenths, finished, answered)| {
            let progress = v1::Progress {
                targets: 100,
                finished,
                answered,
                ..v1::Progress::default()
            };
            let now = start + Duration::from_millis(100 * tenths);
            meter.read(now, v1::CampaignState::Running, &progress, Of::Scan)
        };
        looks.into_iter().map(read).collect()
    }

    #[test]
    fn the_time_left_follows_the_rate() {
        let lines = shown((0..=10).map(|tenths| (tenths, tenths, 1)));
        assert_eq!(lines[10], "10/s, 1 answered, 0 open, 9s left");
    }

    #[test]
    fn the_last_slow_targets_are_waited_for_not_promised() {
        // 97 at 10/s, then tarpits.
        let lines = shown((0..300).map(|tenths| (tenths, tenths.min(97), 0)));
        assert_eq!(lines[96], "10/s, 0 answered, 0 open, 1s left");
        let waiting = |line: &String| line == "0 answered, 0 open, waiting for 3";
        assert!(lines[117..].iter().all(waiting), "{lines:?}");
    }

    #[test]
    fn a_slow_scan_is_not_called_waiting_between_two_targets() {
        // One in four seconds.
        let lines = shown((0..400).map(|tenths| (tenths, tenths / 40, 0)));
        assert!(
            lines[200..].iter().all(|line| line.ends_with(" left")),
            "{lines:?}"
        );
    }

    #[test]
    fn a_cluster_shows_its_workers_and_how_late_their_results_are() {
        let progress = v1::Progress {
            workers: 2,
            rate: 380,
            most_rate: 500,
            closed: 3,
            shards: 10,
            ..v1::Progress::default()
        };
        let leased = "2 workers leased 380/s of 500/s, 3 of 10 shards closed";
        assert_eq!(cluster(&progress), format!("{leased}, no results yet"));
        let progress = v1::Progress {
            since_report: Some(ajar_proto::convert::duration_out(Duration::from_secs(64))),
            ..progress
        };
        assert_eq!(
            cluster(&progress),
            format!("{leased}, last results 1m04s ago")
        );
    }

    #[test]
    fn what_was_counted_stays_counted() {
        let lines = shown([(0, 50, 7), (10, 40, 5)]);
        assert_eq!(lines[1], "7 answered, 0 open, waiting for 50");
    }
}
