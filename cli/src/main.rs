//! The `ajar` command.
//!
//! Each subcommand is one file; [`run`] is what `demo`, `scan`, `sweep` and `campaign` have in common, [`local`]
//! the whole cluster in this process.

use std::{path::Path, process::ExitCode};

use args::{Cli, Command};
use clap::{CommandFactory, FromArgMatches};
use exit::Ended;

mod args;
mod audit;
mod authorize;
mod campaign;
mod canary;
mod certificates;
mod cluster;
mod config;
mod connect;
mod demo;
mod directories;
mod exclude;
mod exit;
mod findings;
mod fleet;
mod lab;
mod local;
mod monitoring;
mod new_file;
mod output;
mod owner;
mod pki;
mod probes;
mod progress;
mod rehearsal;
mod replay;
mod request;
mod results;
mod resume;
mod run;
mod say;
mod scan;
mod schedule;
mod services;
mod signers;
mod stop;
mod sweep;
mod targets;
mod telemetry;

fn main() -> ExitCode {
    let (cli, warnings) = match parse() {
        Ok(parsed) => parsed,
        Err(error) => return fail(&error),
    };
    // Two providers are linked by two dependencies otherwise, and rustls would not know which one to take.
    let _ = rustls::crypto::ring::default_provider().install_default();
    local::raise_descriptors();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let ended = runtime.block_on(async {
        let (level, service) = (usual_level(&cli.command), service_name(&cli.command));
        let telemetry = telemetry::start(cli.log_json, level, service)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let ended = run(cli.command).await;
        telemetry.end();
        ended
    });
    // Whoever waits for standard input waits in a thread of its own, and is not waited for.
    runtime.shutdown_background();
    match ended {
        Ok(ended) => ended.into(),
        Err(error) => fail(&error),
    }
}

async fn run(command: Command) -> anyhow::Result<Ended> {
    match command {
        Command::Demo(options) => demo::run(options).await,
        Command::Scan(options) => scan::run(*options).await,
        Command::Authorize(options) => authorize::run(options),
        Command::Coordinator(options) => services::coordinator(options).await,
        Command::Worker(options) => services::worker(options).await,
        Command::Canary(options) => services::canary(options).await,
        Command::Campaign(command) => campaign::run(command).await,
        Command::Schedule(command) => schedule::run(command).await,
        Command::Exclude(command) => exclude::run(command).await,
        Command::Findings(command) => findings::run(command).await,
        Command::Audit(command) => audit::run(command).await,
        Command::Pki(command) => pki::run(&command),
        Command::Workers(remote) => fleet::workers(&remote).await,
        Command::Canaries(remote) => fleet::canaries(&remote).await,
        Command::Probes => probes::run(),
        Command::Sweep(options) => sweep::run(*options).await,
    }
}

/// Reads the command line, and what in the environment looks like an option and is none.
fn parse() -> anyhow::Result<(Cli, Vec<String>)> {
    let command = config::apply(Cli::command(), Path::new(config::FILE))?;
    let variables = std::env::vars_os();
    let variables = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let warnings = config::unknown_variables(&command, variables);
    // nmap's spelling of --targets.
    let words = std::env::args_os().map(|word| match word == "-iL" {
        true => "--targets".into(),
        false => word,
    });
    let matches = command
        .try_get_matches_from(words)
        .unwrap_or_else(|error| exit(&error));
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| exit(&error));
    Ok((cli, warnings))
}

/// Prints what is wrong with the command line, or its help, and ends.
fn exit(error: &clap::Error) -> ! {
    let text = error.to_string();
    let shortened = say::shortened(&text);
    if shortened == text {
        error.exit();
    }
    say::line(shortened.trim_end());
    std::process::exit(error.exit_code());
}

/// Services tell what they do; a command on a terminal speaks only when something is wrong.
fn usual_level(command: &Command) -> &'static str {
    match command {
        Command::Coordinator(_) | Command::Worker(_) | Command::Canary(_) => "info",
        // Its lab is next door on purpose.
        Command::Demo(_) => "warn,ajar_worker::standpoint=off",
        _ => "warn",
    }
}

/// The service's name in traces, unless `OTEL_SERVICE_NAME` gives another.
fn service_name(command: &Command) -> &'static str {
    match command {
        Command::Coordinator(_) => "ajar-coordinator",
        Command::Worker(_) => "ajar-worker",
        Command::Canary(_) => "ajar-canary",
        _ => "ajar",
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    if !exit::is_unread(error) {
        say::failure(format_args!("ajar: {error:#}"));
    }
    exit::status(error)
}
