//! The effort that is spent on a mail server.

use serde::{Deserialize, Serialize};

/// The number of ways in which a mail server is asked to relay. Every refusal is an entry in its
/// log, and some servers ban a client after five. Each effort includes those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// The likeliest ways: at most five refusals, over two connections.
    Quick,
    /// Every way, each from one sender.
    #[default]
    Normal,
    /// The rarer ways from a second sender too.
    Full,
}

impl Effort {
    /// All efforts, the smallest first.
    pub const ALL: [Effort; 3] = [Effort::Quick, Effort::Normal, Effort::Full];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Effort::Quick => "quick",
            Effort::Normal => "normal",
            Effort::Full => "full",
        }
    }
}
