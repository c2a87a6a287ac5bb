//! Which variants a mail server is offered, and in which order. Pure.

use std::collections::VecDeque;

use super::variant::{INDIRECT, Opening, Recipient, SENDERS, Sender, Variant};

/// Senders that the other recipients and openings are tried with.
const REPEATED_SENDERS: usize = 2;

/// What a server offers in its answer to EHLO.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offered {
    /// STARTTLS, on a connection that is not inside TLS yet.
    pub(super) starttls: bool,
    pub(super) smtputf8: bool,
    pub(super) xclient: bool,
    /// It asked for a certificate of ours.
    pub(super) asks_who: bool,
}

/// The order of variants: every sender with the plain recipient, then the other recipients, then the other openings, each with
/// senders that the server took. A yes to the plain recipient ends it: relaying is what is to be shown, with few messages. A
/// yes to another recipient ends that one alone, for it may have been taken for a local mailbox.
#[derive(Debug)]
pub(super) struct Plan {
    queue: VecDeque<Variant>,
    taken: Vec<Sender>,
    stage: Stage,
    offered: Offered,
}

/// What is in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Senders,
    Recipients,
    Openings,
}

impl Plan {
    /// A plan for a server that offers this.
    pub(super) fn new(offered: Offered) -> Self {
        let senders = SENDERS.into_iter();
        let senders = senders.filter(|sender| *sender != Sender::Utf8 || offered.smtputf8);
        let direct = senders.map(|sender| Variant {
            opening: Opening::Usual,
            recipient: Recipient::Direct,
            sender,
        });
        Self {
            queue: direct.collect(),
            taken: Vec::new(),
            stage: Stage::Senders,
            offered,
        }
    }

    /// The next variant.
    pub(super) fn take_next(&mut self) -> Option<Variant> {
        while self.queue.is_empty() {
            match self.stage {
                Stage::Senders => {
                    self.stage = Stage::Recipients;
                    let recipients = INDIRECT.map(|recipient| (Opening::Usual, recipient));
                    self.repeat(&recipients, &self.repeated());
                }
                Stage::Recipients => {
                    self.stage = Stage::Openings;
                    let openings = self.openings().map(|opening| (opening, Recipient::Direct));
                    let openings: Vec<_> = openings.collect();
                    let mut senders = self.repeated();
                    if senders.is_empty() {
                        // Who we said we were may be why none was taken.
                        senders = SENDERS[..REPEATED_SENDERS].to_vec();
                    }
                    self.repeat(&openings, &senders);
                }
                Stage::Openings => return None,
            }
        }
        self.queue.pop_front()
    }

    fn repeated(&self) -> Vec<Sender> {
        let taken = self.taken.iter().copied();
        taken.take(REPEATED_SENDERS).collect()
    }

    fn repeat(&mut self, ways: &[(Opening, Recipient)], senders: &[Sender]) {
        let variants = ways.iter().flat_map(|&(opening, recipient)| {
            senders.iter().map(move |&sender| Variant {
                opening,
                recipient,
                sender,
            })
        });
        self.queue.extend(variants);
    }

    fn openings(&self) -> impl Iterator<Item = Opening> + use<> {
        let Offered {
            starttls,
            xclient,
            asks_who,
            ..
        } = self.offered;
        [
            (Opening::Certificate, asks_who),
            (Opening::AsHost, true),
            (Opening::AsLocalhost, true),
            (Opening::AsLoopback, true),
            (Opening::Xclient, xclient),
            (Opening::Plain, starttls),
        ]
        .into_iter()
        .filter_map(|(opening, is_possible)| is_possible.then_some(opening))
    }

    /// True if every sender was tried with the plain recipient.
    pub(super) fn is_past_senders(&self) -> bool {
        self.stage != Stage::Senders
    }

    /// The server took the variant's sender.
    pub(super) fn took_sender(&mut self, variant: Variant) {
        if !self.taken.contains(&variant.sender) {
            self.taken.push(variant.sender);
        }
    }

    /// The server took a whole variant.
    pub(super) fn accepted(&mut self, variant: Variant) {
        match variant.recipient {
            Recipient::Direct => {
                self.queue.clear();
                self.stage = Stage::Openings;
            }
            taken => self.queue.retain(|next| next.recipient != taken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::variant::FIRST;

    const NOTHING: Offered = Offered {
        starttls: false,
        smtputf8: false,
        xclient: false,
        asks_who: false,
    };

    fn walk(offered: Offered, takes: impl Fn(Variant) -> bool) -> Vec<String> {
        let mut plan = Plan::new(offered);
        let mut walked = Vec::new();
        while let Some(variant) = plan.take_next() {
            if takes(variant) {
                plan.took_sender(variant);
            }
            walked.push(variant.name());
        }
        walked
    }

    #[test]
    fn all_senders_go_first_then_recipients_then_openings_with_senders_that_were_taken() {
        let walked = walk(NOTHING, |variant| variant.sender != Sender::External);
        assert_eq!(walked.len(), 12 + 20 * 2 + 3 * 2);
        assert_eq!(walked[0], FIRST.name());
        assert!(walked[..12].iter().all(|name| name.starts_with("direct/")));
        assert_eq!(
            walked[12..14],
            ["percent-hack/null", "percent-hack/recipient"]
        );
        assert_eq!(
            walked[52..54],
            ["as-host:direct/null", "as-host:direct/recipient"]
        );
    }

    #[test]
    fn what_a_server_does_not_offer_is_not_tried() {
        let all = Offered {
            starttls: true,
            smtputf8: true,
            xclient: true,
            asks_who: true,
        };
        let walked = walk(all, |_| true);
        for name in [
            "direct/utf8",
            "xclient:direct/external",
            "certificate:direct/external",
            "plain:direct/null",
        ] {
            assert!(walked.iter().any(|walked| walked == name), "{name}");
        }
        let walked = walk(NOTHING, |_| true);
        let offered = |name: &String| {
            name.contains("utf8")
                || name.contains("client")
                || name.contains("certificate")
                || name.contains("plain")
        };
        assert!(!walked.iter().any(offered), "{walked:?}");
    }

    #[test]
    fn a_server_that_takes_no_sender_is_not_offered_more_recipients() {
        assert_eq!(walk(NOTHING, |_| false).len(), 12 + 3 * 2);
    }

    #[test]
    fn a_yes_to_the_plain_recipient_ends_the_plan() {
        let mut plan = Plan::new(NOTHING);
        plan.took_sender(FIRST);
        plan.accepted(FIRST);
        assert_eq!(plan.take_next(), None);
    }

    #[test]
    fn a_yes_to_another_recipient_ends_that_one_alone() {
        let mut plan = Plan::new(NOTHING);
        let mut walked = Vec::new();
        while let Some(variant) = plan.take_next() {
            plan.took_sender(variant);
            if variant.recipient == Recipient::Quoted {
                plan.accepted(variant);
            }
            walked.push(variant.name());
        }
        assert_eq!(walked.len(), 12 + 20 * 2 - 1 + 3 * 2);
        let quoted = walked.iter().filter(|name| name.starts_with("quoted/"));
        assert_eq!(quoted.count(), 1);
    }
}
