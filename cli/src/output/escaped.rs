//! JSON without raw characters that could move a cursor or reorder text.

use std::io::{self, Write};

use ajar_model::text::is_hostile;
use serde::Serialize;
use serde_json::{Serializer, ser::Formatter};

/// Writes a value in one line. Hostile characters of its texts are escaped (RFC 8259 section 7),
/// so that a reader gets the same text.
pub fn to_writer(out: impl Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Escaped))
}

/// Writes a value in several lines, with the same escapes.
pub fn to_writer_pretty(mut out: impl Write, value: &impl Serialize) -> serde_json::Result<()> {
    let pretty = serde_json::to_string_pretty(value)?;
    // Line feeds of texts are escaped already: the others are between values.
    let lines: Vec<String> = pretty.lines().map(escaped).collect();
    let written = out.write_all(lines.join("\n").as_bytes());
    written.map_err(serde_json::Error::io)
}

/// A part of a JSON text in which hostile characters are escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if !is_hostile(c) {
            escaped.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
    }
    escaped
}

struct Escaped;

impl Formatter for Escaped {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        writer.write_all(escaped(fragment).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_characters_are_escaped_and_read_back() {
        let banner = "220 \u{9b}2J \u{202e}moc\u{feff} \u{7f}\u{e0041} m\u{fc}ll \"q\"\n";
        let mut written = Vec::new();
        to_writer(&mut written, &banner).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert!(!written.contains(is_hostile), "{written:?}");
        assert!(written.contains("\\u009b2J \\u202emoc\\ufeff"), "{written}");
        assert!(written.contains("m\u{fc}ll"), "{written}");
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), banner);
    }
}
