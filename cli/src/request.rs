//! From options to a specification: what `scan` and `campaign submit` have in common.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use ajar_model::{
    Authorization, Canary, Ports, ProbeId, Revisits, SignedAuthorization, Spec, Target,
    TargetSpace, Tier, Timestamp, admission::Refusal, proof::CanaryKey,
};
use ajar_probe::Protocol;
use ed25519_dalek::SigningKey;

use crate::{
    args::{self, PortSet},
    canary,
    exit::{OrRefuse, refuse},
    signers, targets,
};

/// The polite rate, for whoever names none.
pub const RATE: u32 = 500;
/// The polite rate for each prefix.
pub const PREFIX_RATE: u32 = 20;

/// The canary's mail domain, for whoever names none.
const DOMAIN: &str = "canary.test";

/// A specification that lacks only its canary.
pub struct Request {
    /// Its canary is [`nowhere`].
    spec: Spec,
    authorization: Option<Authorization>,
}

impl Request {
    /// Reads options and files; refuses what cannot be run.
    pub async fn read(options: &args::Request) -> anyhow::Result<Self> {
        let (signed, authorization) = self::authorization(&options.authorization)?.unzip();
        let allowed = authorization.as_ref();
        let probes = probes(&options.probes, allowed)?;
        let mut listed = targets::read(&options.targets).await?;
        if !listed.named {
            match allowed {
                Some(authorization) => listed.include.clone_from(&authorization.networks),
                None => {
                    return refuse(
                        "no target was given: name one, or give --authorization FILE to audit all of it",
                    );
                }
            }
        }
        if let Some(authorization) = allowed {
            // What the authorization leaves out is not asked for in the first place.
            listed.exclude.extend(&authorization.exclude);
            listed.hosts.extend_from_slice(&authorization.hosts);
        }
        TargetSpace::new(&listed.include, &listed.exclude).or_refuse()?;
        let stranger = listed.include.iter().find(|target| !is_loopback(target));
        if let (Some(stranger), None) = (stranger, allowed) {
            return refuse(Refusal::Unsigned(stranger.first));
        }
        let asked = match (&options.targets.ports, allowed) {
            (Some(set), _) => ports(set, &probes)?,
            (None, Some(authorization)) => authorization.ports.clone(),
            (None, None) => ports(&PortSet::Common, &probes)?,
        };
        let most = |polite: u32, cap: fn(&Authorization) -> u32| {
            allowed.map_or(polite, |authorization| polite.min(cap(authorization)))
        };
        let tier = match (options.tier, allowed) {
            (Some(asked), _) => asked,
            (None, Some(authorization)) => authorization.tier,
            (None, None) => Tier::Deliver,
        };
        let spec = Spec {
            tenant: allowed.map_or("default", |a| &a.tenant).to_owned(),
            targets: listed.include,
            exclude: listed.exclude,
            hosts: listed.hosts,
            ports: asked,
            probes,
            rate: options.rates.rate.unwrap_or(most(RATE, |a| a.rate)),
            prefix_rate: options
                .rates
                .prefix_rate
                .unwrap_or(most(PREFIX_RATE, |a| a.prefix_rate)),
            tier,
            effort: options.effort,
            sweep: options.discovery.sweep,
            retries: options.discovery.retries,
            settle_secs: options.settle,
            revisits: Revisits {
                most: options.revisits,
                after_secs: options.revisit_after,
                confirm_after_secs: options.confirm_after.0,
            },
            canary: nowhere(),
            authorization: signed,
            traceparent: None,
        };
        Ok(Self {
            spec,
            authorization,
        })
    }

    /// A canary for it in this process.
    pub fn canary_options(
        &self,
        asked: &args::Request,
        ports: &args::CanaryPorts,
    ) -> anyhow::Result<ajar_canary::Options> {
        let allowed = self.authorization.as_ref();
        let address = self.canary_address(asked.canary)?;
        let mut domains: Vec<&str> = asked.canary_domain.iter().map(String::as_str).collect();
        if let (true, Some(allowed)) = (domains.is_empty(), allowed) {
            domains.extend(allowed.canary_domain.iter().map(String::as_str).take(2));
        }
        if domains.is_empty() {
            domains.push(DOMAIN);
        }
        let contact = allowed.map(|a| a.contact.clone());
        canary::options(ports, None, address, &domains, contact)
    }

    /// As asked, or as the authorization says, or on loopback.
    fn canary_address(&self, asked: Option<IpAddr>) -> anyhow::Result<IpAddr> {
        let authorized = self.authorization.as_ref();
        match asked.or(authorized.and_then(|a| a.canary.first().copied())) {
            Some(address) => Ok(address),
            None if self.spec.targets.iter().all(is_loopback) => Ok(Ipv4Addr::LOCALHOST.into()),
            None => refuse(
                "no canary: give --canary ADDR, an address of this machine that the targets can reach",
            ),
        }
    }

    pub fn with_canary(self, canary: Canary) -> Spec {
        Spec {
            canary,
            ..self.spec
        }
    }

    /// The whole specification of a campaign that never names a canary: one at tier `connect`.
    pub fn without_canary(self) -> Spec {
        self.spec
    }
}

/// The canary of those that have none.
fn nowhere() -> Canary {
    Canary {
        domain: String::new(),
        other_domain: None,
        address: Ipv4Addr::UNSPECIFIED.into(),
        smtp: 0,
        http: 0,
        https: 0,
        raw: 0,
        key: CanaryKey::from(&SigningKey::from_bytes(&[0; 32])),
    }
}

fn is_loopback(target: &Target) -> bool {
    target.first.is_loopback() && target.last.is_loopback()
}

/// Probes by name; `all` is every one that the authorization allows.
pub fn probes(
    names: &[String],
    authorization: Option<&Authorization>,
) -> anyhow::Result<Vec<ProbeId>> {
    let is_allowed = |id: &ProbeId| authorization.is_none_or(|a| a.allows_probe(id));
    let mut chosen = Vec::new();
    for name in names {
        let known = ajar_probe::probes()
            .map(|probe| probe.id())
            .filter(|id| id.as_str() == name || (name == "all" && is_allowed(id)));
        let before = chosen.len();
        chosen.extend(known);
        if chosen.len() == before && name != "all" {
            return refuse(format_args!(
                "{name:?} is not a probe: `ajar probes` lists them"
            ));
        }
    }
    chosen.sort();
    chosen.dedup();
    if chosen.is_empty() {
        return refuse(
            "no probe was chosen, or the authorization allows none of this version's: `ajar probes` lists them",
        );
    }
    Ok(chosen)
}

/// Returns the ports of a set for these probes.
pub fn ports(set: &PortSet, probes: &[ProbeId]) -> anyhow::Result<Ports> {
    let protocols = ajar_probe::probes()
        .filter(|probe| probes.contains(&probe.id()))
        .map(|probe| probe.protocol());
    let usual = |protocol: &'static dyn Protocol| protocol.ports().iter();
    match set {
        PortSet::Listed(ports) => Ok(ports.clone()),
        PortSet::Common => Ports::new(protocols.flat_map(usual).copied()).or_refuse(),
        PortSet::Wide => {
            let both = |protocol| usual(protocol).chain(protocol.rarer_ports());
            Ports::new(protocols.flat_map(both).copied()).or_refuse()
        }
        PortSet::All => Ok(Ports::all()),
    }
}

/// The authorization that is named, verified.
pub fn authorization(
    options: &args::Authorization,
) -> anyhow::Result<Option<(SignedAuthorization, Authorization)>> {
    let Some(file) = &options.authorization else {
        return Ok(None);
    };
    let signers = signers::now(options.allowed_signers.as_deref())?;
    let signature = signature_path(file);
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))
    };
    let text = read(file).or_refuse()?;
    let signature = read(&signature)
        .map_err(|error| format!("the authorization is not signed: {error}"))
        .or_refuse()?;
    let signed = SignedAuthorization { text, signature };
    let verified = signed
        .verify(&signers, Timestamp::now())
        .map_err(|error| format!("{}: {error}", file.display()))
        .or_refuse()?;
    Ok(Some((signed, verified.authorization)))
}

/// Where the signature of a file is.
pub fn signature_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}
