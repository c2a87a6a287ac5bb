//! When a campaign is run again and again: a cron expression, read in a time zone.

use std::{fmt, str::FromStr};

use cronexpr::{Crontab, MakeTimestamp};
use jiff::SignedDuration;

use crate::{Spec, Timestamp};

/// How late a run may start. If nobody was there to start it by then, it is left out.
pub const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// A campaign that is run again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    pub name: ScheduleName,
    pub times: Times,
    /// What each of its campaigns is asked to do.
    pub spec: Spec,
    pub created_at: Timestamp,
    /// True if nothing is started until it is resumed.
    pub paused: bool,
    /// Every time up to this one was dealt with.
    pub handled: Timestamp,
}

impl Schedule {
    /// What is to be done at `now`.
    pub fn due(&self, now: Timestamp) -> Due {
        match self.paused {
            true => Due::Nothing,
            false => self.times.due(self.handled, now),
        }
    }
}

/// The times of a schedule.
#[derive(Debug, Clone)]
pub struct Times {
    cron: String,
    time_zone: String,
    crontab: Crontab,
}

/// What a schedule has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Nothing,
    /// To start the run of this time, the latest one that has come.
    Run(Timestamp),
    /// To note that nobody was there at this time, and at all others more than [`GRACE`] ago.
    Missed(Timestamp),
}

/// Why an expression and a time zone are no times.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "{0:?} is no cron expression: it has five fields, minute, hour, day of month, month and day of week, as in \"0 3 * * 1\" for Mondays at 3:00"
    )]
    Fields(String),
    #[error("{expression:?} is no cron expression in a time zone: {cause}")]
    Wrong { expression: String, cause: String },
    #[error("{0:?} never comes")]
    Never(String),
}

impl Times {
    /// Five fields as in crontab(5), and a name of the IANA time zone database, such as `Europe/Berlin`. A time that the
    /// clock there leaves out in spring does not come; one that it repeats in autumn comes once.
    pub fn new(cron: &str, time_zone: &str) -> Result<Self, Error> {
        let fields: Vec<&str> = cron.split_whitespace().collect();
        if fields.len() != 5 || time_zone.split_whitespace().count() != 1 {
            return Err(Error::Fields(cron.to_owned()));
        }
        let cron = fields.join(" ");
        let expression = format!("{cron} {time_zone}");
        match cronexpr::parse_crontab(&expression) {
            Ok(crontab) => Ok(Self {
                cron,
                time_zone: time_zone.to_owned(),
                crontab,
            }),
            Err(error) => {
                // Its last line, after a caret that points into the line before.
                let error = error.to_string();
                let cause = error.lines().last().unwrap_or_default();
                let cause = cause.trim_start_matches([' ', '^']);
                let cause = cause.split(';').next().unwrap_or_default().to_owned();
                Err(Error::Wrong { expression, cause })
            }
        }
    }

    pub fn cron(&self) -> &str {
        &self.cron
    }

    pub fn time_zone(&self) -> &str {
        &self.time_zone
    }

    /// The first time after `at`.
    pub fn next(&self, at: Timestamp) -> Result<Timestamp, Error> {
        let never = |_| Error::Never(self.to_string());
        let mut after = MakeTimestamp::from_second(at.as_second()).map_err(never)?;
        loop {
            let next = self.crontab.find_next(after).map_err(never)?;
            let time = next.timestamp();
            let by_clock = next.time_zone().to_ambiguous_timestamp(next.datetime());
            if by_clock.earlier().is_ok_and(|first| first < time) {
                after = MakeTimestamp(time);
                continue;
            }
            let time = Timestamp::from_second(time.as_second());
            return time.map_err(|_| Error::Never(self.to_string()));
        }
    }

    /// What is to be done at `now`, if everything up to `handled` was dealt with.
    pub fn due(&self, handled: Timestamp, now: Timestamp) -> Due {
        let come = |after: Timestamp| self.next(after).ok().filter(|next| *next <= now);
        let Some(mut time) = come(handled) else {
            return Due::Nothing;
        };
        if now.duration_since(time) > GRACE {
            return Due::Missed(time);
        }
        while let Some(later) = come(time) {
            time = later;
        }
        Due::Run(time)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cron, self.time_zone)
    }
}

impl PartialEq for Times {
    fn eq(&self, other: &Self) -> bool {
        (&self.cron, &self.time_zone) == (&other.cron, &other.time_zone)
    }
}

impl Eq for Times {}

/// A schedule's name: up to 64 letters, digits, `.`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScheduleName(String);

impl fmt::Display for ScheduleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is no schedule's name.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no name of a schedule: up to 64 letters, digits, \".\", \"_\" and \"-\"")]
pub struct NotAScheduleName(String);

impl FromStr for ScheduleName {
    type Err = NotAScheduleName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        match (1..=64).contains(&text.len()) && text.chars().all(plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(NotAScheduleName(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn times(cron: &str, time_zone: &str) -> Times {
        Times::new(cron, time_zone).unwrap()
    }

    #[test]
    fn times_are_those_of_the_time_zones_clock() {
        let check = |cron: &str, time_zone: &str, after: &str, expect: &str| {
            let next = times(cron, time_zone).next(at(after)).unwrap();
            assert_eq!(next, at(expect), "{cron} {time_zone} after {after}");
        };
        let berlin = "Europe/Berlin";
        check(
            "0 3 * * 1",
            "UTC",
            "2026-11-27T15:00:00Z",
            "2026-11-30T03:00:00Z",
        );
        check(
            "0  3 * *  1",
            berlin,
            "2026-11-27T15:00:00Z",
            "2026-11-30T02:00:00Z",
        );
        check(
            "0 3 * * *",
            berlin,
            "2026-07-01T15:00:00Z",
            "2026-07-02T01:00:00Z",
        );
        // A time that is due is not the next one.
        check(
            "*/15 * * * *",
            "UTC",
            "2026-01-01T00:15:00Z",
            "2026-01-01T00:30:00Z",
        );
        check(
            "*/15 * * * *",
            "UTC",
            "2026-01-01T00:14:59.9Z",
            "2026-01-01T00:15:00Z",
        );
        check(
            "0 0 29 2 *",
            "UTC",
            "2026-01-01T00:00:00Z",
            "2028-02-29T00:00:00Z",
        );
    }

    #[test]
    fn a_time_that_the_clock_leaves_out_does_not_come_and_one_that_it_repeats_comes_once() {
        // On 2026-03-29 there is no 2:30 in Berlin, and on 2026-10-25 there are two.
        let night = times("30 2 * * *", "Europe/Berlin");
        for (from, until, expect) in [
            ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z", 0),
            ("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z", 1),
        ] {
            let mut runs = Vec::new();
            let mut time = at(from);
            while let Ok(next) = night.next(time)
                && next < at(until)
            {
                runs.push(next);
                time = next;
            }
            assert_eq!(runs.len(), expect, "{from}: {runs:?}");
        }
    }

    #[test]
    fn the_latest_time_is_run_and_what_is_long_past_is_missed() {
        let hourly = times("0 * * * *", "UTC");
        let due = |handled: &str, now: &str| hourly.due(at(handled), at(now));
        assert_eq!(
            due("2026-01-01T10:00:00Z", "2026-01-01T10:59:59Z"),
            Due::Nothing
        );
        let eleven = Due::Run(at("2026-01-01T11:00:00Z"));
        assert_eq!(due("2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z"), eleven);
        assert_eq!(due("2026-01-01T10:00:00Z", "2026-01-01T11:59:00Z"), eleven);
        assert_eq!(
            due("2026-01-01T10:00:00Z", "2026-01-01T12:30:00Z"),
            Due::Missed(at("2026-01-01T11:00:00Z"))
        );
        let often = times("*/10 * * * *", "UTC")
            .due(at("2026-01-01T10:00:00Z"), at("2026-01-01T10:35:00Z"));
        assert_eq!(often, Due::Run(at("2026-01-01T10:30:00Z")));
    }

    #[test]
    fn what_is_no_time_is_refused_with_a_cause() {
        let cause =
            |cron: &str, time_zone: &str| Times::new(cron, time_zone).unwrap_err().to_string();
        for (cron, time_zone, said) in [
            ("0 3 * *", "UTC", "five fields"),
            ("0 3 * * 1 2", "UTC", "five fields"),
            ("", "UTC", "five fields"),
            ("61 3 * * 1", "UTC", "0..=59"),
            ("0 3 * * 1", "Mars/Olympus", "Mars/Olympus"),
            ("a b c d e", "UTC", "no cron expression"),
        ] {
            let cause = cause(cron, time_zone);
            assert!(cause.contains(said) && !cause.contains('\n'), "{cause}");
        }
        let never = times("0 0 30 2 *", "UTC").next(at("2026-01-01T00:00:00Z"));
        assert_eq!(never, Err(Error::Never("0 0 30 2 * UTC".to_owned())));
    }

    #[test]
    fn names_are_short_and_plain() {
        let long = "a".repeat(65);
        for (text, expect) in [
            ("weekly.mx_1-a", true),
            ("", false),
            ("a b", false),
            (long.as_str(), false),
            ("ü", false),
        ] {
            assert_eq!(text.parse::<ScheduleName>().is_ok(), expect, "{text:?}");
        }
    }
}
