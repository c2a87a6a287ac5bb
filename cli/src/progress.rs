//! How far a campaign is: a bar on a terminal, a line every few seconds elsewhere.

use std::{
    collections::{HashSet, VecDeque},
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use ajar_proto::v1;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two lines where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// The span that the shown rate is of.
const WINDOW: Duration = Duration::from_secs(15);

/// Shows progress on standard error.
pub struct Display {
    bar: ProgressBar,
    on_terminal: bool,
    said: Instant,
    /// How many targets were finished, and when, within the last [`WINDOW`].
    seen: VecDeque<(Instant, u64)>,
    /// Troubles that were shown.
    troubles: HashSet<String>,
}

impl Display {
    /// For a campaign of this many targets.
    pub fn new(targets: u64) -> Self {
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
        Self {
            bar,
            on_terminal,
            said: Instant::now(),
            seen: VecDeque::new(),
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
        // A worker that dies takes the news of targets beyond its cursor with it: they are visited again.
        let done = progress
            .finished
            .max(self.seen.back().map_or(0, |seen| seen.1));
        let rate = self.rate(done);
        let text = describe(seen.state(), progress, rate);
        self.bar.set_position(done);
        self.bar.set_message(text.clone());
        if !self.on_terminal && self.said.elapsed() >= EVERY {
            self.said = Instant::now();
            let _ = writeln!(
                std::io::stderr(),
                "{done}/{} targets, {text}",
                progress.targets
            );
        }
    }

    /// A line of its own, the first time that it is said.
    fn tell(&mut self, line: String) {
        if self.troubles.insert(line.clone()) {
            self.bar.suspend(|| {
                let _ = writeln!(std::io::stderr(), "{line}");
            });
        }
    }

    /// Targets a second, lately.
    fn rate(&mut self, done: u64) -> f64 {
        let now = Instant::now();
        self.seen.push_back((now, done));
        while self.seen.len() > 2 && now - self.seen[1].0 > WINDOW {
            self.seen.pop_front();
        }
        let (since, before) = self.seen[0];
        let seconds = (now - since).as_secs_f64();
        match seconds > 0.0 {
            true => done.saturating_sub(before) as f64 / seconds,
            false => 0.0,
        }
    }

    /// Removes the bar.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Why a worker gave a lease back.
pub fn trouble(trouble: &v1::Trouble) -> String {
    format!(
        "{} at {}: {}",
        trouble.worker, trouble.vantage, trouble.cause
    )
}

fn describe(state: v1::CampaignState, progress: &v1::Progress, rate: f64) -> String {
    let answered = progress.tally.unwrap_or_default().answered;
    let found = format!("{answered} answered, {} open", progress.open_endpoints);
    if state == v1::CampaignState::Settling {
        return format!("{found}, waiting for mail of {}", progress.awaiting_mail);
    }
    let left = progress.targets.saturating_sub(progress.finished);
    let eta = match (left, rate) {
        (0, _) => String::new(),
        // Nothing was finished lately: when it goes on is not known.
        (_, rate) if rate < 0.01 => format!(", waiting for {left}"),
        _ => format!(", {} left", clock(left as f64 / rate)),
    };
    format!("{rate:.0}/s, {found}{eta}")
}

fn clock(seconds: f64) -> String {
    let seconds = seconds.min(1e9) as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}
