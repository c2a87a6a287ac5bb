//! A SQLite store has one owner at a time: whoever runs campaigns in it. Readers need not ask.

use std::{
    fs::{File, TryLockError},
    io::{Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::exit::{OrRefuse, refuse};

/// The right to run campaigns in one file, as long as it is held.
pub struct Owner {
    lock: PathBuf,
    _file: File,
}

impl Owner {
    /// Makes a SQLite store ours alone. None for other stores, which are shared. Fails with the owner's name if there is
    /// one.
    pub fn of(store_url: &str) -> anyhow::Result<Option<Self>> {
        let Some(path) = file_of(store_url) else {
            return Ok(None);
        };
        let lock = PathBuf::from(format!("{path}.lock"));
        loop {
            let mut file = open(&lock)
                .map_err(|error| {
                    format!(
                        "the store {path} cannot be used: {} cannot be written: {error}",
                        lock.display()
                    )
                })
                .or_refuse()?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &lock) => {
                    file.set_len(0)?;
                    writeln!(file, "{}", description())?;
                    return Ok(Some(Self { lock, _file: file }));
                }
                // Its owner ended, and took the file with it.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut owner = String::new();
                    file.read_to_string(&mut owner)?;
                    return refuse(format_args!(
                        "the store {path} is in use by {}: wait for it, or give another file with --store",
                        owner.trim_end()
                    ));
                }
                Err(TryLockError::Error(error)) => {
                    return refuse(format_args!("{} cannot be locked: {error}", lock.display()));
                }
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // While it is still locked: whoever opened it meanwhile sees that it is gone.
        let _ = std::fs::remove_file(&self.lock);
    }
}

/// The file of a SQLite store.
pub fn file_of(store_url: &str) -> Option<&str> {
    match store_url.strip_prefix("sqlite:") {
        Some(path) => Some(path.strip_prefix("//").unwrap_or(path)),
        None => (!store_url.contains("://")).then_some(store_url),
    }
}

fn open(lock: &Path) -> std::io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(lock)
}

/// True if the path still leads to this very file.
fn is_at(file: &File, path: &Path) -> bool {
    let inode = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let (Ok(held), Ok(found)) = (file.metadata(), std::fs::metadata(path)) else {
        return false;
    };
    inode(held) == inode(found)
}

fn description() -> String {
    let command = std::env::args().nth(1).unwrap_or_default();
    format!("process {} (ajar {command})", std::process::id())
}
