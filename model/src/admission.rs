//! Whether a campaign may run. The coordinator asks before it takes one; every worker asks again before it runs a part of it,
//! because it believes nobody.

use std::net::IpAddr;

use crate::{
    Timestamp,
    addresses::AddressSet,
    authorization::{self, Authentic, Authorization},
    campaign::Spec,
    canary::Canary,
    id::ProbeId,
    signers::AllowedSigners,
    special,
    target::{Target, is_host_name},
    tier::Tier,
};

/// How often a target may be asked again, whether it is silent or no clear answer.
pub const MOST_AGAIN: u32 = 10;

/// What a campaign runs by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    Signed(Box<Authentic>),
    /// Nobody's: it stays on loopback.
    Loopback,
}

impl Permission {
    /// Checks that a campaign may run at `now`: its signature, its signer, its window, and that it asks for no more than was
    /// signed. Without an authorization it may run if `allow_loopback` and if it stays on loopback.
    pub fn admit(
        spec: &Spec,
        allow_loopback: bool,
        signers: &AllowedSigners,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        for (what, asked) in [("retries", spec.retries), ("revisits", spec.revisits.most)] {
            if asked > MOST_AGAIN {
                return Err(Refusal::Again(what, asked));
            }
        }
        let permission = Self::of(spec)?;
        match permission.authorization() {
            Some(authorization) => {
                permission.check(signers, now)?;
                authorization.covers(spec)?;
            }
            None if allow_loopback => check_unsigned(spec)?,
            None => return Err(Refusal::NoAuthorization),
        }
        Ok(permission)
    }

    /// What a campaign says that it runs by, its signature checked and nothing else.
    pub fn of(spec: &Spec) -> Result<Self, authorization::Error> {
        match &spec.authorization {
            Some(signed) => signed
                .authenticate()
                .map(|a| Permission::Signed(Box::new(a))),
            None => Ok(Permission::Loopback),
        }
    }

    /// Whether it holds at `now`: asked again and again while a campaign runs. Says who signed it.
    pub fn check<'a>(
        &self,
        signers: &'a AllowedSigners,
        now: Timestamp,
    ) -> Result<Option<&'a str>, authorization::Error> {
        match self {
            Permission::Signed(authentic) => authentic.check(signers, now).map(Some),
            Permission::Loopback => Ok(None),
        }
    }

    /// The authorization, if there is one.
    pub fn authorization(&self) -> Option<&Authorization> {
        match self {
            Permission::Signed(authentic) => Some(&authentic.authorization),
            Permission::Loopback => None,
        }
    }
}

/// Why a campaign may not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its authorization is not good, or not now.
    #[error(transparent)]
    Authorization(#[from] authorization::Error),
    /// It has none, and only signed ones are taken.
    #[error(
        "it has no authorization, which this machine insists on: make one with `ajar authorize`"
    )]
    NoAuthorization,
    #[error("the authorization is for tenant {0:?}")]
    Tenant(String),
    #[error("{0} is outside the authorization")]
    Target(Target),
    /// Special-purpose space that no network names.
    #[error(
        "{target} is special-purpose space ({name}, {reference}), which the authorization does not name"
    )]
    Special {
        target: Target,
        name: String,
        reference: String,
    },
    #[error("port {0} is outside the authorization")]
    Port(u16),
    #[error("probe {0} is outside the authorization")]
    Probe(ProbeId),
    #[error("tier {0:?} is above the authorization's {1:?}")]
    Tier(Tier, Tier),
    #[error("{0} of {1} a second is above the authorization's {2}")]
    Rate(&'static str, u32, u32),
    #[error("{1} {0} are too many for anybody: ask for {MOST_AGAIN} at most")]
    Again(&'static str, u32),
    #[error("the canary {0} is not in the authorization")]
    Canary(IpAddr),
    #[error(
        "the canary domain {0:?} is not in the authorization: list it there under canary_domain, or use a reserved name such as canary.test"
    )]
    CanaryDomain(String),
    /// Nothing of the target is left.
    #[error("{0} is excluded by the authorization")]
    Excluded(Target),
    #[error(
        "{0} is not on loopback, which alone needs no authorization: make one with `ajar authorize`"
    )]
    Unsigned(IpAddr),
}

impl Authorization {
    /// Whether a campaign stays within this authorization; names the first thing that does not.
    pub fn covers(&self, spec: &Spec) -> Result<(), Refusal> {
        if spec.tenant != self.tenant {
            return Err(Refusal::Tenant(self.tenant.clone()));
        }
        let networks = AddressSet::new(&self.networks);
        if let Some(target) = spec.targets.iter().find(|target| !networks.covers(target)) {
            return Err(Refusal::Target(*target));
        }
        let excluded = AddressSet::new(&self.exclude);
        if let Some(target) = spec.targets.iter().find(|target| excluded.covers(target)) {
            return Err(Refusal::Excluded(*target));
        }
        let named = self.named_special();
        for target in &spec.targets {
            let block =
                special::denied(target.first).filter(|block| block.network.contains(&target.last));
            if let Some(block) = block.filter(|_| !named.covers(target)) {
                return Err(Refusal::Special {
                    target: *target,
                    name: block.name.clone(),
                    reference: block.reference.clone(),
                });
            }
        }
        if let Some(port) = spec.ports.first_missing_from(&self.ports) {
            return Err(Refusal::Port(port));
        }
        if let Some(probe) = spec.probes.iter().find(|probe| !self.allows_probe(probe)) {
            return Err(Refusal::Probe(probe.clone()));
        }
        self.covers_intensity(spec)
    }

    fn covers_intensity(&self, spec: &Spec) -> Result<(), Refusal> {
        if spec.tier > self.tier {
            return Err(Refusal::Tier(spec.tier, self.tier));
        }
        for (name, asked, most) in [
            ("a rate", spec.rate, self.rate),
            ("a prefix rate", spec.prefix_rate, self.prefix_rate),
        ] {
            if asked > most {
                return Err(Refusal::Rate(name, asked, most));
            }
        }
        // Below the envelope nothing names the canary to a target.
        if spec.tier < Tier::Envelope {
            return Ok(());
        }
        let Spec { canary, .. } = spec;
        if special::is_metadata(canary.address) || !self.canary.contains(&canary.address) {
            return Err(Refusal::Canary(canary.address));
        }
        let is_allowed = |domain: &str| {
            let domain = plain(domain);
            let listed = self.canary_domain.iter().any(|name| plain(name) == domain);
            listed || (self.canary_domain.is_empty() && is_reserved(&domain))
        };
        check_domains(canary, is_allowed)
    }
}

fn check_domains(canary: &Canary, is_allowed: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    let mut domains = canary.domains();
    match domains.find(|domain| !is_host_name(domain) || !is_allowed(domain)) {
        Some(domain) => Err(Refusal::CanaryDomain(domain.to_owned())),
        None => Ok(()),
    }
}

/// Whether a campaign may run without an authorization: loopback targets, and, if the tier names the canary to
/// them, a canary on loopback too, since a tunnel may lead anywhere.
fn check_unsigned(spec: &Spec) -> Result<(), Refusal> {
    let targets = spec.targets.iter().flat_map(|t| [t.first, t.last]);
    let canary = (spec.tier >= Tier::Envelope).then_some(spec.canary.address);
    if let Some(ip) = targets.chain(canary).find(|ip| !ip.is_loopback()) {
        return Err(Refusal::Unsigned(ip));
    }
    match canary {
        Some(_) => check_domains(&spec.canary, |_| true),
        None => Ok(()),
    }
}

fn plain(domain: &str) -> String {
    domain.trim_end_matches('.').to_ascii_lowercase()
}

/// Names that nobody can own: RFC 2606, RFC 6762 (local), RFC 8375 (home.arpa), and `internal`, which ICANN reserved.
fn is_reserved(domain: &str) -> bool {
    const RESERVED: [&str; 10] = [
        "test",
        "example",
        "invalid",
        "localhost",
        "local",
        "internal",
        "home.arpa",
        "example.com",
        "example.net",
        "example.org",
    ];
    RESERVED.iter().any(|name| {
        let below = domain.strip_suffix(name);
        below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::{Canary, Effort, campaign::Sweep, proof::CanaryKey};

    fn authorization() -> Authorization {
        Authorization::parse(include_str!("../testdata/authorization.toml")).unwrap()
    }

    /// A campaign that uses all that the authorization allows.
    fn spec() -> Spec {
        Spec {
            tenant: "example".to_owned(),
            targets: targets(&["198.51.100.0/25", "10.1.2.3"]),
            exclude: Vec::new(),
            hosts: Vec::new(),
            ports: "25,3128".parse().unwrap(),
            probes: vec!["smtp-relay".to_owned().into()],
            rate: 500,
            prefix_rate: 20,
            tier: Tier::Deliver,
            effort: Effort::Normal,
            sweep: Sweep::Connect,
            retries: 1,
            settle_secs: 60,
            revisits: crate::Revisits::default(),
            canary: Canary {
                other_domain: None,
                domain: "canary.example.net".to_owned(),
                address: "192.0.2.1".parse().unwrap(),
                smtp: 25,
                http: 80,
                https: 443,
                raw: 7401,
                key: CanaryKey::from(&SigningKey::from_bytes(&[1; 32])),
            },
            authorization: None,
            traceparent: None,
        }
    }

    fn targets(texts: &[&str]) -> Vec<Target> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// What is said of the campaign after a change.
    fn refusal(change: impl FnOnce(&mut Spec)) -> Option<String> {
        let mut spec = spec();
        change(&mut spec);
        let refusal = authorization().covers(&spec).err();
        refusal.map(|refusal| refusal.to_string())
    }

    #[test]
    fn a_campaign_may_use_all_that_is_authorized() {
        assert_eq!(refusal(|_| {}), None);
    }

    #[test]
    fn nobody_is_asked_again_without_end_with_an_authorization_or_without() {
        let admit = |change: fn(&mut Spec)| {
            let mut spec = Spec {
                targets: targets(&["127.0.0.1"]),
                ..spec()
            };
            spec.canary.address = "127.0.0.1".parse().unwrap();
            change(&mut spec);
            let admitted = Permission::admit(
                &spec,
                true,
                &AllowedSigners::nobody("signers"),
                Timestamp::now(),
            );
            admitted.err().map(|refusal| refusal.to_string())
        };
        assert_eq!(admit(|spec| spec.retries = MOST_AGAIN), None);
        for change in [
            |s: &mut Spec| s.retries = 11,
            |s: &mut Spec| s.revisits.most = 11,
        ] {
            let refusal = admit(change).unwrap_or_default();
            assert!(refusal.contains("ask for 10 at most"), "{refusal}");
        }
    }

    #[test]
    fn the_first_thing_beyond_the_authorization_is_named() {
        let check = |change: fn(&mut Spec), expect: &str| {
            let found = refusal(change).unwrap_or_default();
            assert!(found.contains(expect), "{found:?} lacks {expect:?}");
        };
        check(|s| s.tenant = "other".to_owned(), "tenant \"example\"");
        check(
            |s| s.targets = targets(&["198.51.100.0/23"]),
            "198.51.100.0/23",
        );
        check(|s| s.targets = targets(&["10.2.0.0"]), "10.2.0.0");
        check(
            |s| s.targets.extend(targets(&["198.51.100.128/26"])),
            "198.51.100.128/26 is excluded",
        );
        check(|s| s.ports = "25,26".parse().unwrap(), "port 26");
        check(|s| s.probes.push("socks5".to_owned().into()), "socks5");
        check(|s| s.rate = 501, "501");
        check(|s| s.prefix_rate = 21, "21");
        check(
            |s| s.canary.address = "192.0.2.2".parse().unwrap(),
            "192.0.2.2",
        );
        check(
            |s| s.canary.domain = "example.edu".to_owned(),
            "example.edu",
        );
    }

    #[test]
    fn special_space_is_refused_unless_it_is_named() {
        let mut authorization = authorization();
        let spec = Spec {
            targets: targets(&["10.1.2.3"]),
            ..spec()
        };
        authorization.networks = targets(&["0.0.0.0/0"]);
        let refused = authorization.covers(&spec);
        assert!(
            matches!(refused, Err(Refusal::Special { .. })),
            "{refused:?}"
        );
        authorization.networks.extend(targets(&["10.1.2.0/24"]));
        assert_eq!(authorization.covers(&spec), Ok(()));
    }

    #[test]
    fn the_canary_counts_from_the_tier_on_that_names_it() {
        let elsewhere = |tier| {
            refusal(move |s| {
                s.tier = tier;
                s.canary.address = "192.0.2.2".parse().unwrap();
            })
        };
        assert_eq!(elsewhere(Tier::Handshake), None);
        assert!(elsewhere(Tier::Envelope).is_some());
    }

    #[test]
    fn without_a_listed_domain_mail_goes_to_names_that_nobody_owns() {
        let check = |listed: &[&str], domain: &str, expect: bool| {
            let mut authorization = authorization();
            authorization.canary_domain = listed.iter().map(|d| (*d).to_owned()).collect();
            let mut spec = spec();
            spec.canary.domain = domain.to_owned();
            assert_eq!(
                authorization.covers(&spec).is_ok(),
                expect,
                "{listed:?} {domain:?}"
            );
        };
        check(&[], "canary.test", true);
        check(&[], "a.b.example.org", true);
        check(&[], "gmail.com", false);
        check(&[], "contest", false);
        check(&[], "notexample.org", false);
        check(&["Canary.Example.Net"], "canary.example.net.", true);
        let mut spec = spec();
        spec.canary.other_domain = Some("gmail.com".to_owned());
        let refused = authorization().covers(&spec).unwrap_err();
        assert!(refused.to_string().contains("gmail.com"), "{refused}");
        check(&["canary.example.net"], "canary.test", false);
        check(&["canary.example.net"], "a.canary.example.net", false);
        check(&[], "a.test>\r\nDATA\r\n.test", false);
    }

    #[test]
    fn a_metadata_service_is_no_canary() {
        let mut authorization = authorization();
        let mut spec = spec();
        spec.canary.address = "169.254.169.254".parse().unwrap();
        authorization.canary.push(spec.canary.address);
        assert_eq!(
            authorization.covers(&spec),
            Err(Refusal::Canary(spec.canary.address))
        );
    }

    #[test]
    fn without_an_authorization_targets_and_canary_are_on_loopback() {
        let check = |target: &str, canary: &str, tier, expect: bool| {
            let mut spec = Spec {
                targets: targets(&[target]),
                tier,
                ..spec()
            };
            spec.canary.address = canary.parse().unwrap();
            assert_eq!(check_unsigned(&spec).is_ok(), expect, "{target} {canary}");
        };
        check("127.0.0.0/8", "127.0.0.1", Tier::Deliver, true);
        check("::1", "::1", Tier::Deliver, true);
        check("127.0.0.1", "192.0.2.1", Tier::Handshake, true);
        check("127.0.0.1", "192.0.2.1", Tier::Deliver, false);
        check("127.0.0.1-128.0.0.1", "127.0.0.1", Tier::Connect, false);
        check("10.0.0.1", "127.0.0.1", Tier::Connect, false);
    }
}
