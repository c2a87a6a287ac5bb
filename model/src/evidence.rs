//! What a probe saw. Evidence holds facts only; what they amount to is said by [`crate::judge`].

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    Exposure, Service, Timestamp,
    nonce::Nonce,
    proof::{Answer, CanaryKey, Check, Kind},
    space, special,
    text::Untrusted,
};

/// How a service answered one variant, at the furthest step that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reply")]
pub enum Reply {
    /// It said yes: 250 after RCPT (at tier `envelope`) or after the final dot, 2xx to CONNECT, SOCKS
    /// granted. Nothing is proven by that.
    Accepted {
        /// The protocol's own reply code.
        code: u16,
    },
    /// It asks for credentials for this: SMTP 530 and 535, HTTP 407, SOCKS 5 method 2 or 255.
    AuthRequired {
        /// The protocol's own reply code.
        code: u16,
    },
    /// It said no, or answered in its own name instead of forwarding.
    Refused {
        /// The protocol's own reply code.
        code: u16,
    },
    /// It said: later (SMTP 4xx, HTTP 429 and 503).
    Temporary {
        /// The protocol's own reply code.
        code: u16,
    },
    /// The conversation broke before a reply.
    Broken { how: Broken },
}

/// How a conversation broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Broken {
    /// The connection could not be opened again.
    Connect,
    /// The peer reset or closed the connection.
    Closed,
    /// The session's deadline passed.
    TimedOut,
    /// More bytes, or a longer line, than a session may take.
    Limit,
    /// The bytes are not of the protocol.
    Garbled,
    /// The TLS handshake failed.
    Tls,
}

/// One variant that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What distinguishes it, such as `connect:25` or `percent-hack/null-sender`.
    pub variant: String,
    /// What its receipt would look like.
    pub kind: Kind,
    /// The nonce that was sent towards the canary.
    pub nonce: Nonce,
    /// The canary's port that was asked for; none for mail, which is sent to a domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How far it got.
    pub reply: Reply,
    /// Whether the message was handed over, if it is a mail. Absent in what older versions stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<bool>,
    /// True if sender and recipient of the mail share the nonce. A bounce then brings it too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returns: bool,
    /// True if the server turned away our address or our name, and did not refuse to relay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub turned_away: bool,
    /// The server said yes, and the authorization does not cover the port that it offered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_ignored: bool,
    /// The canary's answer, if one came back. Not verified here.
    pub answer: Option<Answer>,
    /// When it was over.
    pub at: Timestamp,
}

/// What became of a check on the receipt of a variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The variant of the attempt that it was made for.
    pub of: String,
    pub check: Check,
    /// The nonce that was sent.
    pub nonce: Nonce,
    /// How far it got.
    pub reply: Reply,
    /// The canary's answer, if one came back. Not verified here.
    pub answer: Option<Answer>,
}

impl Control {
    /// True if the canary of this key answered.
    pub fn was_answered(&self, key: &CanaryKey) -> bool {
        let answer = self.answer.as_ref();
        answer.is_some_and(|answer| answer.proves(self.nonce, key))
    }

    /// Returns whether the control shows anything: the endpoint said yes or no. An endpoint that
    /// breaks off, puts us off or keeps silent may do so whatever we ask.
    pub fn is_decided(&self) -> bool {
        let is_undecided = matches!(self.reply, Reply::Temporary { .. } | Reply::Broken { .. });
        self.answer.is_some() || !is_undecided
    }
}

/// How a mail server answers for an address that every mail domain should have (RFC 2142 section 4, RFC 5321 section 4.5.1), here one
/// of the domain that its name is in. A refusal may also mean that it has nothing to do with that domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleMailbox {
    pub address: String,
    #[serde(flatten)]
    pub reply: Reply,
}

/// Who said a line of a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Sent,
    /// The target sent it.
    Received,
    /// Neither: an event, such as `connected` or `tls handshake done`.
    Event,
}

/// One entry of a transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Milliseconds since the conversation with this endpoint began.
    pub at_ms: u32,
    pub direction: Direction,
    /// What was said, bounded.
    pub text: Untrusted,
}

/// Everything that one probe learnt of one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The protocol, if one was recognised.
    pub service: Option<Service>,
    /// What it would expose if it were open. Absent in what older versions stored: see [`Evidence::exposure`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Exposure>,
    /// The greeting or the first reply, bounded.
    pub banner: Option<Untrusted>,
    /// True if the conversation went through TLS to the target.
    pub tls: bool,
    /// Whether anything that was said is a gateway's and not a plain server's. Absent for protocols that no plain server
    /// speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shows_proxy: Option<bool>,
    /// The address of ours that the connections came from. Absent in what older versions stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// True if the campaign audits that address too. Older versions did not store this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub source_in_scope: bool,
    /// How the conversation broke before any variant could be tried; absent if the endpoint did answer,
    /// if only in another protocol.
    pub broken: Option<Broken>,
    /// Seconds after which it asked us to come back, the longest time that it named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_secs: Option<u32>,
    /// The variants, in the order in which they were tried.
    pub attempts: Vec<Attempt>,
    /// The checks on what was proven or accepted. Absent in what older versions stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<Control>,
    /// True if another probe asked this service for a port where the canary does not listen, and reached
    /// the canary.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leads_to_canary: bool,
    /// The number of refusals after which it shut us out, if it did. Older versions did not store
    /// this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shut_out_after: Option<u32>,
    /// What became of the question for `abuse` and `postmaster`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mailboxes: Vec<RoleMailbox>,
    pub transcript: Vec<Entry>,
}

impl Evidence {
    /// Returns whether a control reached the canary of this key: the endpoint is a fixed forward.
    pub fn leads_to_canary(&self, key: &CanaryKey) -> bool {
        let is_astray =
            |control: &&Control| !matches!(control.check, Check::Again | Check::SecondName);
        let mut astray = self.controls.iter().filter(is_astray);
        astray.any(|control| control.was_answered(key))
    }

    /// Returns whether the endpoint may trust our address. Servers allow neighbours what they
    /// refuse to strangers (Squid's `localnet`, Postfix's `mynetworks`). An address is inside if it
    /// is of special purpose (RFC 6890), in the endpoint's own /24 or /64, or audited by the same
    /// campaign.
    pub fn is_from_inside(&self, endpoint: IpAddr) -> bool {
        let Some(source) = self.source.map(|source| source.to_canonical()) else {
            return false;
        };
        let is_near = || space::prefix_of(source) == space::prefix_of(endpoint.to_canonical());
        self.source_in_scope || special::denied(source).is_some() || is_near()
    }

    /// What the endpoint would expose if it were open.
    pub fn exposure(&self) -> Option<Exposure> {
        let service = self.service.as_ref()?;
        let of_old = || match service.as_str() {
            "smtp" => Some(Exposure::from_static("open_relay")),
            "http-proxy" | "socks4" | "socks5" => Some(Exposure::from_static("open_proxy")),
            _ => None,
        };
        self.exposure.clone().or_else(of_old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_from_a_place_that_may_be_trusted_is_inside() {
        let check = |endpoint: &str, source: &str, source_in_scope, expect: bool| {
            let evidence = Evidence {
                source: Some(source.parse().unwrap()),
                source_in_scope,
                ..Evidence::default()
            };
            let inside = evidence.is_from_inside(endpoint.parse().unwrap());
            assert_eq!(inside, expect, "{source} asks {endpoint}");
        };
        check("127.0.0.1", "127.0.0.1", false, true);
        check("10.1.0.1", "10.2.0.1", false, true);
        check("8.8.8.8", "10.2.0.1", false, true);
        check("8.8.8.8", "8.8.8.200", false, true);
        check("8.8.8.8", "::ffff:8.8.8.200", false, true);
        check("8.8.8.8", "8.8.4.4", false, false);
        check("8.8.8.8", "8.8.4.4", true, true);
        check("2a00::1", "2a00::2", false, true);
        check("2a00::1", "2a00:1::1", false, false);
        check("2a00::1", "fd00::1", false, true);
        assert!(!Evidence::default().is_from_inside("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_older_versions_stored_has_its_exposure() {
        let check = |service: &str, expect: Option<&str>| {
            let text = format!(
                r#"{{"service": {service:?}, "banner": null, "tls": false, "broken": null, "attempts": [], "transcript": []}}"#
            );
            let evidence: Evidence = serde_json::from_str(&text).unwrap();
            let exposure = evidence.exposure();
            assert_eq!(exposure.as_ref().map(Exposure::as_str), expect);
        };
        check("smtp", Some("open_relay"));
        check("http-proxy", Some("open_proxy"));
        check("socks5", Some("open_proxy"));
        check("gopher", None);
    }
}
