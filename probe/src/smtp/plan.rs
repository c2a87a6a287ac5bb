//! The ways in which a mail server is asked to relay, and their order. Pure.

use std::collections::VecDeque;

use ajar_model::Effort;

use super::variant::{INDIRECT, Opening, Recipient, Sender, Variant};

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

/// A transaction: a sender and its recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) opening: Opening,
    pub(super) sender: Sender,
    pub(super) recipients: Vec<Recipient>,
}

impl Ask {
    /// Returns the variant of one of its recipients.
    pub(super) fn variant(&self, recipient: Recipient) -> Variant {
        Variant {
            opening: self.opening,
            recipient,
            sender: self.sender,
        }
    }
}

/// The order of transactions. The likeliest ways come first, since a server may shut us out after
/// a few refusals. A yes to the plain recipient ends the plan: one message shows relaying. A yes
/// to another recipient ends that recipient alone, for the server may have taken it for a local
/// mailbox.
#[derive(Debug)]
pub(super) struct Plan {
    queue: VecDeque<Planned>,
    taken: Vec<Sender>,
    /// The number of likeliest ways still to come.
    likeliest_left: usize,
}

#[derive(Debug, Clone)]
struct Planned {
    opening: Opening,
    from: From,
    recipients: Vec<Recipient>,
}

/// The sender of a planned transaction.
#[derive(Debug, Clone, Copy)]
enum From {
    This(Sender),
    /// The sender that the server took first (0) or second (1). If it took none, a plain recipient
    /// is asked for from the usual sender, and the rarer recipients not at all.
    Taken(usize),
}

/// The number of ways at the smallest effort.
const LIKELIEST: usize = 5;

impl Plan {
    /// Makes a plan for a server with these offers and so many names of its own.
    pub(super) fn new(offered: Offered, names: usize, effort: Effort) -> Self {
        let mut queue = VecDeque::from(likeliest(names));
        if effort >= Effort::Normal {
            queue.extend(further(offered, names));
        }
        if effort >= Effort::Full {
            queue.extend(rarer(offered, 1));
        }
        Self {
            likeliest_left: queue.len().min(LIKELIEST),
            queue,
            taken: Vec::new(),
        }
    }

    /// Returns the next transaction.
    pub(super) fn take_next(&mut self) -> Option<Ask> {
        loop {
            let next = self.queue.pop_front()?;
            self.likeliest_left = self.likeliest_left.saturating_sub(1);
            let is_plain = next.recipients == [Recipient::Direct];
            let sender = match next.from {
                From::This(sender) => Some(sender),
                From::Taken(0) if is_plain && self.taken.is_empty() => Some(Sender::External),
                From::Taken(nth) => self.taken.get(nth).copied(),
            };
            if let (Some(sender), false) = (sender, next.recipients.is_empty()) {
                return Some(Ask {
                    opening: next.opening,
                    sender,
                    recipients: next.recipients,
                });
            }
        }
    }

    /// Returns whether all likeliest ways were taken from the plan.
    pub(super) fn is_past_likeliest(&self) -> bool {
        self.likeliest_left == 0
    }

    /// Notes that the server took a sender.
    pub(super) fn took_sender(&mut self, sender: Sender) {
        if !self.taken.contains(&sender) {
            self.taken.push(sender);
        }
    }

    /// Notes that the server took this recipient, and may relay to it.
    pub(super) fn accepted(&mut self, recipient: Recipient) {
        if recipient == Recipient::Direct {
            return self.queue.clear();
        }
        for planned in &mut self.queue {
            planned.recipients.retain(|next| *next != recipient);
        }
    }
}

fn direct(opening: Opening, sender: Sender) -> Planned {
    Planned {
        opening,
        from: From::This(sender),
        recipients: vec![Recipient::Direct],
    }
}

/// A stranger, its own domain, loopback's name, no sender, and the oldest trick.
fn likeliest(names: usize) -> Vec<Planned> {
    let own = names.checked_sub(1).map(|last| Sender::Own(last.min(1)));
    let own = own.map(|own| direct(Opening::Usual, own));
    let mut ways = vec![direct(Opening::Usual, Sender::External)];
    ways.extend(own);
    ways.push(direct(Opening::AsLocalhost, Sender::External));
    ways.push(direct(Opening::Usual, Sender::Null));
    ways.push(Planned {
        opening: Opening::Usual,
        from: From::Taken(0),
        recipients: vec![Recipient::PercentHost],
    });
    ways
}

/// Every other sender, the other names by which we introduce ourselves, and every other recipient.
fn further(offered: Offered, names: usize) -> impl Iterator<Item = Planned> {
    let asked = names.saturating_sub(1).min(1);
    let others = (0..names).filter(move |nth| *nth != asked);
    let others = others.map(Sender::Own);
    let senders = (0..names.min(1)).map(Sender::Postmaster);
    let senders = senders.chain([Sender::AtLiteral, Sender::Localhost]);
    let senders = senders
        .chain(others)
        .chain((1..names).map(Sender::Postmaster));
    let senders = senders.chain([
        Sender::Recipient,
        Sender::Local,
        Sender::Subdomain,
        Sender::LoopbackV6,
    ]);
    let bang = (names > 0).then_some(Sender::Bang);
    let utf8 = offered.smtputf8.then_some(Sender::Utf8);
    let senders = senders.chain(bang).chain(utf8);
    senders
        .map(|sender| direct(Opening::Usual, sender))
        .chain(rarer(offered, 0))
}

/// Recipients and openings that are tried from a sender which the server took.
fn rarer(offered: Offered, nth: usize) -> impl Iterator<Item = Planned> {
    let Offered {
        starttls,
        xclient,
        asks_who,
        ..
    } = offered;
    let indirect = Planned {
        opening: Opening::Usual,
        from: From::Taken(nth),
        recipients: match nth {
            // It was among the likeliest.
            0 => INDIRECT
                .into_iter()
                .filter(|form| *form != Recipient::PercentHost)
                .collect(),
            _ => INDIRECT.to_vec(),
        },
    };
    let openings = [
        (Opening::AsHost, true),
        (Opening::AsLoopback, true),
        (Opening::AsLocalhost, nth > 0),
        (Opening::Certificate, asks_who),
        (Opening::Xclient, xclient),
        (Opening::Plain, starttls),
    ];
    let openings = openings.into_iter().filter(|(_, is_possible)| *is_possible);
    let openings = openings.map(move |(opening, _)| Planned {
        opening,
        from: From::Taken(nth),
        recipients: vec![Recipient::Direct],
    });
    std::iter::once(indirect).chain(openings)
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

    const ALL: Offered = Offered {
        starttls: true,
        smtputf8: true,
        xclient: true,
        asks_who: true,
    };

    /// The names of all variants, in their order.
    fn walk(mut plan: Plan, takes: impl Fn(Sender) -> bool) -> Vec<String> {
        let mut walked = Vec::new();
        while let Some(ask) = plan.take_next() {
            if takes(ask.sender) {
                plan.took_sender(ask.sender);
            }
            let recipients = ask.recipients.iter();
            walked.extend(recipients.map(|&recipient| ask.variant(recipient).name()));
        }
        walked
    }

    #[test]
    fn the_likeliest_ways_go_first() {
        let quick = walk(Plan::new(NOTHING, 2, Effort::Quick), |_| true);
        let likeliest = [
            "direct/external",
            "direct/domain",
            "as-localhost:direct/external",
            "direct/null",
            "percent-hack-host/external",
        ];
        assert_eq!(quick, likeliest);
        let normal = walk(Plan::new(NOTHING, 2, Effort::Normal), |_| true);
        assert_eq!(normal[..5], likeliest);
        assert_eq!(normal[0], FIRST.name());
        assert_eq!(
            normal[5..9],
            [
                "direct/postmaster",
                "direct/literal",
                "direct/localhost",
                "direct/host"
            ]
        );
        assert_eq!(normal.len(), 5 + 10 + 19 + 2);
        let full = walk(Plan::new(NOTHING, 2, Effort::Full), |_| true);
        assert_eq!(full[..normal.len()], normal);
        assert_eq!(full.len(), normal.len() + 20 + 3);
    }

    #[test]
    fn every_way_is_asked_for_once() {
        for names in 0..=4 {
            let mut walked = walk(Plan::new(ALL, names, Effort::Full), |_| true);
            let all = walked.len();
            walked.sort();
            walked.dedup();
            assert_eq!(walked.len(), all, "{names} names");
        }
    }

    #[test]
    fn what_a_server_does_not_offer_is_not_tried() {
        let walked = walk(Plan::new(ALL, 1, Effort::Normal), |_| true);
        for name in [
            "direct/utf8",
            "xclient:direct/external",
            "certificate:direct/external",
            "plain:direct/external",
        ] {
            assert!(walked.iter().any(|walked| walked == name), "{name}");
        }
        let walked = walk(Plan::new(NOTHING, 1, Effort::Full), |_| true);
        let offered = |name: &String| {
            ["utf8", "client", "certificate", "plain"]
                .iter()
                .any(|word| name.contains(word))
        };
        assert!(!walked.iter().any(offered), "{walked:?}");
    }

    #[test]
    fn a_server_that_takes_no_sender_is_not_offered_more_recipients() {
        let walked = walk(Plan::new(NOTHING, 0, Effort::Full), |_| false);
        assert!(
            walked.iter().all(|name| name.contains("direct/")),
            "{walked:?}"
        );
        assert!(walked.contains(&"as-host:direct/external".to_owned()));
    }

    #[test]
    fn a_yes_to_the_plain_recipient_ends_the_plan_and_another_its_own_alone() {
        let mut plan = Plan::new(NOTHING, 1, Effort::Full);
        plan.took_sender(Sender::External);
        plan.took_sender(Sender::Null);
        plan.accepted(Recipient::Quoted);
        let walked = walk(plan, |_| true);
        assert!(!walked.iter().any(|name| name.starts_with("quoted/")));
        assert!(walked.iter().any(|name| name == "quoted-percent/null"));
        let mut plan = Plan::new(NOTHING, 1, Effort::Full);
        plan.accepted(Recipient::Direct);
        assert_eq!(plan.take_next(), None);
    }
}
