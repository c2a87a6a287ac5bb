//! The command that goes on with a campaign that was interrupted.

use std::{borrow::Cow, path::PathBuf};

use ajar_model::CampaignId;
use clap::ValueEnum;

use crate::args;

/// The command that goes on with a campaign just as this one ran it.
pub fn command(id: CampaignId, options: &args::Scan) -> String {
    let args::Scan {
        request,
        canary_service,
        resume: _,
        store,
        output,
        fail_on,
        standpoint,
        remote,
    } = options;
    let id = id.to_string();
    let mut words: Vec<Cow<'_, str>> = vec!["ajar".into(), "scan".into(), "--resume".into()];
    words.push(id.into());
    let mut option = |name: &'static str, value: Option<Cow<'_, str>>| {
        if let Some(value) = value {
            words.push(name.into());
            words.push(value.into_owned().into());
        }
    };
    let path = |path: &Option<PathBuf>| {
        path.as_ref()
            .map(|p| p.to_string_lossy().into_owned().into())
    };
    match &remote.coordinator {
        Some(url) => option("--coordinator", Some(url.into())),
        None => option("--store", Some(store.into())),
    }
    option("--tls-cert", path(&remote.tls.tls_cert));
    option("--tls-key", path(&remote.tls.tls_key));
    option("--tls-ca", path(&remote.tls.tls_ca));
    option(
        "--allowed-signers",
        path(&request.authorization.allowed_signers),
    );
    let ports = canary_service.canary_ports.as_ref();
    let ports = ports.map(|ports| {
        ports
            .iter()
            .map(u16::to_string)
            .collect::<Vec<_>>()
            .join(",")
    });
    option("--canary-ports", ports.map(Cow::from));
    option("--canary-key", path(&canary_service.canary_key));
    option(
        "--canary-certificate",
        path(&canary_service.canary_certificate),
    );
    option(
        "--canary-certificate-key",
        path(&canary_service.canary_certificate_key),
    );
    if output.output.as_os_str() != "-" {
        option("--output", Some(output.output.to_string_lossy()));
    }
    let format = output.format.and_then(|format| format.to_possible_value());
    option(
        "--format",
        format.map(|value| value.get_name().to_owned().into()),
    );
    let reporter = output.reporter.as_ref();
    let reporter = reporter.map(|by| format!("{} <{}>", by.organization, by.contact));
    option("--reporter", reporter.map(Cow::from));
    let public = standpoint.public_address.map(|ip| ip.to_string());
    option("--public-address", public.map(Cow::from));
    option("--helo", standpoint.helo.as_deref().map(Cow::from));
    for verdict in fail_on {
        option("--fail-on", Some(verdict.as_str().into()));
    }
    if output.inside_counts {
        words.push("--inside-counts".into());
    }
    if remote.tls.insecure {
        words.push("--insecure".into());
    }
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    /// The words of a line, as a shell splits it.
    fn split(line: &str) -> Vec<String> {
        let script = format!("printf '%s\\n' {line}");
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn scan(words: &[String]) -> args::Scan {
        match Cli::try_parse_from(words).unwrap().command {
            Command::Scan(scan) => *scan,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_printed_command_repeats_what_matters_in_any_shell() {
        let given = "ajar scan 127.0.0.1 --store 'my audit/it'\\''s.db' --allowed-signers 'a b' \
             --output 'out $HOME.jsonl' --format csv --reporter 'A B <a@b.example>' --fail-on open --fail-on unproven \
             --canary-ports 1,2,3,4 --canary-key k --inside-counts --public-address 192.0.2.7 --helo scanner.example";
        let first = scan(&split(given));
        let id = "01JD3Y5Q9Z8K7W6V5T4S3R2Q1P";
        let again = scan(&split(&command(id.parse().unwrap(), &first)));
        assert_eq!(again.resume.as_deref(), Some(id));
        assert_eq!(again.store, "my audit/it's.db");
        assert_eq!(again.output.output, PathBuf::from("out $HOME.jsonl"));
        assert_eq!(again.output.format, first.output.format);
        assert_eq!(again.output.reporter, first.output.reporter);
        assert!(again.output.reporter.is_some());
        assert_eq!(again.fail_on, first.fail_on);
        assert!(again.output.inside_counts);
        let public = again.standpoint.public_address;
        assert_eq!(public, Some("192.0.2.7".parse().unwrap()));
        assert_eq!(again.standpoint.helo.as_deref(), Some("scanner.example"));
        let after = again.request;
        assert_eq!(after.authorization.allowed_signers, Some("a b".into()));
        assert_eq!(
            again.canary_service.canary_ports,
            first.canary_service.canary_ports
        );
        assert_eq!(
            again.canary_service.canary_key,
            first.canary_service.canary_key
        );
    }
}
