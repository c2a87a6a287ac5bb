//! The names that the paths of a mail are made of. Pure.
//!
//! Behind the canary's mailbox, and in place of the sender's domain, they only ever name the
//! target itself.

use std::net::IpAddr;

use ajar_model::{Nonce, target};

use super::{
    codec as smtp,
    variant::{MAX_OWN, Recipient, Sender},
};
use crate::codec::Injection;

/// A domain without an owner (RFC 2606).
const NOBODYS: &str = "ajar-audit.invalid";

/// The names that paths are made of.
#[derive(Debug, Clone)]
pub(super) struct Names {
    domain: String,
    literal: String,
    host: Option<String>,
    own: Vec<String>,
}

impl Names {
    /// Collects names from a domain of the canary, the target's address, the name in its greeting,
    /// the names that the operator gave and those in its certificate. A greeting is a stranger's
    /// word: it is ignored unless it is a host name with a dot.
    pub(super) fn new(domain: &str, ip: IpAddr, greeted_as: &str, known_as: &[String]) -> Self {
        let known_as = known_as.iter().map(String::as_str);
        let hosts = std::iter::once(greeted_as).chain(known_as);
        let hosts: Vec<String> = hosts.filter_map(host_name).collect();
        let mut own: Vec<String> = Vec::new();
        for name in hosts.iter().flat_map(|host| likeliest_first(host)) {
            if own.len() < MAX_OWN && own.iter().all(|other| other != name) {
                own.push(name.to_owned());
            }
        }
        Self {
            domain: domain.to_owned(),
            literal: address_literal(ip),
            host: hosts.into_iter().next(),
            own,
        }
    }

    /// The canary's domain.
    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the target's name from its greeting, or else from the operator.
    pub(super) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Returns likely mail domains of the target: its host name, the registered domain of that
    /// (publicsuffix.org), the domains between, and the same for its other names.
    pub(super) fn own(&self) -> &[String] {
        &self.own
    }

    /// Returns the domain above its host name, unless that is a public suffix.
    pub(super) fn mail_domain(&self) -> Option<&str> {
        up_to_registrable(self.host()?).nth(1)
    }

    /// Writes the command that names the recipient, unless it needs a name that the target lacks.
    /// Each form holds the nonce and the canary's domain.
    pub(super) fn rcpt_to(
        &self,
        form: Recipient,
        nonce: Nonce,
    ) -> Option<Result<Vec<u8>, Injection>> {
        let (domain, literal) = (&self.domain, &self.literal);
        let path = match form {
            Recipient::Direct => format!("{nonce}@{domain}"),
            Recipient::PercentLiteral => format!("{nonce}%{domain}@{literal}"),
            Recipient::PercentHost => format!("{nonce}%{domain}@{}", self.host()?),
            Recipient::PercentDomain => format!("{nonce}%{domain}@{}", self.mail_domain()?),
            Recipient::Quoted => format!("\"{nonce}@{domain}\""),
            Recipient::QuotedPercent => format!("\"{nonce}%{domain}\""),
            Recipient::TwiceLiteral => format!("{nonce}@{domain}@{literal}"),
            Recipient::TwiceHost => format!("{nonce}@{domain}@{}", self.host()?),
            Recipient::QuotedLiteral => format!("\"{nonce}@{domain}\"@{literal}"),
            Recipient::QuotedHost => format!("\"{nonce}@{domain}\"@{}", self.host()?),
            Recipient::QuotedDomain => format!("\"{nonce}@{domain}\"@{}", self.mail_domain()?),
            Recipient::RouteLiteral => format!("@{literal}:{nonce}@{domain}"),
            Recipient::RouteHost => format!("@{}:{nonce}@{domain}", self.host()?),
            Recipient::Bang => format!("{domain}!{nonce}"),
            Recipient::BangLiteral => format!("{domain}!{nonce}@{literal}"),
            Recipient::BangHost => format!("{domain}!{nonce}@{}", self.host()?),
            Recipient::BangDomain => format!("{domain}!{nonce}@{}", self.mail_domain()?),
            Recipient::TrailingAt => format!("{nonce}@{domain}@"),
            Recipient::Bare => return Some(smtp::rcpt_to_bare(&format!("{nonce}@{domain}"))),
            Recipient::Spaced => return Some(smtp::rcpt_to_spaced(&format!("{nonce}@{domain}"))),
            Recipient::Srs => format!("SRS0=HHHH=TT={domain}={nonce}@{}", self.host()?),
        };
        Some(smtp::rcpt_to(&path))
    }

    /// Returns the domain of a recipient that the server may take for a local mailbox. That is
    /// `Some(None)` for a recipient without one, and `None` if the server cannot take it for
    /// local.
    pub(super) fn home_of(&self, form: Recipient) -> Option<Option<&str>> {
        match form {
            Recipient::PercentLiteral
            | Recipient::TwiceLiteral
            | Recipient::QuotedLiteral
            | Recipient::BangLiteral => Some(Some(&self.literal)),
            Recipient::PercentHost
            | Recipient::TwiceHost
            | Recipient::QuotedHost
            | Recipient::BangHost
            | Recipient::Srs => Some(Some(self.host()?)),
            Recipient::PercentDomain | Recipient::QuotedDomain | Recipient::BangDomain => {
                Some(Some(self.mail_domain()?))
            }
            Recipient::Quoted | Recipient::QuotedPercent | Recipient::Bang => Some(None),
            Recipient::Direct
            | Recipient::RouteLiteral
            | Recipient::RouteHost
            | Recipient::TrailingAt
            | Recipient::Bare
            | Recipient::Spaced => None,
        }
    }

    /// Returns mailboxes that cannot exist, to check a yes to a recipient by: at its home, if the
    /// server may take it for a local mailbox, or else of no domain of the canary's.
    pub(super) fn no_mailboxes(
        &self,
        form: Recipient,
        nonce: Nonce,
        canary: IpAddr,
    ) -> Vec<String> {
        match self.home_of(form) {
            Some(Some(home)) => vec![format!("{nonce}@{home}")],
            Some(None) => vec![nonce.to_string()],
            None if form == Recipient::Direct => {
                let literal = address_literal(canary);
                vec![format!("{nonce}@{literal}"), format!("{nonce}@{NOBODYS}")]
            }
            None => Vec::new(),
        }
    }

    /// Writes the command that names the sender, unless it needs a name that the target lacks.
    /// `own` is the sender's nonce, `recipient` that of the recipient.
    pub(super) fn mail_from(
        &self,
        form: Sender,
        own: Nonce,
        recipient: Nonce,
    ) -> Option<Result<Vec<u8>, Injection>> {
        let domain = &self.domain;
        let path = match form {
            Sender::External => format!("{own}@{domain}"),
            Sender::Null => String::new(),
            Sender::Recipient => format!("{recipient}@{domain}"),
            Sender::Subdomain => format!("{own}@sub.{domain}"),
            Sender::Own(nth) => format!("{own}@{}", self.own.get(nth)?),
            Sender::Postmaster(nth) => format!("postmaster@{}", self.own.get(nth)?),
            Sender::AtLiteral => format!("{own}@{}", self.literal),
            Sender::Localhost => format!("{own}@localhost"),
            Sender::LoopbackV6 => format!("{own}@[IPv6:::1]"),
            Sender::Local => own.to_string(),
            Sender::Bang => format!("{}!{own}", self.host()?),
            Sender::Utf8 => {
                return Some(smtp::mail_from_utf8(&format!("{own}-\u{fc}@{domain}")));
            }
        };
        Some(smtp::mail_from(&path))
    }
}

/// Returns the text in lower case if it is a host name with a dot.
fn host_name(text: &str) -> Option<String> {
    let host = text.strip_suffix('.').unwrap_or(text);
    let is_valid = host.contains('.') && target::is_host_name(host);
    is_valid.then(|| host.to_ascii_lowercase())
}

/// Iterates over a host name and the domains above it, up to the registered one.
fn up_to_registrable(host: &str) -> impl Iterator<Item = &str> {
    let registrable = psl::domain_str(host).unwrap_or(host).len();
    let names = std::iter::successors(Some(host), |name| Some(name.split_once('.')?.1));
    names.take_while(move |name| name.len() >= registrable)
}

/// Returns a host name, its registered domain, and the domains between.
fn likeliest_first(host: &str) -> Vec<&str> {
    let mut names: Vec<&str> = up_to_registrable(host).collect();
    if let Some(registrable) = names.pop() {
        names.insert(names.len().min(1), registrable);
    }
    names
}

/// An address as a mail domain (RFC 5321 section 4.1.3).
fn address_literal(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(greeted_as: &str) -> Names {
        Names::new("canary.test", "192.0.2.1".parse().unwrap(), greeted_as, &[])
    }

    fn nonce(digit: char) -> Nonce {
        String::from(digit).repeat(32).parse().unwrap()
    }

    fn text(command: Option<Result<Vec<u8>, Injection>>) -> Option<String> {
        Some(String::from_utf8(command?.unwrap()).unwrap())
    }

    #[test]
    fn every_recipient_is_a_way_to_write_the_canarys_mailbox() {
        let names = names("mx.mail.example");
        let u = nonce('a');
        let check = |form, expect: &str| {
            let expect = format!("RCPT TO:{expect}\r\n").replace('U', &u.to_string());
            assert_eq!(text(names.rcpt_to(form, u)).unwrap(), expect);
        };
        check(Recipient::Direct, "<U@canary.test>");
        check(Recipient::PercentLiteral, "<U%canary.test@[192.0.2.1]>");
        check(Recipient::PercentHost, "<U%canary.test@mx.mail.example>");
        check(Recipient::PercentDomain, "<U%canary.test@mail.example>");
        check(Recipient::Quoted, "<\"U@canary.test\">");
        check(Recipient::QuotedPercent, "<\"U%canary.test\">");
        check(Recipient::QuotedDomain, "<\"U@canary.test\"@mail.example>");
        check(Recipient::BangDomain, "<canary.test!U@mail.example>");
        check(Recipient::TwiceLiteral, "<U@canary.test@[192.0.2.1]>");
        check(Recipient::TwiceHost, "<U@canary.test@mx.mail.example>");
        check(Recipient::QuotedLiteral, "<\"U@canary.test\"@[192.0.2.1]>");
        check(Recipient::QuotedHost, "<\"U@canary.test\"@mx.mail.example>");
        check(Recipient::RouteLiteral, "<@[192.0.2.1]:U@canary.test>");
        check(Recipient::RouteHost, "<@mx.mail.example:U@canary.test>");
        check(Recipient::Bang, "<canary.test!U>");
        check(Recipient::BangLiteral, "<canary.test!U@[192.0.2.1]>");
        check(Recipient::BangHost, "<canary.test!U@mx.mail.example>");
        check(Recipient::TrailingAt, "<U@canary.test@>");
        check(Recipient::Bare, "U@canary.test");
        check(Recipient::Spaced, " <U@canary.test>");
        let srs = text(names.rcpt_to(Recipient::Srs, u)).unwrap();
        assert_eq!(
            srs,
            format!("RCPT TO:<SRS0=HHHH=TT=canary.test={u}@mx.mail.example>\r\n")
        );
    }

    #[test]
    fn every_sender_is_ours_or_the_targets_own() {
        let names = names("mx.mail.example");
        let (s, u) = (nonce('5'), nonce('a'));
        let check = |form, expect: &str| {
            let expect = format!("MAIL FROM:{expect}\r\n")
                .replace("OWN", &s.to_string())
                .replace("TO@", &format!("{u}@"));
            assert_eq!(text(names.mail_from(form, s, u)).unwrap(), expect);
        };
        check(Sender::External, "<OWN@canary.test>");
        check(Sender::Null, "<>");
        check(Sender::Recipient, "<TO@canary.test>");
        check(Sender::Subdomain, "<OWN@sub.canary.test>");
        check(Sender::Own(0), "<OWN@mx.mail.example>");
        check(Sender::Own(1), "<OWN@mail.example>");
        check(Sender::Postmaster(0), "<postmaster@mx.mail.example>");
        check(Sender::Postmaster(1), "<postmaster@mail.example>");
        check(Sender::AtLiteral, "<OWN@[192.0.2.1]>");
        check(Sender::Localhost, "<OWN@localhost>");
        check(Sender::LoopbackV6, "<OWN@[IPv6:::1]>");
        check(Sender::Local, "<OWN>");
        check(Sender::Bang, "<mx.mail.example!OWN>");
        check(Sender::Utf8, "<OWN-\u{fc}@canary.test> SMTPUTF8");
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
            assert_eq!(names.host(), None, "{hostile}");
            assert_eq!(
                text(names.rcpt_to(Recipient::PercentHost, nonce('a'))),
                None
            );
            for sender in [Sender::Own(0), Sender::Own(1), Sender::Bang] {
                assert_eq!(text(names.mail_from(sender, nonce('5'), nonce('a'))), None);
            }
        }
    }

    #[test]
    fn a_targets_own_names_end_at_what_somebody_registered() {
        let check = |greeted_as: &str, known_as: &[&str], expect: &[&str]| {
            let known_as: Vec<String> = known_as.iter().map(|name| name.to_string()).collect();
            let ip = "192.0.2.1".parse().unwrap();
            let names = Names::new("canary.test", ip, greeted_as, &known_as);
            assert_eq!(names.own(), expect, "{greeted_as} {known_as:?}");
        };
        check("mail.example", &[], &["mail.example"]);
        check(
            "mx1.mail.bugs.example",
            &[],
            &["mx1.mail.bugs.example", "bugs.example", "mail.bugs.example"],
        );
        check("mx.foo.co.uk", &[], &["mx.foo.co.uk", "foo.co.uk"]);
        check(
            "localhost",
            &["mail.bugs.example"],
            &["mail.bugs.example", "bugs.example"],
        );
        check(
            "MX.Bugs.Example.",
            &["mail.bugs.example", "co.uk"],
            &[
                "mx.bugs.example",
                "bugs.example",
                "mail.bugs.example",
                "co.uk",
            ],
        );
        check(
            "a.b.c.d.e.example",
            &[],
            &[
                "a.b.c.d.e.example",
                "e.example",
                "b.c.d.e.example",
                "c.d.e.example",
            ],
        );
        check("", &[], &[]);
    }

    #[test]
    fn a_host_name_of_two_labels_is_in_no_mail_domain() {
        assert_eq!(names("mail.example").mail_domain(), None);
        assert_eq!(names("mx.mail.example").mail_domain(), Some("mail.example"));
    }

    #[test]
    fn addresses_are_written_as_mail_domains() {
        assert_eq!(
            address_literal("2001:db8::1".parse().unwrap()),
            "[IPv6:2001:db8::1]"
        );
    }
}
