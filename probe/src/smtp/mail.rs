//! A mail as commands, and the replies to them.

use ajar_model::Reply;

use super::heard::Heard;

/// Writes the message for the recipients with these indices.
pub(super) type Write<'w> = dyn Fn(&[usize]) -> Vec<u8> + Sync + 'w;

/// A mail, as commands.
pub(super) struct Mail<'a> {
    pub(super) sender: &'a [u8],
    pub(super) recipients: &'a [Rcpt],
    /// Without it the mail ends at RCPT.
    pub(super) message: Option<&'a Write<'a>>,
}

/// A recipient of a mail.
#[derive(Debug, Clone)]
pub(super) struct Rcpt {
    pub(super) command: Vec<u8>,
    pub(super) after: After,
    /// It checks the recipient before or after it, and gets a message only together with that one.
    pub(super) is_check: bool,
}

/// The reply to the recipient before that lets us ask for this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Anything,
    Yes,
    /// Yes or later.
    NotNo,
}

impl After {
    pub(super) fn allows(self, before: Option<Heard>) -> bool {
        let reply = before.map(|heard| heard.reply);
        let is_yes = matches!(reply, Some(Reply::Accepted { .. }));
        let is_later = matches!(reply, Some(Reply::Temporary { .. }));
        match self {
            After::Anything => true,
            After::Yes => is_yes,
            After::NotNo => is_yes || is_later,
        }
    }
}

/// The reply to a recipient.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    /// There is none so far.
    Nothing,
    /// There will be none, because of the reply to the recipient before.
    Skipped,
    /// The reply at the furthest step.
    Said(Heard),
}

impl Told {
    pub(super) fn heard(self) -> Option<Heard> {
        match self {
            Told::Said(heard) => Some(heard),
            Told::Nothing | Told::Skipped => None,
        }
    }
}

/// How far one mail got.
pub(super) struct Outcome {
    /// The server took the sender.
    pub(super) sender_taken: bool,
    /// The message was sent.
    pub(super) sent: bool,
    pub(super) connection: Connection,
}

/// The use of a connection after a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    /// Another mail.
    Good,
    /// Taking leave: the server will not forget the last mail, or has refused as much as we ask
    /// for on one connection.
    Spent,
    /// Nothing.
    Cut,
}
