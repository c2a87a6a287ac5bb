//! What is said on standard error: above a progress bar, and as JSON where logs are.

use std::{
    fmt::Display,
    io::{self, Write},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use ajar_model::Timestamp;
use indicatif::ProgressBar;
use serde_json::json;

/// The bar that is shown. What is written meanwhile goes above it.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);
/// Whether every line is a JSON object.
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// Makes every line a JSON object, as logs are.
pub fn as_json() {
    AS_JSON.store(true, Ordering::Relaxed);
}

/// Says a line, or several.
pub fn line(text: impl Display) {
    write("INFO", &text.to_string());
}

/// Says why the command failed. Of very long words the beginning is enough.
pub fn failure(text: impl Display) {
    write("ERROR", &shortened(&text.to_string()));
}

/// Returns a text with the beginnings of its very long words alone.
pub fn shortened(text: &str) -> String {
    /// Characters of a word that is shown whole: paths and URLs are shorter.
    const MOST: usize = 256;
    const SHOWN: usize = 80;
    let words = text
        .split(' ')
        .map(|word| match word.chars().count() > MOST {
            true => word.chars().take(SHOWN).chain(['…']).collect(),
            false => word.to_owned(),
        });
    words.collect::<Vec<String>>().join(" ")
}

/// Keeps what is written above a bar until [`forget_bar`].
pub fn show_bar(bar: &ProgressBar) {
    *BAR.lock().expect("no holder panics") = Some(bar.clone());
}

pub fn forget_bar() {
    *BAR.lock().expect("no holder panics") = None;
}

fn write(level: &str, text: &str) {
    let line = match AS_JSON.load(Ordering::Relaxed) {
        true => {
            let fields = json!({ "message": text.trim() });
            let now = Timestamp::now().to_string();
            json!({ "timestamp": now, "level": level, "fields": fields }).to_string()
        }
        false => text.to_owned(),
    };
    // Nobody is left to be told that standard error is closed.
    let _ = Above.write_all(format!("{line}\n").as_bytes());
}

/// Standard error, above the bar.
pub struct Above;

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bar = BAR.lock().expect("no holder panics").clone();
        match bar {
            Some(bar) => bar.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_very_long_word_is_cut_and_a_path_is_not() {
        let path = format!("/{}", "a".repeat(200));
        let said = shortened(&format!("{path} is not {}", "x".repeat(3000)));
        assert_eq!(said, format!("{path} is not {}…", "x".repeat(80)));
    }
}
