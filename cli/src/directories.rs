//! Where files of a user are, by the XDG Base Directory Specification.

use std::path::PathBuf;

/// `~/.config/ajar`, or what XDG says.
pub fn config() -> Option<PathBuf> {
    xdg("XDG_CONFIG_HOME", ".config")
}

/// `~/.local/state/ajar`, or what XDG says.
pub fn state() -> Option<PathBuf> {
    xdg("XDG_STATE_HOME", ".local/state")
}

fn xdg(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set = std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    let base = set.or_else(|| Some(std::env::home_dir()?.join(below_home)))?;
    Some(base.join("ajar"))
}
