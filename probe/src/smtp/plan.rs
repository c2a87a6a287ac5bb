//! Which senders and recipients a mail server is offered, and in which order. Pure.

use std::{collections::VecDeque, net::IpAddr};

use ajar_model::{Nonce, target};

/// How the canary's mailbox is written. What follows the mailbox only ever names the target itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipient {
    /// `u@D`
    Direct,
    /// `u%D@[IP]`
    PercentLiteral,
    /// `u%D@H`
    PercentHost,
    /// `"u@D"`
    Quoted,
    /// `"u@D"@[IP]`
    QuotedLiteral,
    /// `@[IP]:u@D` (RFC 5321 appendix C)
    RouteLiteral,
    /// `@H:u@D`
    RouteHost,
    /// `D!u`
    Bang,
    /// `D!u@H`
    BangHost,
}

/// How the sender is written: the canary's domain, the null sender, or a name of the target itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// Another mailbox of the canary's domain.
    External,
    /// `<>`
    Null,
    /// The recipient's own address.
    Recipient,
    /// A mailbox at the target's host name.
    AtHost,
    /// `postmaster` at the target's host name.
    Postmaster,
    /// A mailbox at the target's address.
    AtLiteral,
    /// A mailbox at `localhost`.
    Localhost,
}

const SENDERS: [Sender; 7] = [
    Sender::External,
    Sender::Null,
    Sender::Recipient,
    Sender::AtHost,
    Sender::Postmaster,
    Sender::AtLiteral,
    Sender::Localhost,
];

const INDIRECT: [Recipient; 8] = [
    Recipient::PercentLiteral,
    Recipient::PercentHost,
    Recipient::Quoted,
    Recipient::QuotedLiteral,
    Recipient::RouteLiteral,
    Recipient::RouteHost,
    Recipient::Bang,
    Recipient::BangHost,
];

/// Senders that the indirect recipients are tried with.
const INDIRECT_SENDERS: usize = 2;

/// One pair of sender and recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// How the recipient is written.
    pub recipient: Recipient,
    /// How the sender is written.
    pub sender: Sender,
}

/// The variant that comes first; it also stands for a server that refuses before any could be tried.
pub const FIRST: Variant = Variant {
    recipient: Recipient::Direct,
    sender: Sender::External,
};

impl Variant {
    /// Its name in results, such as `percent-hack/null`.
    pub fn name(self) -> String {
        let recipient = match self.recipient {
            Recipient::Direct => "direct",
            Recipient::PercentLiteral => "percent-hack",
            Recipient::PercentHost => "percent-hack-host",
            Recipient::Quoted => "quoted",
            Recipient::QuotedLiteral => "quoted-literal",
            Recipient::RouteLiteral => "source-route",
            Recipient::RouteHost => "source-route-host",
            Recipient::Bang => "bang-path",
            Recipient::BangHost => "bang-path-host",
        };
        let sender = match self.sender {
            Sender::External => "external",
            Sender::Null => "null",
            Sender::Recipient => "recipient",
            Sender::AtHost => "host",
            Sender::Postmaster => "postmaster",
            Sender::AtLiteral => "literal",
            Sender::Localhost => "localhost",
        };
        format!("{recipient}/{sender}")
    }

    fn needs_host(self) -> bool {
        let recipient = matches!(
            self.recipient,
            Recipient::PercentHost | Recipient::RouteHost | Recipient::BangHost
        );
        recipient || matches!(self.sender, Sender::AtHost | Sender::Postmaster)
    }
}

/// The names that paths are made of.
#[derive(Debug, Clone)]
pub struct Names {
    domain: String,
    literal: String,
    host: Option<String>,
}

impl Names {
    /// The canary's domain, the target's address, and what the target calls itself. The last is a stranger's word:
    /// what has not the form of a host name with a dot is ignored.
    pub fn new(domain: &str, ip: IpAddr, greeted_as: &str) -> Self {
        let host = greeted_as.strip_suffix('.').unwrap_or(greeted_as);
        let valid = host.contains('.') && target::is_host_name(host);
        Self {
            domain: domain.to_owned(),
            literal: address_literal(ip),
            host: valid.then(|| host.to_ascii_lowercase()),
        }
    }

    /// The recipient's path, without angle brackets. Each form holds the nonce and the canary's domain.
    pub fn recipient(&self, form: Recipient, nonce: Nonce) -> String {
        let (domain, literal) = (&self.domain, &self.literal);
        let host = self.host();
        match form {
            Recipient::Direct => format!("{nonce}@{domain}"),
            Recipient::PercentLiteral => format!("{nonce}%{domain}@{literal}"),
            Recipient::PercentHost => format!("{nonce}%{domain}@{host}"),
            Recipient::Quoted => format!("\"{nonce}@{domain}\""),
            Recipient::QuotedLiteral => format!("\"{nonce}@{domain}\"@{literal}"),
            Recipient::RouteLiteral => format!("@{literal}:{nonce}@{domain}"),
            Recipient::RouteHost => format!("@{host}:{nonce}@{domain}"),
            Recipient::Bang => format!("{domain}!{nonce}"),
            Recipient::BangHost => format!("{domain}!{nonce}@{host}"),
        }
    }

    /// The sender's path, without angle brackets. `own` is the sender's nonce, `recipient` that of the recipient.
    pub fn sender(&self, form: Sender, own: Nonce, recipient: Nonce) -> String {
        match form {
            Sender::External => format!("{own}@{}", self.domain),
            Sender::Null => String::new(),
            Sender::Recipient => format!("{recipient}@{}", self.domain),
            Sender::AtHost => format!("{own}@{}", self.host()),
            Sender::Postmaster => format!("postmaster@{}", self.host()),
            Sender::AtLiteral => format!("{own}@{}", self.literal),
            Sender::Localhost => format!("{own}@localhost"),
        }
    }

    /// Variants that need a host name are not planned without one; the literal stands in so that no path is ever
    /// made of nothing.
    fn host(&self) -> &str {
        self.host.as_deref().unwrap_or(&self.literal)
    }
}

/// An address as a mail domain (RFC 5321 section 4.1.3).
fn address_literal(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    }
}

/// The order of variants: every sender with the plain recipient, then the other recipients with senders that the
/// server took. A yes to the plain recipient ends it: relaying is what is to be shown, with few messages. A yes to
/// another recipient ends that one alone, for it may have been taken for a local mailbox.
#[derive(Debug)]
pub struct Plan {
    queue: VecDeque<Variant>,
    taken: Vec<Sender>,
    direct: bool,
    has_host: bool,
}

impl Plan {
    /// A plan for a server of these names.
    pub fn new(names: &Names) -> Self {
        let mut plan = Self {
            queue: VecDeque::new(),
            taken: Vec::new(),
            direct: true,
            has_host: names.host.is_some(),
        };
        let recipient = Recipient::Direct;
        plan.extend(SENDERS.map(|sender| Variant { recipient, sender }));
        plan
    }

    /// The next variant.
    pub fn take_next(&mut self) -> Option<Variant> {
        if self.queue.is_empty() && std::mem::take(&mut self.direct) {
            let senders: Vec<Sender> = self.taken.iter().copied().take(INDIRECT_SENDERS).collect();
            self.extend(INDIRECT.into_iter().flat_map(|recipient| {
                senders
                    .clone()
                    .into_iter()
                    .map(move |sender| Variant { recipient, sender })
            }));
        }
        self.queue.pop_front()
    }

    /// The server took the variant's sender.
    pub fn took_sender(&mut self, variant: Variant) {
        if !self.taken.contains(&variant.sender) {
            self.taken.push(variant.sender);
        }
    }

    /// The server took a whole variant.
    pub fn accepted(&mut self, variant: Variant) {
        match variant.recipient {
            Recipient::Direct => {
                self.queue.clear();
                self.direct = false;
            }
            taken => self.queue.retain(|next| next.recipient != taken),
        }
    }

    fn extend(&mut self, variants: impl IntoIterator<Item = Variant>) {
        let has_host = self.has_host;
        self.queue.extend(
            variants
                .into_iter()
                .filter(|variant| has_host || !variant.needs_host()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(greeted_as: &str) -> Names {
        Names::new("canary.test", "192.0.2.1".parse().unwrap(), greeted_as)
    }

    fn nonce(digit: char) -> Nonce {
        String::from(digit).repeat(32).parse().unwrap()
    }

    fn walk(names: &Names, takes: impl Fn(Variant) -> bool) -> Vec<String> {
        let mut plan = Plan::new(names);
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
    fn every_recipient_is_a_way_to_write_the_canarys_mailbox() {
        let names = names("mail.example");
        let u = nonce('a');
        let check = |form, expect: &str| {
            let expect = expect.replace("U", &u.to_string());
            assert_eq!(names.recipient(form, u), expect);
        };
        check(Recipient::Direct, "U@canary.test");
        check(Recipient::PercentLiteral, "U%canary.test@[192.0.2.1]");
        check(Recipient::PercentHost, "U%canary.test@mail.example");
        check(Recipient::Quoted, "\"U@canary.test\"");
        check(Recipient::QuotedLiteral, "\"U@canary.test\"@[192.0.2.1]");
        check(Recipient::RouteLiteral, "@[192.0.2.1]:U@canary.test");
        check(Recipient::RouteHost, "@mail.example:U@canary.test");
        check(Recipient::Bang, "canary.test!U");
        check(Recipient::BangHost, "canary.test!U@mail.example");
    }

    #[test]
    fn every_sender_is_ours_or_the_targets_own() {
        let names = names("mail.example");
        let (s, u) = (nonce('5'), nonce('a'));
        let check = |form, expect: &str| {
            let expect = expect
                .replace("S", &s.to_string())
                .replace("U", &u.to_string());
            assert_eq!(names.sender(form, s, u), expect);
        };
        check(Sender::External, "S@canary.test");
        check(Sender::Null, "");
        check(Sender::Recipient, "U@canary.test");
        check(Sender::AtHost, "S@mail.example");
        check(Sender::Postmaster, "postmaster@mail.example");
        check(Sender::AtLiteral, "S@[192.0.2.1]");
        check(Sender::Localhost, "S@localhost");
    }

    #[test]
    fn all_senders_go_first_and_then_the_other_recipients_with_senders_that_were_taken() {
        let walked = walk(&names("mail.example"), |variant| {
            variant.sender != Sender::External
        });
        assert_eq!(walked.len(), 7 + 8 * 2);
        assert_eq!(walked[0], FIRST.name());
        assert!(walked[..7].iter().all(|name| name.starts_with("direct/")));
        assert_eq!(
            walked[7..9],
            ["percent-hack/null", "percent-hack/recipient"]
        );
    }

    #[test]
    fn a_server_that_takes_no_sender_is_not_offered_more_recipients() {
        assert_eq!(walk(&names("mail.example"), |_| false).len(), 7);
    }

    #[test]
    fn a_yes_to_the_plain_recipient_ends_the_plan() {
        let mut plan = Plan::new(&names("mail.example"));
        plan.took_sender(FIRST);
        plan.accepted(FIRST);
        assert_eq!(plan.take_next(), None);
    }

    #[test]
    fn a_yes_to_another_recipient_ends_that_one_alone() {
        let mut plan = Plan::new(&names("mail.example"));
        let mut walked = Vec::new();
        while let Some(variant) = plan.take_next() {
            plan.took_sender(variant);
            if variant.recipient == Recipient::Quoted {
                plan.accepted(variant);
            }
            walked.push(variant.name());
        }
        assert_eq!(walked.len(), 7 + 8 * 2 - 1);
        assert_eq!(
            walked
                .iter()
                .filter(|name| name.starts_with("quoted/"))
                .count(),
            1
        );
    }

    #[test]
    fn a_greeting_that_is_no_host_name_is_never_part_of_an_address() {
        for hostile in [
            "",
            "localhost",
            "[192.0.2.7]",
            "192.0.2.7",
            "a.b>c",
            "-a.example",
            "a..example",
            "x.example,y",
        ] {
            let names = names(hostile);
            let walked = walk(&names, |_| true);
            assert!(
                walked
                    .iter()
                    .all(|name| !name.contains("host/") && !name.ends_with("/host")),
                "{hostile}"
            );
            assert_eq!(walked.len(), 5 + 5 * 2, "{hostile}");
        }
    }

    #[test]
    fn addresses_are_written_as_mail_domains() {
        assert_eq!(
            address_literal("2001:db8::1".parse().unwrap()),
            "[IPv6:2001:db8::1]"
        );
    }
}
