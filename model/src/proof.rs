//! What the canary says that it received, and how anybody can check that the canary said it.

use std::{fmt, net::IpAddr, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Timestamp,
    disclosed::{Anonymity, Disclosed},
    nonce::Nonce,
    text::Untrusted,
};

/// How the first word of every answer begins; a new layout takes a new number.
const WORD: &str = "ajar-proof-";
/// The first word of an answer without a port, as older canaries give it.
const WITHOUT_PORT: &str = "ajar-proof-1";
const WITH_PORT: &str = "ajar-proof-2";
/// That of an answer over HTTP, which says what its request disclosed.
const DISCLOSING: &str = "ajar-proof-3";

/// The longest answer in bytes, for readers that bound what they take.
pub const MAX_ANSWER: usize = 256;

/// The canary's answer to a nonce: an Ed25519 signature over the nonce, the peer that brought it, the port that it came to
/// and the time. A proxy can pass it on but not make it, and it is no part of any request, so a service that
/// echoes what it was sent does not produce it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The nonce as it was received.
    pub nonce: Nonce,
    /// The socket peer at the canary: where the proxy's traffic comes out.
    pub egress_ip: IpAddr,
    /// The canary's port that it came to. Absent in answers of older canaries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What the request told the canary of the way that it came, if it was one over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disclosed: Option<Disclosed>,
    /// When the canary received it.
    pub received_at: Timestamp,
    signature: Signature64,
}

impl Answer {
    /// The answer to a nonce that `egress_ip` brought to the canary's `port`.
    pub fn sign(
        key: &SigningKey,
        nonce: Nonce,
        egress_ip: IpAddr,
        port: u16,
        received_at: Timestamp,
    ) -> Self {
        Self {
            nonce,
            egress_ip,
            port: Some(port),
            disclosed: None,
            received_at,
            signature: Signature64([0; 64]),
        }
        .signed(key)
    }

    /// The same answer to a request over HTTP that disclosed this.
    pub fn disclosing(mut self, key: &SigningKey, disclosed: Disclosed) -> Self {
        self.disclosed = Some(disclosed);
        self.signed(key)
    }

    /// The answer of an older canary.
    #[cfg(test)]
    pub(crate) fn sign_without_port(
        key: &SigningKey,
        nonce: Nonce,
        egress_ip: IpAddr,
        received_at: Timestamp,
    ) -> Self {
        Self {
            port: None,
            ..Self::sign(key, nonce, egress_ip, 0, received_at)
        }
        .signed(key)
    }

    fn signed(mut self, key: &SigningKey) -> Self {
        self.signature = Signature64(key.sign(self.signed_text().as_bytes()).to_bytes());
        self
    }

    fn signed_text(&self) -> String {
        let Self {
            nonce, egress_ip, ..
        } = self;
        let micros = self.received_at.as_microsecond();
        match (self.port, self.disclosed) {
            (Some(port), Some(disclosed)) => {
                format!("{DISCLOSING} {nonce} {egress_ip} {port} {micros} {disclosed}")
            }
            (Some(port), None) => format!("{WITH_PORT} {nonce} {egress_ip} {port} {micros}"),
            (None, _) => format!("{WITHOUT_PORT} {nonce} {egress_ip} {micros}"),
        }
    }

    /// True if `key` made this answer, to this nonce.
    pub fn proves(&self, nonce: Nonce, key: &CanaryKey) -> bool {
        let text = self.signed_text();
        let signature = Signature::from_bytes(&self.signature.0);
        self.nonce == nonce && key.0.verify_strict(text.as_bytes(), &signature).is_ok()
    }

    /// Finds the first well-formed answer in bytes that came back through a target. Nothing is
    /// believed of it until [`Answer::proves`].
    pub fn find(bytes: &[u8]) -> Option<Self> {
        let start = bytes
            .windows(WORD.len())
            .position(|window| window == WORD.as_bytes())?;
        let rest = &bytes[start..];
        let line = rest.split(|&b| b == b'\r' || b == b'\n').next()?;
        std::str::from_utf8(line.get(..line.len().min(MAX_ANSWER))?)
            .ok()?
            .parse()
            .ok()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.signed_text();
        write!(f, "{text} {}", BASE64.encode(self.signature.0))
    }
}

/// A text that is not an answer.
#[derive(Debug, thiserror::Error)]
#[error("not an answer of a canary")]
pub struct NotAnAnswer;

impl FromStr for Answer {
    type Err = NotAnAnswer;

    fn from_str(line: &str) -> Result<Self, NotAnAnswer> {
        let mut words = line.split_ascii_whitespace();
        let mut next = || words.next().ok_or(NotAnAnswer);
        let (has_port, discloses) = match next()? {
            DISCLOSING => (true, true),
            WITH_PORT => (true, false),
            WITHOUT_PORT => (false, false),
            _ => return Err(NotAnAnswer),
        };
        let nonce = next()?.parse().map_err(|_| NotAnAnswer)?;
        let egress_ip = next()?.parse().map_err(|_| NotAnAnswer)?;
        let port = match has_port {
            true => Some(next()?.parse().map_err(|_| NotAnAnswer)?),
            false => None,
        };
        let micros = next()?.parse().map_err(|_| NotAnAnswer)?;
        let received_at = Timestamp::from_microsecond(micros).map_err(|_| NotAnAnswer)?;
        let disclosed = match discloses {
            true => Some(next()?.parse().map_err(|_| NotAnAnswer)?),
            false => None,
        };
        let signature = BASE64.decode(next()?).map_err(|_| NotAnAnswer)?;
        let signature = Signature64(signature.try_into().map_err(|_| NotAnAnswer)?);
        Ok(Self {
            nonce,
            egress_ip,
            port,
            disclosed,
            received_at,
            signature,
        })
    }
}

/// An Ed25519 signature. By default one that nobody made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature64(pub [u8; 64]);

impl Default for Signature64 {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl Serialize for Signature64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Signature64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = BASE64
            .decode(String::deserialize(deserializer)?)
            .map_err(serde::de::Error::custom)?;
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| serde::de::Error::custom("a signature has 64 bytes"))
    }
}

/// The public half of the canary's Ed25519 key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanaryKey(VerifyingKey);

impl From<&SigningKey> for CanaryKey {
    fn from(key: &SigningKey) -> Self {
        Self(key.verifying_key())
    }
}

/// Bytes that are not an Ed25519 public key.
#[derive(Debug, thiserror::Error)]
#[error("not a canary's public key: expected an Ed25519 point of 32 bytes in base64url")]
pub struct NotAKey;

impl fmt::Display for CanaryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0.as_bytes()))
    }
}

impl FromStr for CanaryKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let bytes: [u8; 32] = BASE64
            .decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(NotAKey)?;
        VerifyingKey::from_bytes(&bytes)
            .map(Self)
            .map_err(|_| NotAKey)
    }
}

impl Serialize for CanaryKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CanaryKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A message that arrived at the canary's SMTP sink. Mail has no way back through the relay, so the
/// canary reports it to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The nonce in the envelope recipient.
    pub nonce: Nonce,
    /// The socket peer that delivered it.
    pub egress_ip: IpAddr,
    /// When the final dot was received.
    pub received_at: Timestamp,
    /// The peer's EHLO or HELO argument.
    pub helo: Untrusted,
    pub mail_from: Untrusted,
    /// The envelope recipient, whole.
    pub rcpt_to: Untrusted,
    /// The message's header, bounded: its `Received:` fields show the path.
    pub header: Untrusted,
    /// The canary's, over all of this.
    #[serde(default)]
    pub signature: Signature64,
}

impl Sighting {
    /// The same with the canary's signature.
    pub fn signed(mut self, key: &SigningKey) -> Self {
        self.signature = Signature64(key.sign(self.signed_text().as_bytes()).to_bytes());
        self
    }

    /// True if `key` signed it as it is.
    pub fn is_signed_by(&self, key: &CanaryKey) -> bool {
        let signature = Signature::from_bytes(&self.signature.0);
        let text = self.signed_text();
        key.0.verify_strict(text.as_bytes(), &signature).is_ok()
    }

    /// Texts go in by a hash over their lengths and bytes: strangers wrote them.
    fn signed_text(&self) -> String {
        let mut hash = Sha256::new();
        for text in [&self.helo, &self.mail_from, &self.rcpt_to, &self.header] {
            hash.update((text.raw().len() as u64).to_be_bytes());
            hash.update(text.raw());
        }
        let texts = BASE64.encode(hash.finalize());
        let micros = self.received_at.as_microsecond();
        format!(
            "ajar-sighting-1 {} {} {micros} {texts}",
            self.nonce, self.egress_ip
        )
    }
}

/// How a receipt came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A message was delivered to the canary's sink.
    Mail,
    /// Bytes passed both ways through a tunnel to the canary.
    Tunnel,
    /// The canary's judge was fetched on our behalf and its answer came back.
    Fetch,
}

/// A test that a receipt has to pass: it shows that what we sent reached the canary, and not yet that the target would have
/// sent it anywhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The canary's answer names the port that was asked for.
    AskedPort,
    /// The same request for a port of the canary where nobody listens. Whoever reaches the canary all the same goes there
    /// whatever is asked.
    OtherPort,
    /// The same request for a name under the canary's domain that does not exist.
    OtherName,
    /// A greeting that the canary itself answers by its key: whoever does so is the canary, behind a port that leads to it.
    Greeting,
    /// The same mail to the canary's other domain. Whoever delivers one alone may be in charge of that domain.
    OtherDomain,
    /// A mailbox that cannot exist, where the server would have ours if it took the recipient for a local mailbox. A test of a yes
    /// without a receipt: whoever takes any mailbox has said nothing about relaying.
    AnyMailbox,
    /// The first request once more, with a fresh nonce, after a check that decided nothing. An
    /// endpoint that had enough of us refuses both.
    Again,
    /// The same request by an unrelated name of the canary. A server that has one name in a table does not
    /// know the other.
    SecondName,
    /// A mailbox at the canary's address, which gets no message. A server in charge of the
    /// canary's domains has no business with it.
    Literal,
}

impl Check {
    /// The name in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Check::AskedPort => "asked_port",
            Check::OtherPort => "other_port",
            Check::OtherName => "other_name",
            Check::Greeting => "greeting",
            Check::OtherDomain => "other_domain",
            Check::AnyMailbox => "any_mailbox",
            Check::Again => "again",
            Check::SecondName => "second_name",
            Check::Literal => "literal",
        }
    }
}

/// The receipt that a finding rests on, as results show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// How it came about.
    pub kind: Kind,
    /// The nonce that was received.
    pub nonce: Nonce,
    /// When the canary received it.
    pub received_at: Timestamp,
    /// The socket peer at the canary.
    pub egress_ip: IpAddr,
    /// The checks that the receipt has passed.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// How much it told the canary of its client, if it passed on a request over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymity: Option<Anonymity>,
    /// The address that it took us for, if it said so: in a field of a request, or in `Received:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_as: Option<IpAddr>,
}

/// The receipt of a later round, see [`crate::confirmation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The vantage point that it was asked for from.
    pub vantage: String,
    #[serde(flatten)]
    pub proof: Proof,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> (SigningKey, Nonce, Answer) {
        let key = SigningKey::from_bytes(&[7; 32]);
        let nonce: Nonce = "00112233445566778899aabbccddeeff".parse().unwrap();
        let at = Timestamp::from_second(1_790_000_000).unwrap();
        let answer = Answer::sign(&key, nonce, "192.0.2.9".parse().unwrap(), 443, at);
        (key, nonce, answer)
    }

    #[test]
    fn an_answer_is_found_among_other_bytes_and_proves_its_nonce() {
        let (key, nonce, answer) = answer();
        let page = format!("HTTP/1.1 200 OK\r\n\r\nx{answer}\r\ntail");
        let found = Answer::find(page.as_bytes()).unwrap();
        assert_eq!(found, answer);
        assert!(found.proves(nonce, &CanaryKey::from(&key)));
        assert!(answer.to_string().len() <= MAX_ANSWER);
    }

    #[test]
    fn an_answer_of_another_key_or_to_another_nonce_proves_nothing() {
        let (key, nonce, answer) = answer();
        let forger = SigningKey::from_bytes(&[8; 32]);
        let other: Nonce = "ff112233445566778899aabbccddeeff".parse().unwrap();
        assert!(!answer.proves(nonce, &CanaryKey::from(&forger)));
        assert!(!answer.proves(other, &CanaryKey::from(&key)));
        let moved = answer.to_string().replace("192.0.2.9", "192.0.2.8");
        let moved: Answer = moved.parse().unwrap();
        assert!(!moved.proves(nonce, &CanaryKey::from(&key)));
        let moved = answer.to_string().replace(" 443 ", " 80 ");
        let moved: Answer = moved.parse().unwrap();
        assert!(!moved.proves(nonce, &CanaryKey::from(&key)));
    }

    #[test]
    fn what_a_request_disclosed_is_signed_too() {
        let (key, nonce, answer) = answer();
        let disclosed =
            Disclosed::Client("2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap());
        let answer = answer.disclosing(&key, disclosed);
        let text = answer.to_string();
        assert!(text.len() <= MAX_ANSWER, "{}", text.len());
        let read = Answer::find(text.as_bytes()).unwrap();
        assert_eq!(read.disclosed, Some(disclosed));
        assert!(read.proves(nonce, &CanaryKey::from(&key)));
        let stored = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&stored).unwrap(), answer);
        let hidden: Answer = text
            .replace(&disclosed.to_string(), "nothing")
            .parse()
            .unwrap();
        assert!(!hidden.proves(nonce, &CanaryKey::from(&key)));
    }

    #[test]
    fn an_answer_of_an_older_canary_still_proves_its_nonce() {
        let (key, nonce, answer) = answer();
        let answer = Answer::sign_without_port(&key, nonce, answer.egress_ip, answer.received_at);
        let text = answer.to_string();
        assert!(text.starts_with("ajar-proof-1 "), "{text}");
        let read: Answer = text.parse().unwrap();
        assert!(read.proves(nonce, &CanaryKey::from(&key)));
        let stored = serde_json::to_string(&answer).unwrap();
        assert!(!stored.contains("port"), "{stored}");
        assert_eq!(serde_json::from_str::<Answer>(&stored).unwrap(), answer);
    }
}
