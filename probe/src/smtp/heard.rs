//! What a mail server said of one mail, as far as the judge is told.

use ajar_model::Reply;

use super::{codec as smtp, weigh};

/// What a server said of one mail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) reply: Reply,
    /// The message was handed over.
    pub(super) sent: bool,
    /// It refused us, and not to relay.
    pub(super) turned_away: bool,
    /// It refused to relay, and said so.
    pub(super) denies_relaying: bool,
}

impl Heard {
    /// A refusal of our connection or our greeting. It is of us, since nothing was asked yet.
    pub(super) fn at_the_door(said: &smtp::Reply) -> Self {
        let reply = weigh::refusal(said);
        Self {
            turned_away: matches!(reply, Reply::Refused { .. }),
            ..Self::from(reply)
        }
    }

    pub(super) fn is_yes(self) -> bool {
        matches!(self.reply, Reply::Accepted { .. })
    }

    pub(super) fn is_later(self) -> bool {
        matches!(self.reply, Reply::Temporary { .. })
    }
}

impl From<Reply> for Heard {
    fn from(reply: Reply) -> Self {
        Self {
            reply,
            sent: false,
            turned_away: false,
            denies_relaying: false,
        }
    }
}
