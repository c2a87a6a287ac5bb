//! A mail to the canary before it is offered, and the replies to it.

use ajar_model::Nonce;

use super::{
    heard::Heard,
    mail::{After, Rcpt, Told},
    variant::Variant,
};

/// A mail to the canary, before it is offered.
pub(super) struct Draft {
    pub(super) sender: Vec<u8>,
    pub(super) author: Nonce,
    /// The canary's domain that its author is of.
    pub(super) from: String,
    pub(super) to: Vec<Addressed>,
    /// Whether a message goes with it.
    pub(super) is_letter: bool,
}

/// A recipient of a draft.
#[derive(Clone)]
pub(super) struct Addressed {
    pub(super) variant: Variant,
    pub(super) nonce: Nonce,
    pub(super) domain: String,
    pub(super) rcpt: Rcpt,
}

impl Addressed {
    /// Makes a recipient that gets no message.
    pub(super) fn alone(variant: Variant, nonce: Nonce, command: Vec<u8>) -> Self {
        Self {
            variant,
            nonce,
            domain: String::new(),
            rcpt: Rcpt {
                command,
                after: After::Anything,
                is_check: true,
            },
        }
    }
}

/// The replies to a draft.
pub(super) struct Offered {
    pub(super) sender_taken: bool,
    /// In the order of the draft's recipients.
    pub(super) told: Vec<Told>,
    /// Why there was no connection to go on with.
    pub(super) failed: Option<Heard>,
}

impl Offered {
    /// Returns the reply to a variant, or to the check on it.
    pub(super) fn said<'d>(
        &self,
        draft: &'d Draft,
        variant: Variant,
        is_check: bool,
    ) -> Option<(&'d Addressed, Heard)> {
        let mut both = draft.to.iter().zip(&self.told);
        let (to, told) =
            both.find(|(to, _)| to.variant == variant && to.rcpt.is_check == is_check)?;
        Some((to, told.heard()?))
    }
}
