//! Whose signatures are accepted, read again while a service runs: whoever is taken out of the file stops what they allowed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ajar_model::signers::AllowedSigners;
use tokio::sync::watch;

use crate::{
    directories,
    exit::{OrRefuse, refuse},
};

/// How often the file is read.
const EVERY: Duration = Duration::from_secs(1);

/// The signers of the file that is named, or of the usual one: as they are now, and as they change.
pub fn follow(named: Option<&Path>) -> anyhow::Result<watch::Receiver<AllowedSigners>> {
    let Some(path) = file(named) else {
        return Ok(watch::channel(AllowedSigners::nobody("--allowed-signers FILE")).1);
    };
    let (first, signers) = match (read(&path), named) {
        (Text::Is(text), _) => {
            let signers = parse(&text, &path).or_refuse()?;
            (Text::Is(text), signers)
        }
        // Nobody has to have the usual file.
        (Text::Missing, None) => (Text::Missing, nobody(&path)),
        (Text::Missing, Some(_)) => {
            return refuse(format_args!("{} does not exist", path.display()));
        }
        (Text::Unreadable(cause), _) => {
            return refuse(format_args!("{} cannot be read: {cause}", path.display()));
        }
    };
    let (sender, receiver) = watch::channel(signers);
    tokio::spawn(reread(path, first, sender));
    Ok(receiver)
}

/// The signers as they are now.
pub fn now(named: Option<&Path>) -> anyhow::Result<AllowedSigners> {
    Ok(follow(named)?.borrow().clone())
}

/// Never, to be handed where nothing is ever authorized.
pub fn none() -> watch::Receiver<AllowedSigners> {
    watch::channel(AllowedSigners::nobody("the allowed signers")).1
}

/// The file that is named, or the usual one.
fn file(named: Option<&Path>) -> Option<PathBuf> {
    let usual = || Some(directories::config()?.join("allowed_signers"));
    named.map(Path::to_owned).or_else(usual)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    Is(String),
    Missing,
    Unreadable(String),
}

fn read(path: &Path) -> Text {
    match std::fs::read_to_string(path) {
        Ok(text) => Text::Is(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Text::Missing,
        Err(error) => Text::Unreadable(error.to_string()),
    }
}

fn parse(text: &str, path: &Path) -> Result<AllowedSigners, ajar_model::signers::Error> {
    AllowedSigners::parse(text, &path.display().to_string())
}

fn nobody(path: &Path) -> AllowedSigners {
    AllowedSigners::nobody(&path.display().to_string())
}

async fn reread(path: PathBuf, mut known: Text, sender: watch::Sender<AllowedSigners>) {
    let mut before = known.clone();
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = sender.closed() => return,
        }
        let text = read(&path);
        // Read twice alike: an editor may be in the middle of writing it.
        let is_settled = std::mem::replace(&mut before, text.clone()) == text;
        if !is_settled || text == known {
            continue;
        }
        let file = path.display();
        let signers = match &text {
            Text::Is(text) => parse(text, &path).map_err(|error| error.to_string()),
            Text::Missing => Ok(nobody(&path)),
            Text::Unreadable(cause) => Err(format!("{file} cannot be read: {cause}")),
        };
        known = text;
        match signers {
            Ok(signers) => {
                tracing::warn!(%file, "the allowed signers changed");
                sender.send_replace(signers);
            }
            Err(cause) => tracing::error!(cause, "the allowed signers stay as they were"),
        }
    }
}
