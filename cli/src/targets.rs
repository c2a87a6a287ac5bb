//! From what an operator names to addresses: arguments, files, standard input, host names.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read},
    net::IpAddr,
    path::Path,
};

use ajar_model::{Host, Target, target};

use crate::{
    args,
    exit::{OrRefuse, Refused, refuse},
};

/// What a run is to visit, and what not.
#[derive(Debug, Default)]
pub struct Listed {
    /// Targets; empty if none was named.
    pub include: Vec<Target>,
    pub exclude: Vec<Target>,
    /// The names that targets were given by.
    pub hosts: Vec<Host>,
    /// True if targets were named, if only by an empty file.
    pub named: bool,
}

/// Reads what the options name. Host names are resolved once, here.
pub async fn read(options: &args::Targets) -> anyhow::Result<Listed> {
    let (mut include, mut hosts) = (Vec::new(), Vec::new());
    for text in &options.target {
        include.extend(one(text, &mut hosts).await?);
    }
    if let Some(file) = &options.targets {
        include.extend(read_file(file, &mut hosts).await?);
    }
    let (mut exclude, mut nowhere) = (Vec::new(), Vec::new());
    for text in &options.exclude {
        exclude.extend(one(text, &mut nowhere).await?);
    }
    if let Some(file) = &options.exclude_file {
        exclude.extend(read_file(file, &mut nowhere).await?);
    }
    let named = !options.target.is_empty() || options.targets.is_some();
    if named && include.is_empty() {
        return refuse("no target was given: the list is empty");
    }
    Ok(Listed {
        include,
        exclude,
        hosts,
        named,
    })
}

/// Targets of a file, one a line; `#` starts a comment.
async fn read_file(file: &Path, hosts: &mut Vec<Host>) -> anyhow::Result<Vec<Target>> {
    let is_standard_input = file == Path::new("-");
    let name = match is_standard_input {
        true => "standard input".to_owned(),
        false => file.display().to_string(),
    };
    let path = file.to_owned();
    // Whoever types may take their time: a thread of its own waits, and a signal is heard meanwhile.
    let reading = tokio::task::spawn_blocking(move || {
        let reader: Box<dyn Read> = match is_standard_input {
            true => Box::new(std::io::stdin()),
            false => Box::new(std::fs::File::open(path)?),
        };
        BufReader::new(reader)
            .lines()
            .collect::<Result<Vec<String>, _>>()
    });
    let lines = reading.await?;
    let lines = lines.map_err(|error| Refused(format!("{name} cannot be read: {error}")))?;
    let mut targets = Vec::new();
    for (number, line) in lines.into_iter().enumerate() {
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let found = one(text, hosts).await;
        targets.extend(
            found.map_err(|error| Refused(format!("{name}, line {}: {error}", number + 1)))?,
        );
    }
    Ok(targets)
}

/// The target that a text names; a host name may have several addresses, and is noted.
async fn one(text: &str, hosts: &mut Vec<Host>) -> anyhow::Result<Vec<Target>> {
    match text.parse::<Target>() {
        Ok(target) => Ok(vec![target]),
        Err(_) if target::is_host_name(text) => resolve(text, hosts).await,
        Err(error) => refuse(error),
    }
}

async fn resolve(name: &str, hosts: &mut Vec<Host>) -> anyhow::Result<Vec<Target>> {
    let found = tokio::net::lookup_host((name, 0)).await;
    let found = found
        .map_err(|error| format!("{name:?} cannot be resolved: {error}"))
        .or_refuse()?;
    let addresses: BTreeSet<IpAddr> = found.map(|address| address.ip()).collect();
    if addresses.is_empty() {
        return refuse(format_args!("{name:?} has no address"));
    }
    let targets = addresses.iter().copied().map(Target::from).collect();
    hosts.push(Host {
        name: name.to_owned(),
        addresses: addresses.into_iter().collect(),
    });
    Ok(targets)
}
