//! The key that signs the canary's answers.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use ed25519_dalek::SigningKey;

use crate::Error;

/// Reads the key file, or makes one that only its owner can read.
pub fn load_or_create(path: &Path) -> Result<SigningKey, Error> {
    let unusable = |cause: String| Error::Key {
        path: path.display().to_string(),
        cause,
    };
    match File::open(path) {
        Ok(file) => read(file).map_err(unusable),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match create(path) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => File::open(path)
                .map_err(|e| e.to_string())
                .and_then(read)
                .map_err(unusable),
            created => created.map_err(|error| unusable(error.to_string())),
        },
        Err(error) => Err(unusable(error.to_string())),
    }
}

fn read(file: File) -> Result<SigningKey, String> {
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(
            "others can read it; make it private with chmod 600, or use another one".to_owned(),
        );
    }
    let mut seed = Vec::new();
    file.take(64)
        .read_to_end(&mut seed)
        .map_err(|error| error.to_string())?;
    let seed: [u8; 32] = seed
        .try_into()
        .map_err(|_| "it is not a key of 32 bytes".to_owned())?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Written aside and linked into place, so that nobody ever reads half a key.
fn create(path: &Path) -> io::Result<SigningKey> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)?;
    let linked = file
        .write_all(&seed)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&aside, path));
    fs::remove_file(&aside)?;
    linked.map(|()| SigningKey::from_bytes(&seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("canary.key");
        let made = load_or_create(&path).unwrap();
        assert_eq!(load_or_create(&path).unwrap().to_bytes(), made.to_bytes());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("canary.key");
        load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(
            load_or_create(&path)
                .unwrap_err()
                .to_string()
                .contains("chmod 600")
        );
    }
}
