//! From options to a specification: what `scan` and `campaign submit` have in common.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use ajar_model::{
    Authorization, Canary, Ports, ProbeId, SignedAuthorization, Spec, Target, TargetSpace, Tier,
    Timestamp, authorization, campaign::Sweep, signers::AllowedSigners,
};

use crate::{
    args,
    exit::{OrRefuse, refuse},
    targets,
};

/// The polite rate, for whoever names none.
pub const RATE: u32 = 500;
/// The polite rate for each prefix.
pub const PREFIX_RATE: u32 = 20;

/// A specification that lacks only its canary.
pub struct Request {
    /// Addresses.
    pub targets: Vec<Target>,
    /// Exclusions.
    pub exclude: Vec<Target>,
    /// Ports.
    pub ports: Ports,
    /// Probes.
    pub probes: Vec<ProbeId>,
    /// New connections a second.
    pub rate: u32,
    /// New connections a second to each /24 or /64.
    pub prefix_rate: u32,
    /// Tier.
    pub tier: Tier,
    /// Sweep.
    pub sweep: Sweep,
    /// Seconds.
    pub settle: u32,
    /// The signed scope, and what it says.
    pub authorization: Option<(SignedAuthorization, Authorization)>,
}

impl Request {
    /// Reads options and files; refuses what cannot be run. `signers` are those that this side accepts.
    pub async fn read(options: &args::Request, signers: &AllowedSigners) -> anyhow::Result<Self> {
        let authorization = self::authorization(&options.authorization, signers)?;
        let allowed = authorization
            .as_ref()
            .map(|(_, authorization)| authorization);
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
        }
        TargetSpace::new(&listed.include, &listed.exclude).or_refuse()?;
        let is_local = |target: &&Target| target.first.is_loopback() && target.last.is_loopback();
        let stranger = listed.include.iter().find(|target| !is_local(target));
        if let (Some(stranger), None) = (stranger, allowed) {
            return refuse(authorization::Refusal::Unsigned(stranger.first));
        }
        let ports = match (&options.targets.ports, allowed) {
            (Some(ports), _) => ports.clone(),
            (None, Some(authorization)) => authorization.ports.clone(),
            (None, None) => default_ports(&probes)?,
        };
        let most = |polite: u32, cap: fn(&Authorization) -> u32| {
            allowed.map_or(polite, |authorization| polite.min(cap(authorization)))
        };
        let tier = match (options.tier, allowed) {
            (Some(asked), _) => self::tier(asked),
            (None, Some(authorization)) => authorization.tier,
            (None, None) => Tier::Deliver,
        };
        Ok(Self {
            targets: listed.include,
            exclude: listed.exclude,
            ports,
            probes,
            rate: options.rates.rate.unwrap_or(most(RATE, |a| a.rate)),
            prefix_rate: options
                .rates
                .prefix_rate
                .unwrap_or(most(PREFIX_RATE, |a| a.prefix_rate)),
            tier,
            sweep: sweep(options.sweep),
            settle: options.settle,
            authorization,
        })
    }

    /// True where every target is on loopback.
    pub fn is_loopback(&self) -> bool {
        self.targets
            .iter()
            .all(|target| target.first.is_loopback() && target.last.is_loopback())
    }

    /// Where the canary is to be: as asked, or as the authorization says, or on loopback.
    pub fn canary_address(&self, asked: Option<IpAddr>) -> anyhow::Result<IpAddr> {
        let authorized = self
            .authorization
            .as_ref()
            .and_then(|(_, a)| a.canary.first().copied());
        match asked.or(authorized) {
            Some(address) => Ok(address),
            None if self.is_loopback() => Ok(Ipv4Addr::LOCALHOST.into()),
            None => refuse(
                "no canary: give --canary ADDR, an address of this machine that the targets can reach",
            ),
        }
    }

    /// The canary's mail domain: as asked, or as the authorization says.
    pub fn canary_domain(&self, asked: Option<&str>) -> String {
        let authorized = self
            .authorization
            .as_ref()
            .and_then(|(_, a)| a.canary_domain.first().cloned());
        asked
            .map(str::to_owned)
            .or(authorized)
            .unwrap_or_else(|| "canary.test".to_owned())
    }

    /// The whole specification.
    pub fn with_canary(self, canary: Canary) -> Spec {
        let (authorization, tenant) = match self.authorization {
            Some((signed, authorization)) => (Some(signed), authorization.tenant),
            None => (None, "default".to_owned()),
        };
        Spec {
            tenant,
            targets: self.targets,
            exclude: self.exclude,
            ports: self.ports,
            probes: self.probes,
            rate: self.rate,
            prefix_rate: self.prefix_rate,
            tier: self.tier,
            sweep: self.sweep,
            settle_secs: self.settle,
            canary,
            authorization,
            traceparent: None,
        }
    }
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

/// The ports of the probes.
pub fn default_ports(probes: &[ProbeId]) -> anyhow::Result<Ports> {
    let ports = ajar_probe::probes()
        .filter(|probe| probes.contains(&probe.id()))
        .flat_map(|probe| probe.protocol().ports().iter().copied());
    Ports::new(ports).or_refuse()
}

/// `~/.config/ajar`, or what XDG says.
pub fn config_directory() -> Option<PathBuf> {
    xdg("XDG_CONFIG_HOME", ".config")
}

/// `~/.local/state/ajar`, or what XDG says.
pub fn state_directory() -> Option<PathBuf> {
    xdg("XDG_STATE_HOME", ".local/state")
}

fn xdg(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set = std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    let base = set.or_else(|| Some(std::env::home_dir()?.join(below_home)))?;
    Some(base.join("ajar"))
}

/// The authorization that is named, verified.
pub fn authorization(
    options: &args::Authorization,
    signers: &AllowedSigners,
) -> anyhow::Result<Option<(SignedAuthorization, Authorization)>> {
    let Some(file) = &options.authorization else {
        return Ok(None);
    };
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
        .verify(signers, Timestamp::now())
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

/// The model's tier.
pub fn tier(tier: args::Tier) -> Tier {
    match tier {
        args::Tier::Connect => Tier::Connect,
        args::Tier::Handshake => Tier::Handshake,
        args::Tier::Envelope => Tier::Envelope,
        args::Tier::Deliver => Tier::Deliver,
    }
}

/// The model's sweep.
pub fn sweep(method: args::SweepMethod) -> Sweep {
    match method {
        args::SweepMethod::Auto => Sweep::Auto,
        args::SweepMethod::Syn => Sweep::Syn,
        args::SweepMethod::Connect => Sweep::Connect,
        args::SweepMethod::None => Sweep::None,
    }
}
