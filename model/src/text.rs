//! Text that came from a target.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Text that a stranger chose. It has no `Display`: it reaches a terminal, a log or a table only
/// through [`Untrusted::clean`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Untrusted(String);

impl Untrusted {
    /// Takes at most `limit` bytes; what is not UTF-8 becomes U+FFFD.
    pub fn from_bytes(bytes: &[u8], limit: usize) -> Self {
        let bounded = &bytes[..bytes.len().min(limit)];
        Self(String::from_utf8_lossy(bounded).into_owned())
    }

    /// The text as it was received, for parsers and for storage.
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// The text with every character replaced by `?` that could move a cursor, start an escape sequence
    /// or reorder what is read: C0 and C1 controls, line and paragraph separators, bidirectional
    /// controls (Unicode UAX 9), zero-width and tag characters. Line ends at its end are dropped.
    pub fn clean(&self) -> String {
        self.0
            .trim_end_matches(['\r', '\n'])
            .chars()
            .map(|c| if is_hostile(c) { '?' } else { c })
            .collect()
    }
}

impl From<String> for Untrusted {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.clean(), f)
    }
}

/// Returns whether a character could move a cursor, start an escape sequence or reorder text.
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_do_not_survive_cleaning() {
        let hostile = Untrusted::from("220 \x1b]0;owned\x07\u{9b}2J \u{202e}moc".to_owned());
        assert_eq!(hostile.clean(), "220 ?]0;owned??2J ?moc");
        let lines = Untrusted::from("220 one\r\n220 two\r\n\r\n".to_owned());
        assert_eq!(lines.clean(), "220 one??220 two");
    }

    #[test]
    fn a_long_banner_is_cut_at_the_limit() {
        assert_eq!(Untrusted::from_bytes(&[b'a'; 5000], 512).raw().len(), 512);
    }
}
