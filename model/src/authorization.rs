//! Who allowed what: the signed scope of an audit.
//!
//! An authorization is a TOML file and an SSH signature over its exact bytes (SSHSIG, PROTOCOL.sshsig of OpenSSH). The same
//! bytes that are verified are then parsed; nothing of them is believed before.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig, public::KeyData};
use ulid::Ulid;

use crate::{
    Timestamp,
    addresses::AddressSet,
    id::ProbeId,
    ports::Ports,
    signers::{self, AllowedSigners},
    special,
    target::{Host, Target, is_host_name},
    tier::Tier,
};

/// What a signature must be for: a key's signature over something else is worth nothing here.
pub const NAMESPACE: &str = "ajar-authorization";

/// The version of the layout that this program reads and writes.
pub const VERSION: u32 = 1;

/// What an operator may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    /// The version of the layout, [`VERSION`].
    pub version: u32,
    /// Names it, and only it: a ULID.
    pub id: String,
    /// Whose network it is.
    pub tenant: String,
    /// Whom an owner can write to.
    pub contact: String,
    /// Addresses that may be audited.
    pub networks: Vec<Target>,
    /// Addresses inside them that stay forbidden.
    #[serde(default)]
    pub exclude: Vec<Target>,
    /// TCP ports that may be probed.
    pub ports: Ports,
    /// Probes that may run; `*` is every one.
    pub probes: Vec<ProbeId>,
    /// How far they may go.
    pub tier: Tier,
    /// Whether probes may claim, in a PROXY header or by XCLIENT, that they connect from loopback:
    /// some servers trust whoever says so.
    #[serde(default = "allowed", skip_serializing_if = "Clone::clone")]
    pub claims: bool,
    /// Ports of a target to which datagrams may be sent beside `ports`, if the target offers to
    /// relay them there (SOCKS 5, TURN).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_ports: Option<Ports>,
    /// Most new connections a second.
    pub rate: u32,
    /// Most new connections a second to each /24 or /64.
    pub prefix_rate: u32,
    #[serde(deserialize_with = "time")]
    pub not_before: Timestamp,
    /// Not valid from this time on.
    #[serde(deserialize_with = "time")]
    pub not_after: Timestamp,
    /// The canary's addresses: the only second hop that probes may name.
    pub canary: Vec<IpAddr>,
    /// The canary's mail domains. Without one, only names that nobody can own (RFC 2606 and its like), such as
    /// `canary.test`, so that no stranger is ever sent mail.
    #[serde(default)]
    pub canary_domain: Vec<String>,
    /// Which addresses are of one host: what one of them lets through and another does not is told. Permits nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Host>,
}

fn allowed() -> bool {
    true
}

/// An authorization's exact text with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedAuthorization {
    /// The text, as it was signed.
    pub text: String,
    /// The signature, as `ssh-keygen -Y sign` writes it.
    pub signature: String,
}

/// An authorization whose signature is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub authorization: Authorization,
    /// Who signed it: the principals of the key.
    pub signer: String,
}

/// An authorization that somebody signed. Whether they may is another question: see [`Authentic::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authentic {
    pub authorization: Authorization,
    /// The key that signed it.
    key: KeyData,
}

/// Why an authorization is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No signature of the right kind.
    #[error(
        "the authorization is not signed: {0}; sign it with `ajar authorize` or `ssh-keygen -Y sign -n {NAMESPACE}`"
    )]
    Unsigned(String),
    /// A signature by somebody else.
    #[error(
        "the authorization is signed by a key that is not allowed to sign: add {key} to {file}, or have it signed by somebody in there"
    )]
    UnknownSigner {
        key: String,
        /// The file of those who may sign.
        file: String,
    },
    /// A signature by somebody who signs for others.
    #[error(
        "the authorization is for tenant {tenant:?}, and {signer} in {file} signs for others only: have it signed by somebody who may"
    )]
    OtherTenant {
        signer: String,
        tenant: String,
        file: String,
    },
    /// A signature over other bytes.
    #[error("the authorization was altered after it was signed: have it signed again")]
    Altered,
    #[error("the authorization cannot be read: {0}")]
    Malformed(String),
    #[error("the authorization is not valid before {0}")]
    NotYetValid(Timestamp),
    #[error("the authorization expired at {0}: have a new one signed")]
    Expired(Timestamp),
    /// The key cannot sign.
    #[error("the key cannot sign: {0}; use an Ed25519 key without a passphrase")]
    Key(String),
}

/// Returns whether a text could be a mail address.
pub fn is_mail_address(text: &str) -> bool {
    let is_plain = |user: &str| {
        let mut chars = user.chars();
        !user.is_empty()
            && !chars.any(|c| c.is_whitespace() || c.is_control() || "<>@,".contains(c))
    };
    let mail = text.rsplit_once('@');
    mail.is_some_and(|(user, host)| is_plain(user) && is_host_name(host))
}

/// Signs an authorization's text, which must be one that can be read.
pub fn sign(text: &str, key: &PrivateKey) -> Result<SignedAuthorization, Error> {
    Authorization::parse(text)?;
    if !key.public_key().key_data().is_ed25519() {
        return Err(Error::Key(format!("it is {}", key.algorithm())));
    }
    let signature = key.sign(NAMESPACE, HashAlg::Sha512, text.as_bytes());
    let signature = signature.and_then(|signature| signature.to_pem(LineEnding::LF));
    Ok(SignedAuthorization {
        text: text.to_owned(),
        signature: signature.map_err(|cause| Error::Key(cause.to_string()))?,
    })
}

impl SignedAuthorization {
    /// Checks the signature and parses the text that it is over. Whether its key may sign, and now, is asked by
    /// [`Authentic::check`].
    pub fn authenticate(&self) -> Result<Authentic, Error> {
        let unsigned = |cause: &dyn std::fmt::Display| Error::Unsigned(cause.to_string());
        let signature = SshSig::from_pem(&self.signature).map_err(|cause| unsigned(&cause))?;
        let key = signature.public_key();
        if !key.is_ed25519() {
            return Err(unsigned(&"its key is not an Ed25519 key"));
        }
        if signature.namespace() != NAMESPACE {
            let cause = format!("its signature is for {:?}", signature.namespace());
            return Err(unsigned(&cause));
        }
        PublicKey::from(key.clone())
            .verify(NAMESPACE, self.text.as_bytes(), &signature)
            .map_err(|_| Error::Altered)?;
        Ok(Authentic {
            authorization: Authorization::parse(&self.text)?,
            key: key.clone(),
        })
    }

    /// Checks signature, signer and window.
    pub fn verify(&self, signers: &AllowedSigners, now: Timestamp) -> Result<Verified, Error> {
        let authentic = self.authenticate()?;
        let signer = authentic.check(signers, now)?.to_owned();
        Ok(Verified {
            authorization: authentic.authorization,
            signer,
        })
    }
}

impl Authentic {
    /// Whether the key may sign and the window is open, at `now`: asked again and again while a campaign runs. Says
    /// whose key it is.
    pub fn check<'a>(&self, signers: &'a AllowedSigners, now: Timestamp) -> Result<&'a str, Error> {
        let Some(signer) = signers.principal(&self.key, NAMESPACE, now) else {
            let key = PublicKey::from(self.key.clone());
            return Err(Error::UnknownSigner {
                key: key.to_openssh().unwrap_or_default(),
                file: signers.file().to_owned(),
            });
        };
        let tenant = &self.authorization.tenant;
        if !signers::signs_for(signer, tenant) {
            return Err(Error::OtherTenant {
                signer: signer.to_owned(),
                tenant: tenant.clone(),
                file: signers.file().to_owned(),
            });
        }
        let Authorization {
            not_before,
            not_after,
            ..
        } = self.authorization;
        if now < not_before {
            return Err(Error::NotYetValid(not_before));
        }
        if now >= not_after {
            return Err(Error::Expired(not_after));
        }
        Ok(signer)
    }
}

impl Authorization {
    /// Reads a text whose signature was verified.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let malformed = |cause: &str| Err(Error::Malformed(cause.trim_end().to_owned()));
        let parsed: Self = match toml::from_str(text) {
            Ok(parsed) => parsed,
            Err(cause) => return malformed(&cause.to_string()),
        };
        if parsed.version != VERSION {
            return malformed(&format!(
                "its version is {}, and this program knows {VERSION}",
                parsed.version
            ));
        }
        if parsed.networks.is_empty() {
            return malformed("it names no network, so it allows nothing");
        }
        if parsed.not_after <= parsed.not_before {
            return malformed("it ends before it begins");
        }
        if parsed.rate == 0 || parsed.prefix_rate == 0 {
            return malformed("a rate of 0 allows nothing");
        }
        if Ulid::from_string(&parsed.id).is_err() {
            return malformed("its id is not a ULID, such as 01JD3Y5Q9Z8K7W6V5T4S3R2Q1P");
        }
        if parsed.tenant.is_empty() || parsed.tenant.chars().any(char::is_control) {
            return malformed("its tenant is empty, or holds control characters");
        }
        if !is_mail_address(&parsed.contact) {
            return malformed("its contact is not a mail address");
        }
        Ok(parsed)
    }

    /// Whether a probe may run.
    pub fn allows_probe(&self, probe: &ProbeId) -> bool {
        self.probes
            .iter()
            .any(|allowed| allowed == probe || allowed.as_str() == "*")
    }

    /// The text that is to be signed.
    pub fn to_toml(&self) -> String {
        let fields = toml::to_string(self).expect("every field has a form in TOML");
        format!(
            "# What `ajar` may do, for whom and until when. Whoever signs this allows it:\n\
             #   ssh-keygen -Y sign -n {NAMESPACE} -f KEY THIS_FILE\n\
             # Any change makes the signature void. Times are UTC; rates are new connections a second.\n{fields}"
        )
    }

    /// The special-purpose space that the networks name: those of them that are part of one denied block. 10.1.0.0/16 names
    /// part of 10.0.0.0/8; 0.0.0.0/0 names nothing.
    pub(crate) fn named_special(&self) -> AddressSet {
        let is_part = |network: &&Target| {
            special::blocks()
                .iter()
                .filter(|block| !block.globally_reachable)
                .any(|block| {
                    block.network.contains(&network.first) && block.network.contains(&network.last)
                })
        };
        AddressSet::new(self.networks.iter().filter(is_part))
    }
}

/// A time as text, or as TOML's own date and time.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = match toml::Value::deserialize(deserializer)? {
        toml::Value::Datetime(time) => time.to_string(),
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    let expected = "a time with its offset, such as 2026-01-31T00:00:00Z";
    text.parse()
        .map_err(|_| D::Error::custom(format!("{text:?} is not {expected}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../testdata/authorization.toml");
    const SIGNATURE: &str = include_str!("../testdata/authorization.toml.sig");
    const SIGNER: &str = include_str!("../testdata/signer.pub");

    fn signers() -> AllowedSigners {
        AllowedSigners::parse(&format!("ops@example.net {SIGNER}"), "allowed_signers").unwrap()
    }

    fn verify(text: &str, signature: &str, now: &str) -> Result<Verified, Error> {
        let signed = SignedAuthorization {
            text: text.to_owned(),
            signature: signature.to_owned(),
        };
        signed.verify(&signers(), now.parse().unwrap())
    }

    const NOW: &str = "2026-12-01T00:00:00Z";

    #[test]
    fn what_ssh_keygen_signed_is_accepted() {
        let verified = verify(TEXT, SIGNATURE, NOW).unwrap();
        assert_eq!(verified.signer, "ops@example.net");
        assert_eq!(
            verified.authorization.networks[0].to_string(),
            "198.51.100.0/24"
        );
    }

    #[test]
    fn every_altered_byte_is_noticed() {
        for at in 0..TEXT.len() {
            let mut text = TEXT.as_bytes().to_vec();
            text[at] ^= 1;
            if let Ok(text) = String::from_utf8(text) {
                assert_eq!(
                    verify(&text, SIGNATURE, NOW),
                    Err(Error::Altered),
                    "byte {at}"
                );
            }
        }
        assert_eq!(
            verify(&format!("{TEXT}\n"), SIGNATURE, NOW),
            Err(Error::Altered)
        );
    }

    #[test]
    fn a_missing_foreign_or_mangled_signature_is_refused() {
        assert!(matches!(verify(TEXT, "", NOW), Err(Error::Unsigned(_))));
        let foreign = include_str!("../testdata/authorization.other-namespace.sig");
        assert!(matches!(
            verify(TEXT, foreign, NOW),
            Err(Error::Unsigned(_))
        ));
        let mangled = SIGNATURE.replacen("U1NIU0lH", "U1NIU0lI", 1);
        assert!(matches!(
            verify(TEXT, &mangled, NOW),
            Err(Error::Unsigned(_))
        ));
        let signed = SignedAuthorization {
            text: TEXT.to_owned(),
            signature: SIGNATURE.to_owned(),
        };
        let nobody = AllowedSigners::nobody("allowed_signers");
        let refused = signed.verify(&nobody, NOW.parse().unwrap());
        assert!(matches!(refused, Err(Error::UnknownSigner { .. })));
    }

    #[test]
    fn a_signer_of_some_tenants_signs_for_no_other() {
        let check = |principals: &str| {
            let text = format!("{principals} {}", include_str!("../testdata/signer.pub"));
            let signers = AllowedSigners::parse(&text, "allowed_signers").unwrap();
            let signed = SignedAuthorization {
                text: TEXT.to_owned(),
                signature: SIGNATURE.to_owned(),
            };
            signed.verify(&signers, NOW.parse().unwrap()).map(drop)
        };
        assert_eq!(check("ops@example.net"), Ok(()));
        assert_eq!(check("ops@example.net,tenant:acme,tenant:example"), Ok(()));
        let refused = check("ops@example.net,tenant:acme").unwrap_err();
        assert!(matches!(refused, Error::OtherTenant { .. }), "{refused}");
    }

    #[test]
    fn the_window_includes_its_start_and_excludes_its_end() {
        let check = |now: &str| verify(TEXT, SIGNATURE, now).map(|_| ());
        assert!(matches!(
            check("2026-10-31T23:59:59Z"),
            Err(Error::NotYetValid(_))
        ));
        assert_eq!(check("2026-11-01T00:00:00Z"), Ok(()));
        assert_eq!(check("2036-10-31T23:59:59Z"), Ok(()));
        assert!(matches!(
            check("2036-11-01T00:00:00Z"),
            Err(Error::Expired(_))
        ));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let authorization = verify(TEXT, SIGNATURE, NOW).unwrap().authorization;
        assert_eq!(
            Authorization::parse(&authorization.to_toml()),
            Ok(authorization)
        );
    }

    #[test]
    fn a_scope_that_allows_nothing_or_is_unclear_is_refused() {
        let check = |from: &str, to: &str| {
            assert!(TEXT.contains(from), "{from}");
            let parsed = Authorization::parse(&TEXT.replace(from, to));
            assert!(matches!(parsed, Err(Error::Malformed(_))), "{to}");
        };
        check(
            "networks = [\"198.51.100.0/24\", \"10.1.0.0/16\"]",
            "networks = []",
        );
        check("version = 1", "version = 2");
        check("not_after = \"2036", "not_after = \"2016");
        check("rate = 500", "rate = 0");
        check("tenant", "tenants");
        check("tenant = \"example\"", "tenant = \"\"");
        check("01JD3Y5Q9Z8K7W6V5T4S3R2Q1P", "7");
        check("ops@example.net", "nobody");
        check("\"2036-11-01T00:00:00Z\"", "\"2036-11-01\"");
        check("ports = \"25,3128\"", "ports = \"\"");
    }

    #[test]
    fn a_time_may_be_written_as_toml_has_it() {
        let text = TEXT.replace("\"2036-11-01T00:00:00Z\"", "2036-11-01T01:00:00+01:00");
        assert_eq!(Authorization::parse(&text), Authorization::parse(TEXT));
    }

    #[test]
    fn what_is_signed_here_is_verified_and_nothing_unreadable_is_signed() {
        let pair = ssh_key::private::Ed25519Keypair::from_seed(&[7; 32]);
        let key = PrivateKey::new(pair.into(), "").unwrap();
        let line = format!("a@b {}", key.public_key().to_openssh().unwrap());
        let signers = AllowedSigners::parse(&line, "f").unwrap();
        let verified = sign(TEXT, &key)
            .unwrap()
            .verify(&signers, NOW.parse().unwrap());
        assert_eq!(verified.unwrap().signer, "a@b");
        let ended = TEXT.replace("2036", "2016");
        assert!(matches!(sign(&ended, &key), Err(Error::Malformed(_))));
    }
}
