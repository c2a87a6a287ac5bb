//! When a server that puts us off wants us back. No standard says how that is written; these are the ways of greylisting
//! servers in use (postgrey, milter-greylist, sqlgrey). Pure.

use std::time::Duration;

/// The first span of time that a text names, as `300 seconds`, `5min` or `00:05:00`. Only whole words count, so that no part of
/// an address is taken for one.
pub(super) fn stated(text: &str) -> Option<Duration> {
    let words = text.split_ascii_whitespace();
    let words: Vec<String> = words
        .map(|word| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()))
        .map(str::to_ascii_lowercase)
        .collect();
    let seconds = words.iter().enumerate().find_map(|(at, word)| {
        let digits = word.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = word.split_at(digits.unwrap_or(word.len()));
        match unit {
            "" => product(number, words.get(at + 1)?),
            unit if unit.starts_with(':') => clock(word),
            unit => product(number, unit),
        }
    })?;
    Some(Duration::from_secs(seconds))
}

fn product(number: &str, unit: &str) -> Option<u64> {
    let unit = match unit {
        "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600,
        _ => return None,
    };
    let number: u32 = number.parse().ok()?;
    Some(u64::from(number) * unit)
}

/// Hours, minutes and seconds.
fn clock(word: &str) -> Option<u64> {
    let mut parts = word.split(':').map(|part| part.parse::<u16>().ok());
    let mut next = || parts.next()?.map(u64::from);
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    parts
        .next()
        .is_none()
        .then_some(hours * 3600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_of_servers_in_use_are_read() {
        let check = |text: &str, seconds: u64| {
            assert_eq!(stated(text), Some(Duration::from_secs(seconds)), "{text}");
        };
        check(
            "4.2.0 <a@b.example>: Recipient address rejected: Greylisted for 300 seconds (see http://x/)",
            300,
        );
        check(
            "4.7.1 Greylisting in action, please come back in 00:04:59",
            299,
        );
        check("4.7.1 Greylisted for 5 minutes", 300);
        check("Try again in 5min.", 300);
        check("too many connections, wait 60s", 60);
        check("come back in (1 Hour)", 3600);
    }

    #[test]
    fn what_names_no_time_is_not_misread() {
        for text in [
            "",
            "4.2.0 Greylisted, try again later",
            "4.7.1 <12m@b.example>: try again",
            "4.3.2 Service currently unavailable; client [192.0.2.7]:25",
            "see http://h.example/?id=5m",
            "in 99999999999999999999 seconds",
            "at 12:30",
            "1:2:3:4 70000:0:0 :",
            "try again in a few minutes",
        ] {
            assert_eq!(stated(text), None, "{text}");
        }
    }
}
