//! The ways to ask a mail server to relay: how we introduce ourselves, and how sender and recipient are written. Pure.
//!
//! What is written after the canary's mailbox, and in place of the sender's domain, only ever names the target itself.

use std::net::IpAddr;

use ajar_model::{Nonce, target};

use super::codec as smtp;
use crate::codec::Injection;

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// By our own name, inside TLS if that is offered.
    Usual,
    /// By our own name, without TLS although it is offered.
    Plain,
    /// By the target's host name.
    AsHost,
    /// As `localhost`.
    AsLocalhost,
    /// As `[127.0.0.1]`.
    AsLoopback,
    /// By our own name, with a certificate that we have signed ourselves.
    Certificate,
    /// As loopback by XCLIENT, which is for proxies in front of the server (postfix.org/XCLIENT_README.html).
    Xclient,
}

/// How the canary's mailbox is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recipient {
    /// `u@D`
    Direct,
    /// `u%D@[IP]`
    PercentLiteral,
    /// `u%D@H`
    PercentHost,
    /// `u%D@T`, where T is the domain of the target's host name.
    PercentDomain,
    /// `"u@D"`
    Quoted,
    /// `"u%D"`
    QuotedPercent,
    /// `u@D@[IP]`
    TwiceLiteral,
    /// `u@D@H`
    TwiceHost,
    /// `"u@D"@[IP]`
    QuotedLiteral,
    /// `"u@D"@H`
    QuotedHost,
    /// `"u@D"@T`
    QuotedDomain,
    /// `@[IP]:u@D` (RFC 5321 appendix C)
    RouteLiteral,
    /// `@H:u@D`
    RouteHost,
    /// `D!u`
    Bang,
    /// `D!u@[IP]`
    BangLiteral,
    /// `D!u@H`
    BangHost,
    /// `D!u@T`
    BangDomain,
    /// `u@D@`
    TrailingAt,
    /// `u@D` without angle brackets.
    Bare,
    /// `u@D` behind a space.
    Spaced,
    /// A return path that some other server is said to have rewritten (Sender Rewriting Scheme), with a forged hash.
    Srs,
}

/// How the sender is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// Another mailbox of the canary's domain.
    External,
    /// `<>`
    Null,
    /// The recipient's own address.
    Recipient,
    /// A mailbox below the canary's domain.
    Subdomain,
    /// A mailbox at the target's host name.
    AtHost,
    /// `postmaster` at the target's host name.
    Postmaster,
    /// A mailbox at the domain of the target's host name.
    AtDomain,
    /// A mailbox at the target's address.
    AtLiteral,
    /// A mailbox at `localhost`.
    Localhost,
    /// A mailbox at IPv6's loopback address.
    LoopbackV6,
    /// A mailbox without a domain.
    Local,
    /// `H!nobody`
    Bang,
    /// A mailbox of the canary's domain with a letter beyond ASCII (RFC 6531).
    Utf8,
}

pub(super) const SENDERS: [Sender; 13] = [
    Sender::External,
    Sender::Null,
    Sender::Recipient,
    Sender::AtHost,
    Sender::AtDomain,
    Sender::Postmaster,
    Sender::AtLiteral,
    Sender::Localhost,
    Sender::Local,
    Sender::Subdomain,
    Sender::LoopbackV6,
    Sender::Bang,
    Sender::Utf8,
];

pub(super) const INDIRECT: [Recipient; 20] = [
    Recipient::PercentLiteral,
    Recipient::PercentHost,
    Recipient::PercentDomain,
    Recipient::Quoted,
    Recipient::QuotedPercent,
    Recipient::QuotedLiteral,
    Recipient::QuotedHost,
    Recipient::QuotedDomain,
    Recipient::TwiceLiteral,
    Recipient::TwiceHost,
    Recipient::RouteLiteral,
    Recipient::RouteHost,
    Recipient::Bang,
    Recipient::BangLiteral,
    Recipient::BangHost,
    Recipient::BangDomain,
    Recipient::TrailingAt,
    Recipient::Bare,
    Recipient::Spaced,
    Recipient::Srs,
];

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) opening: Opening,
    pub(super) recipient: Recipient,
    pub(super) sender: Sender,
}

/// The variant that comes first; it also stands for a server that refuses before any could be tried.
pub(super) const FIRST: Variant = Variant {
    opening: Opening::Usual,
    recipient: Recipient::Direct,
    sender: Sender::External,
};

impl Opening {
    fn prefix(self) -> &'static str {
        match self {
            Opening::Usual => "",
            Opening::Plain => "plain:",
            Opening::AsHost => "as-host:",
            Opening::AsLocalhost => "as-localhost:",
            Opening::AsLoopback => "as-loopback:",
            Opening::Certificate => "certificate:",
            Opening::Xclient => "xclient:",
        }
    }
}

impl Variant {
    /// True if only its sender is one of many: an ordinary recipient, and the usual opening.
    pub(super) fn is_plain(self) -> bool {
        self.recipient == Recipient::Direct && self.opening == Opening::Usual
    }

    /// Its name in results, such as `percent-hack/null` or `as-localhost:direct/external`.
    pub(super) fn name(self) -> String {
        let recipient = match self.recipient {
            Recipient::Direct => "direct",
            Recipient::PercentLiteral => "percent-hack",
            Recipient::PercentHost => "percent-hack-host",
            Recipient::PercentDomain => "percent-hack-domain",
            Recipient::Quoted => "quoted",
            Recipient::QuotedPercent => "quoted-percent",
            Recipient::TwiceLiteral => "twice-literal",
            Recipient::TwiceHost => "twice-host",
            Recipient::QuotedLiteral => "quoted-literal",
            Recipient::QuotedHost => "quoted-host",
            Recipient::QuotedDomain => "quoted-domain",
            Recipient::RouteLiteral => "source-route",
            Recipient::RouteHost => "source-route-host",
            Recipient::Bang => "bang-path",
            Recipient::BangLiteral => "bang-path-literal",
            Recipient::BangHost => "bang-path-host",
            Recipient::BangDomain => "bang-path-domain",
            Recipient::TrailingAt => "trailing-at",
            Recipient::Bare => "bare",
            Recipient::Spaced => "spaced",
            Recipient::Srs => "srs",
        };
        let sender = match self.sender {
            Sender::External => "external",
            Sender::Null => "null",
            Sender::Recipient => "recipient",
            Sender::Subdomain => "subdomain",
            Sender::AtHost => "host",
            Sender::Postmaster => "postmaster",
            Sender::AtDomain => "domain",
            Sender::AtLiteral => "literal",
            Sender::Localhost => "localhost",
            Sender::LoopbackV6 => "loopback-v6",
            Sender::Local => "local",
            Sender::Bang => "bang",
            Sender::Utf8 => "utf8",
        };
        format!("{}{recipient}/{sender}", self.opening.prefix())
    }
}

/// The names that paths are made of.
#[derive(Debug, Clone)]
pub(super) struct Names {
    domain: String,
    literal: String,
    host: Option<String>,
}

impl Names {
    /// A domain of the canary, the target's address, and what the target calls itself. The last is a stranger's word:
    /// what has not the form of a host name with a dot is ignored.
    pub(super) fn new(domain: &str, ip: IpAddr, greeted_as: &str) -> Self {
        let host = greeted_as.strip_suffix('.').unwrap_or(greeted_as);
        let valid = host.contains('.') && target::is_host_name(host);
        Self {
            domain: domain.to_owned(),
            literal: address_literal(ip),
            host: valid.then(|| host.to_ascii_lowercase()),
        }
    }

    /// The canary's domain.
    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    /// What the target calls itself.
    pub(super) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The domain that its name is in, if that can be a mail domain.
    pub(super) fn mail_domain(&self) -> Option<&str> {
        let (_, domain) = self.host()?.split_once('.')?;
        domain.contains('.').then_some(domain)
    }

    /// The command that names the recipient; none if it needs a name that the target has not. Each form holds the nonce
    /// and the canary's domain.
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

    /// The command that names, for a recipient that may be taken for a mailbox of the server's own, another such mailbox, which
    /// cannot exist; none for the others. It holds nothing of the canary's.
    pub(super) fn any_mailbox(
        &self,
        form: Recipient,
        nonce: Nonce,
    ) -> Option<Result<Vec<u8>, Injection>> {
        let path = match form {
            Recipient::PercentLiteral
            | Recipient::TwiceLiteral
            | Recipient::QuotedLiteral
            | Recipient::BangLiteral => format!("{nonce}@{}", self.literal),
            Recipient::PercentHost
            | Recipient::TwiceHost
            | Recipient::QuotedHost
            | Recipient::BangHost
            | Recipient::Srs => format!("{nonce}@{}", self.host()?),
            Recipient::PercentDomain | Recipient::QuotedDomain | Recipient::BangDomain => {
                format!("{nonce}@{}", self.mail_domain()?)
            }
            Recipient::Quoted | Recipient::QuotedPercent | Recipient::Bang => nonce.to_string(),
            Recipient::Direct
            | Recipient::RouteLiteral
            | Recipient::RouteHost
            | Recipient::TrailingAt
            | Recipient::Bare
            | Recipient::Spaced => return None,
        };
        Some(smtp::rcpt_to(&path))
    }

    /// The command that names the sender; none if it needs a name that the target has not. `own` is the sender's nonce,
    /// `recipient` that of the recipient.
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
            Sender::AtHost => format!("{own}@{}", self.host()?),
            Sender::Postmaster => format!("postmaster@{}", self.host()?),
            Sender::AtDomain => format!("{own}@{}", self.mail_domain()?),
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
        Names::new("canary.test", "192.0.2.1".parse().unwrap(), greeted_as)
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
        check(Sender::AtHost, "<OWN@mx.mail.example>");
        check(Sender::Postmaster, "<postmaster@mx.mail.example>");
        check(Sender::AtDomain, "<OWN@mail.example>");
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
            for sender in [Sender::AtHost, Sender::AtDomain, Sender::Bang] {
                assert_eq!(text(names.mail_from(sender, nonce('5'), nonce('a'))), None);
            }
        }
    }

    #[test]
    fn a_host_name_of_two_labels_is_in_no_mail_domain() {
        let of = |host: &str| text(names(host).mail_from(Sender::AtDomain, nonce('5'), nonce('a')));
        assert_eq!(of("mail.example"), None);
        assert!(of("mx.mail.example").is_some());
    }

    #[test]
    fn addresses_are_written_as_mail_domains() {
        assert_eq!(
            address_literal("2001:db8::1".parse().unwrap()),
            "[IPv6:2001:db8::1]"
        );
    }
}
