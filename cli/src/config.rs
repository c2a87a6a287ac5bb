//! Options from `ajar.toml` and the environment: file < environment < flag.
//!
//! The file has a table for each subcommand, with the long names of its options:
//!
//! ```toml
//! [scan]
//! rate = 2000
//! exclude = ["192.0.2.1", "192.0.2.9"]
//! ```

use std::path::Path;

use clap::{Arg, ArgAction, Command};

use crate::exit::{OrRefuse, refuse};

/// The file that is read if it exists.
pub const FILE: &str = "ajar.toml";

/// Gives every option of a command a name in the environment, and those in the file a default.
pub fn apply(command: Command, file: &Path) -> anyhow::Result<Command> {
    let command = with_environment(command, "AJAR");
    match std::fs::read_to_string(file) {
        Ok(text) => with_file(command, &text, file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(command),
        Err(error) => refuse(format_args!("{} cannot be read: {error}", file.display())),
    }
}

/// Returns a warning for each variable that looks like an option's and is none.
pub fn unknown_variables(
    command: &Command,
    variables: impl Iterator<Item = (String, String)>,
) -> Vec<String> {
    let mut known = vec!["AJAR_LOG".to_owned()];
    add_variables(command, &mut known);
    let stray = variables.filter(|(name, value)| {
        name.starts_with("AJAR_") && !known.contains(name) && !is_of_kubernetes(name, value)
    });
    stray
        .map(|(name, _)| {
            let distance = |known: &&String| strsim::levenshtein(known, &name);
            match known.iter().min_by_key(distance) {
                Some(near) if distance(&near) <= 3 => {
                    format!("{name} is no option of ajar and is ignored; did you mean {near}?")
                }
                _ => format!("{name} is no option of ajar and is ignored"),
            }
        })
        .collect()
}

fn add_variables(command: &Command, known: &mut Vec<String>) {
    let names = command.get_arguments().filter_map(Arg::get_env);
    known.extend(names.map(|name| name.to_string_lossy().into_owned()));
    for sub in command.get_subcommands() {
        add_variables(sub, known);
    }
}

/// Returns whether Kubernetes made a variable for a service whose name begins with `ajar`
/// (kubernetes.io/docs/concepts/services-networking/service, environment variables).
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let ends = [
        "_SERVICE_HOST",
        "_TCP_ADDR",
        "_TCP_PORT",
        "_TCP_PROTO",
        "_UDP_ADDR",
        "_UDP_PORT",
        "_UDP_PROTO",
    ];
    name.contains("_SERVICE_PORT")
        || ends.iter().any(|end| name.ends_with(end))
        || value.starts_with("tcp://")
        || value.starts_with("udp://")
}

fn with_environment(command: Command, prefix: &'static str) -> Command {
    command
        .mut_args(|arg| match arg.get_long().map(str::to_owned) {
            Some(long) if !matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) => {
                let name = long.replace('-', "_").to_uppercase();
                arg.env(format!("{prefix}_{name}")).hide_env(true)
            }
            _ => arg,
        })
        .mut_subcommands(|sub| with_environment(sub, prefix))
}

fn with_file(mut command: Command, text: &str, file: &Path) -> anyhow::Result<Command> {
    let name = file.display();
    let tables: toml::Table = toml::from_str(text)
        .map_err(|error| format!("{name}: {error}"))
        .or_refuse()?;
    for (sub, options) in tables {
        let toml::Value::Table(options) = options else {
            return refuse(format_args!(
                "{name}: {sub} is not a table: options stand below [scan] and so on"
            ));
        };
        if command.find_subcommand(&sub).is_none() {
            return refuse(format_args!("{name}: [{sub}] is not a subcommand of ajar"));
        }
        for (option, value) in options {
            let values = words(&value)
                .ok_or_else(|| format!("{name}: {sub}.{option} must be text, a number, true or false, or a list of them"))
                .or_refuse()?;
            let Some(id) = option_id(&command, &sub, &option) else {
                return refuse(format_args!("{name}: ajar {sub} has no option --{option}"));
            };
            command = command.mut_subcommand(&sub, |sub| {
                sub.mut_arg(id, |arg: Arg| arg.default_values(values))
            });
        }
    }
    Ok(command)
}

fn option_id(command: &Command, sub: &str, option: &str) -> Option<String> {
    command
        .find_subcommand(sub)?
        .get_arguments()
        .find(|arg| arg.get_long() == Some(option))
        .map(|arg| arg.get_id().to_string())
}

fn words(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(flag) => Some(vec![flag.to_string()]),
        toml::Value::Array(list) => {
            let words: Option<Vec<Vec<String>>> = list.iter().map(words).collect();
            words.map(|words| words.concat())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use crate::{
        args::{Cli, Command as Sub},
        request,
    };

    fn rate(file: &str, args: &[&str]) -> anyhow::Result<u32> {
        let command = with_file(Cli::command(), file, Path::new("ajar.toml"))?;
        let matches = command.try_get_matches_from(args)?;
        match Cli::from_arg_matches(&matches)?.command {
            Sub::Scan(scan) => Ok(scan.request.rates.rate.unwrap_or(request::RATE)),
            _ => anyhow::bail!("not a scan"),
        }
    }

    #[test]
    fn a_flag_outranks_the_file_and_the_file_outranks_the_default() {
        assert_eq!(rate("", &["ajar", "scan", "::1"]).unwrap(), 500);
        assert_eq!(
            rate("[scan]\nrate = 7", &["ajar", "scan", "::1"]).unwrap(),
            7
        );
        assert_eq!(
            rate("[scan]\nrate = 7", &["ajar", "scan", "::1", "--rate", "9"]).unwrap(),
            9
        );
    }

    #[test]
    fn a_variable_that_is_no_option_is_named() {
        let command = with_environment(Cli::command(), "AJAR");
        let warnings = |variables: &[(&str, &str)]| {
            let variables = variables.iter();
            let variables =
                variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            unknown_variables(&command, variables)
        };
        let known = [
            ("AJAR_RATE", "5"),
            ("AJAR_LOG", "debug"),
            ("AJAR_CANARY_DOMAIN", "a.example,b.example"),
            ("AJAR_COORDINATOR_SERVICE_PORT_GRPC", "7400"),
            ("AJAR_COORDINATOR_PORT", "tcp://10.0.0.1:7400"),
            ("RTE", "5"),
        ];
        assert_eq!(warnings(&known), Vec::<String>::new());
        let said = warnings(&[("AJAR_RTE", "5"), ("AJAR_WHATEVER_ELSE", "")]);
        assert!(said[0].ends_with("did you mean AJAR_RATE?"), "{said:?}");
        assert_eq!(
            said[1],
            "AJAR_WHATEVER_ELSE is no option of ajar and is ignored"
        );
    }

    #[test]
    fn what_the_file_misspells_is_named() {
        let check = |file: &str, expect: &str| {
            let error = rate(file, &["ajar", "scan", "::1"])
                .unwrap_err()
                .to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("[scan]\nrates = 7", "--rates");
        check("[scam]\nrate = 7", "[scam]");
        check("rate = 7", "rate is not a table");
        check("[scan", "ajar.toml");
    }
}
