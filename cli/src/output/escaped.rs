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

struct Escaped;

impl Formatter for Escaped {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_hostile) {
            let (before, after) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut chars = after.chars();
            let hostile = chars.next().unwrap_or_default();
            for unit in hostile.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
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
