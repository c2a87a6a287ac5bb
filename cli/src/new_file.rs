//! Files that are written once.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::Context;

use crate::exit::OrRefuse;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// As the user's file mode creation mask says.
    Usual,
    /// Nobody but its owner.
    Owner,
}

/// Writes a file; an older one is never replaced, since somebody may rely on it.
pub fn write(path: &Path, readers: Readers, text: &str) -> anyhow::Result<()> {
    let mode = match readers {
        Readers::Usual => 0o666,
        Readers::Owner => 0o600,
    };
    let mut options = OpenOptions::new();
    let created = options.write(true).create_new(true).mode(mode).open(path);
    let mut file = created
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
        .or_refuse()?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("{} could not be written", path.display()))
}
