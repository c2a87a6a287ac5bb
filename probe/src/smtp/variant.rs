//! The ways to ask a mail server to relay: how we introduce ourselves, and how sender and recipient are written. Pure.

/// The number of the target's own names that senders are made of.
pub(super) const MAX_OWN: usize = 4;

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
    /// A mailbox at one of the target's own names: see [`super::names::Names::own`].
    Own(usize),
    /// `postmaster` there.
    Postmaster(usize),
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

const OWN: [&str; MAX_OWN] = ["host", "domain", "domain-2", "domain-3"];
const POSTMASTER: [&str; MAX_OWN] = [
    "postmaster",
    "postmaster-domain",
    "postmaster-2",
    "postmaster-3",
];

impl Opening {
    /// Returns the name that we greet by, given our own and the target's.
    pub(super) fn name<'a>(self, ours: &'a str, host: &'a str) -> &'a str {
        match self {
            Opening::Usual | Opening::Plain | Opening::Certificate | Opening::Xclient => ours,
            Opening::AsHost => host,
            Opening::AsLocalhost => "localhost",
            Opening::AsLoopback => "[127.0.0.1]",
        }
    }

    /// Returns whether it differs from the usual opening only in the name that we greet by.
    pub(super) fn is_a_name(self) -> bool {
        matches!(
            self,
            Opening::Usual | Opening::AsHost | Opening::AsLocalhost | Opening::AsLoopback
        )
    }

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
            Sender::Own(nth) => OWN[nth.min(MAX_OWN - 1)],
            Sender::Postmaster(nth) => POSTMASTER[nth.min(MAX_OWN - 1)],
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
