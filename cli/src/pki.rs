//! `ajar pki`: a small certificate authority of one's own, for a first set-up.

use std::{
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
};

use jiff::{Span, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::{
    args::{self, PkiRole},
    exit::{Ended, OrRefuse, refuse},
    new_file::{self, Readers},
};

/// What URIs of ours begin with: a name that is nobody's on the Internet.
const TRUST_DOMAIN: &str = "spiffe://ajar.internal/ajar";

pub fn run(command: &args::Pki) -> anyhow::Result<Ended> {
    match command {
        args::Pki::Init(options) => init(options)?,
        args::Pki::Issue(options) => issue(options)?,
    }
    Ok(Ended::Finished)
}

/// Makes the authority: its certificate, which everybody needs, and its key, which nobody else gets.
fn init(options: &args::PkiInit) -> anyhow::Result<()> {
    let files = Files::of(&options.directory, "ca");
    files.refuse_to_replace()?;
    std::fs::create_dir_all(&options.directory)
        .map_err(|error| format!("{} cannot be made: {error}", options.directory.display()))
        .or_refuse()?;
    let mut ca = valid_for(options.days)?;
    ca.distinguished_name = named("ajar private CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = ca.self_signed(&key)?;
    files.write(&certificate.pem(), &key)?;
    say(format_args!(
        "wrote {} for everybody, and {}, which stays here: whoever has it can give any role to anybody",
        files.certificate.display(),
        files.key.display()
    ))
}

/// Makes a certificate that says what its holder may do, and its key.
fn issue(options: &args::PkiIssue) -> anyhow::Result<()> {
    let ca = Files::of(&options.directory, "ca");
    let is_server = options.role == PkiRole::Coordinator;
    if is_server == options.host.is_empty() {
        return refuse(match is_server {
            true => {
                "a coordinator's certificate needs the names and addresses that it is reached by: --host"
            }
            false => "--host is for a coordinator's certificate: nobody connects to others",
        });
    }
    let may_be_confined = matches!(options.role, PkiRole::Operator | PkiRole::Viewer);
    if options.tenant.is_some() && !may_be_confined {
        return refuse("--tenant is for operators and viewers: all others serve every tenant");
    }
    if options.vantage.is_some() && options.role != PkiRole::Worker {
        return refuse("--vantage is for a worker's certificate: nobody else probes");
    }
    let role = options.role.as_str();
    let files = Files::of(&options.directory, &format!("{role}-{}", options.name));
    files.refuse_to_replace()?;
    let key = read(&ca.key)?;
    let authority = KeyPair::from_pem(&key).map_err(|error| unusable(&ca.key, &error));
    let authority = Issuer::from_ca_cert_pem(&read(&ca.certificate)?, authority.or_refuse()?)
        .map_err(|error| unusable(&ca.certificate, &error))
        .or_refuse()?;
    let mut params = valid_for(options.days)?;
    params.distinguished_name = named(&options.name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![match is_server {
        true => ExtendedKeyUsagePurpose::ServerAuth,
        false => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    let name = &options.name;
    let uri = match (&options.tenant, &options.vantage) {
        (Some(tenant), _) => format!("{TRUST_DOMAIN}/tenant/{tenant}/{role}/{name}"),
        (None, Some(vantage)) => format!("{TRUST_DOMAIN}/{role}/{vantage}/{name}"),
        (None, None) => format!("{TRUST_DOMAIN}/{role}/{name}"),
    };
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into()?)];
    for host in &options.host {
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName(host.as_str().try_into().or_refuse()?),
        });
    }
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    files.write(&certificate.pem(), &key)?;
    say(format_args!(
        "wrote a certificate for {uri}, for {} days: --tls-cert {} --tls-key {} --tls-ca {}",
        options.days,
        files.certificate.display(),
        files.key.display(),
        ca.certificate.display()
    ))
}

/// A certificate and its key, in PEM.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(directory: &Path, name: &str) -> Self {
        Self {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}-key.pem")),
        }
    }

    fn refuse_to_replace(&self) -> anyhow::Result<()> {
        let mut files = [&self.certificate, &self.key].into_iter();
        match files.find(|file| file.exists()) {
            Some(file) => refuse(format_args!("{} exists already", file.display())),
            None => Ok(()),
        }
    }

    fn write(&self, certificate: &str, key: &KeyPair) -> anyhow::Result<()> {
        new_file::write(&self.key, Readers::Owner, &key.serialize_pem())?;
        new_file::write(&self.certificate, Readers::Usual, certificate)
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| {
            format!(
                "{} cannot be read: {error}; make an authority with `ajar pki init`",
                path.display()
            )
        })
        .or_refuse()
}

fn unusable(path: &Path, error: &rcgen::Error) -> String {
    format!("{} cannot be used: {error}", path.display())
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// From yesterday, since clocks differ, for so many days from today.
fn valid_for(days: u32) -> anyhow::Result<CertificateParams> {
    let today = TimeZone::UTC.to_datetime(Timestamp::now()).date();
    let date = |days: i64| -> anyhow::Result<_> {
        let date = today.checked_add(Span::new().try_days(days)?)?;
        let [month, day] = [date.month(), date.day()].map(|part| part.unsigned_abs());
        Ok(date_time_ymd(date.year().into(), month, day))
    };
    let mut params = CertificateParams::default();
    params.not_before = date(-1)?;
    // A day is over at its end.
    params.not_after = date(i64::from(days) + 1)?;
    Ok(params)
}

fn say(text: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}
