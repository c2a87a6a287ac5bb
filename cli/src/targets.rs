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
        return refuse("no target was given: the list is empty, or none of its names resolves");
    }
    Ok(Listed {
        include,
        exclude,
        hosts,
        named,
    })
}

/// Bytes of a line, and lines of a list, that are read at most.
const MAX_LINE: u64 = 1024;
const MAX_LINES: usize = 10_000_000;

/// Characters of a wrong target that an error shows.
const SHOWN: usize = 80;

/// Reads targets from a file, one a line; `#` starts a comment. A name that does not resolve is
/// left out with a warning: lists of assets age.
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
        lines(BufReader::new(reader))
    });
    let lines = reading.await?;
    let lines = lines.map_err(|error| Refused(format!("{name} cannot be read: {error}")))?;
    let mut targets = Vec::new();
    for (number, line) in lines.into_iter().enumerate() {
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let place = format!("{name}, line {}", number + 1);
        match text.parse::<Target>() {
            Ok(target) => targets.push(target),
            Err(_) if target::is_host_name(text) => match resolve(text, hosts).await {
                Ok(found) => targets.extend(found),
                Err(error) => tracing::warn!("{place}: {error}; it is left out"),
            },
            Err(_) if text.chars().count() > SHOWN => {
                let start: String = text.chars().take(SHOWN).collect();
                return refuse(format_args!("{place}: {start:?}… is not a target"));
            }
            Err(error) => return refuse(format_args!("{place}: {error}")),
        }
    }
    Ok(targets)
}

/// Reads the lines of a list, within bounds. Windows programs begin a list by a byte order mark.
fn lines(mut reader: impl BufRead) -> std::io::Result<Vec<String>> {
    let mut lines: Vec<String> = Vec::new();
    loop {
        let mut line = String::new();
        let read = reader.by_ref().take(MAX_LINE + 1).read_line(&mut line)?;
        let number = lines.len() + 1;
        if read == 0 {
            return Ok(lines);
        }
        if read as u64 > MAX_LINE {
            let cause = format!("line {number} is longer than {MAX_LINE} bytes");
            return Err(std::io::Error::other(cause));
        }
        if number > MAX_LINES {
            let cause = format!("it has more than {MAX_LINES} lines");
            return Err(std::io::Error::other(cause));
        }
        let line = match lines.is_empty() {
            true => line.trim_start_matches('\u{feff}').to_owned(),
            false => line,
        };
        lines.push(line);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_within_bounds() {
        let check = |bytes: &[u8], expect: Result<&[&str], &str>| {
            let read = lines(bytes);
            match (read, expect) {
                (Ok(read), Ok(expect)) => assert_eq!(read, expect),
                (Err(error), Err(expect)) => assert_eq!(error.to_string(), expect),
                other => panic!("{other:?}"),
            }
        };
        check(
            b"\xef\xbb\xbf127.0.0.2\r\n127.0.0.3",
            Ok(&["127.0.0.2\r\n", "127.0.0.3"]),
        );
        check(b"", Ok(&[]));
        let long = [b"127.0.0.1\n".to_vec(), vec![b'x'; 2000]].concat();
        check(&long, Err("line 2 is longer than 1024 bytes"));
        check(&[0; 5000], Err("line 1 is longer than 1024 bytes"));
    }
}
