//! How far a campaign is: a bar on a terminal, a line every few seconds elsewhere.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use ajar_proto::v1;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two lines where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// Shows progress on standard error.
pub struct Display {
    bar: ProgressBar,
    on_terminal: bool,
    said: Instant,
    started: Instant,
    first: Option<u64>,
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
            started: Instant::now(),
            first: None,
        }
    }

    /// Shows where the campaign stands.
    pub fn show(&mut self, seen: &v1::WatchResponse) {
        let Some(progress) = &seen.progress else {
            return;
        };
        let done = done(progress);
        let first = *self.first.get_or_insert(done);
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let rate = (done - first.min(done)) as f64 / seconds;
        let text = describe(seen.state(), progress, done, rate);
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

    /// Removes the bar.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Targets that have their outcome.
fn done(progress: &v1::Progress) -> u64 {
    let tally = progress.tally.unwrap_or_default();
    ajar_model::Tally::from(tally).total()
}

fn describe(state: v1::CampaignState, progress: &v1::Progress, done: u64, rate: f64) -> String {
    let count = |verdict: &str| {
        let found = progress
            .verdicts
            .iter()
            .find(|count| count.verdict == verdict);
        found.map_or(0, |count| count.count)
    };
    let answered = progress.tally.unwrap_or_default().answered;
    let found = format!("{answered} answered, {} open", count("open"));
    if state == v1::CampaignState::Settling {
        return format!("{found}, waiting for mail of {}", progress.awaiting_mail);
    }
    let left = progress.targets.saturating_sub(done) as f64;
    let eta = match rate > 0.0 {
        true => format!(", {} left", clock(left / rate)),
        false => String::new(),
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
