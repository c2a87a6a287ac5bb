//! `ajar authorize`: writes an authorization and signs it.

use std::{
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

use ajar_model::{Authorization, Target, Timestamp, addresses::AddressSet};
use ssh_key::{Algorithm, PrivateKey, PublicKey};
use ulid::Ulid;

use crate::{
    args, directories,
    exit::{Ended, OrRefuse, refuse},
    new_file::{self, Readers},
    request,
};

const SECONDS_A_DAY: i64 = 24 * 60 * 60;

pub fn run(options: args::Authorize) -> anyhow::Result<Ended> {
    if options.output == Path::new("-") {
        return refuse("an authorization is two files, itself and its signature: name one with -o");
    }
    let key_path = key_path(&options)?;
    let key = Key::read(&key_path)?;
    let authorization = authorization(&options)?;
    let text = authorization.to_toml();
    let signature = request::signature_path(&options.output);
    if signature.exists() {
        return refuse(format_args!(
            "{} exists already: remove it, or name another file with -o",
            signature.display()
        ));
    }
    if let Some(network) = vast(&authorization) {
        tracing::warn!(
            %network,
            "this is more than any one owner has: sign only what you may audit"
        );
    }
    match &key {
        Key::Open(key) => {
            let signed = ajar_model::authorization::sign(&text, key).or_refuse()?;
            new_file::write(&options.output, Readers::Usual, &signed.text)?;
            new_file::write(&signature, Readers::Usual, &signed.signature)?;
        }
        Key::Locked(_) => {
            new_file::write(&options.output, Readers::Usual, &text)?;
            if let Err(error) = ask_ssh_keygen(&key_path, &options.output) {
                std::fs::remove_file(&options.output)?;
                return Err(error);
            }
        }
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "wrote {} and {}, valid until {}",
        options.output.display(),
        signature.display(),
        authorization.not_after
    )?;
    let public = key.public()?;
    let signers = directories::config()
        .map_or_else(|| "allowed_signers".into(), |d| d.join("allowed_signers"));
    let line = format!(
        "{} namespaces=\"{}\" {public}",
        options.contact,
        ajar_model::authorization::NAMESPACE
    );
    let known = std::fs::read_to_string(&signers)
        .is_ok_and(|text| text.contains(public.split(' ').nth(1).unwrap_or(&public)));
    if !known {
        writeln!(
            out,
            "whoever is to accept it adds this line to {}:\n  {line}",
            signers.display()
        )?;
    }
    Ok(Ended::Finished)
}

/// A key to sign with.
enum Key {
    /// A private key that can be used as it is.
    Open(Box<PrivateKey>),
    /// One that needs a passphrase, or an agent.
    Locked(PublicKey),
}

impl Key {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{name} cannot be read: {error}; make a key with `ssh-keygen -t ed25519`, or name one with --key"))
            .or_refuse()?;
        let key = match PublicKey::from_openssh(&text) {
            Ok(public) => Self::Locked(public),
            Err(_) => {
                let key = PrivateKey::from_openssh(&text)
                    .map_err(|error| {
                        format!("{name} cannot sign: {error}; only Ed25519 keys can, as `ssh-keygen -t ed25519` makes them")
                    })
                    .or_refuse()?;
                match key.is_encrypted() {
                    true => Self::Locked(key.public_key().clone()),
                    false => Self::Open(Box::new(key)),
                }
            }
        };
        let algorithm = match &key {
            Self::Open(key) => key.algorithm(),
            Self::Locked(public) => public.algorithm(),
        };
        if algorithm != Algorithm::Ed25519 {
            return refuse(format_args!(
                "{name} is of the type {algorithm}: only Ed25519 keys can sign, as `ssh-keygen -t ed25519` makes them"
            ));
        }
        Ok(key)
    }

    fn public(&self) -> anyhow::Result<String> {
        Ok(match self {
            Self::Open(key) => key.public_key().to_openssh()?,
            Self::Locked(public) => public.to_openssh()?,
        })
    }
}

/// Has ssh-keygen sign a file: it asks for the passphrase, or the agent.
fn ask_ssh_keygen(key: &Path, file: &Path) -> anyhow::Result<()> {
    let status = Command::new("ssh-keygen")
        .args([
            "-Y",
            "sign",
            "-n",
            ajar_model::authorization::NAMESPACE,
            "-f",
        ])
        .args([key, file])
        .status()
        .map_err(|error| format!("{} has a passphrase, and ssh-keygen, which would ask for it, cannot be run: {error}", key.display()))
        .or_refuse()?;
    match status.success() {
        true => Ok(()),
        false => refuse(format_args!(
            "ssh-keygen did not sign with {}: nothing was written",
            key.display()
        )),
    }
}

fn authorization(options: &args::Authorize) -> anyhow::Result<Authorization> {
    let probes = request::probes(&options.probes, None)?;
    let ports = request::ports(&options.ports, &probes)?;
    let targets = |texts: &[String]| {
        texts
            .iter()
            .map(|text| text.parse::<Target>())
            .collect::<Result<Vec<_>, _>>()
            .or_refuse()
    };
    let now = Timestamp::from_second(Timestamp::now().as_second())?;
    let (networks, exclude) = (targets(&options.target)?, targets(&options.exclude)?);
    // A campaign may be of a few addresses of a network that is too large to visit.
    let left = AddressSet::new(&networks).without(&AddressSet::new(&exclude));
    if left.is_empty() {
        return refuse("nothing is allowed: the exclusions hold every address that is named");
    }
    Ok(Authorization {
        version: 1,
        id: Ulid::new().to_string(),
        tenant: options.tenant.clone(),
        contact: options.contact.clone(),
        networks,
        exclude,
        ports,
        probes,
        tier: options.tier,
        claims: !options.no_claims,
        relay_ports: options.relay_ports.clone(),
        rate: options.rates.rate.unwrap_or(request::RATE),
        prefix_rate: options.rates.prefix_rate.unwrap_or(request::PREFIX_RATE),
        not_before: now,
        not_after: Timestamp::from_second(
            now.as_second() + i64::from(options.days) * SECONDS_A_DAY,
        )?,
        canary: options.canary.clone(),
        canary_domain: options.canary_domain.clone(),
        hosts: options.host.clone(),
    })
}

/// Returns a network that nobody owns as a whole: the largest allocations are a /8 and a /19.
fn vast(authorization: &Authorization) -> Option<&Target> {
    authorization.networks.iter().find(|network| {
        let bits = match network.first {
            IpAddr::V4(_) => 24,
            IpAddr::V6(_) => 128 - 19,
        };
        let [first, last] = [network.first, network.last].map(|ip| match ip {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits(),
        });
        (last - first) >> bits != 0
    })
}

fn key_path(options: &args::Authorize) -> anyhow::Result<PathBuf> {
    match (&options.key, std::env::home_dir()) {
        (Some(path), _) => Ok(path.clone()),
        (None, Some(home)) => Ok(home.join(".ssh/id_ed25519")),
        (None, None) => refuse("there is no home directory to find a key in: give --key FILE"),
    }
}
