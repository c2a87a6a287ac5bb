//! Somebody who signs authorizations.

use std::{fs, process::Command};

use anyhow::ensure;

use crate::Ajar;

impl Ajar {
    /// Makes a key pair `key`, and lists it in the file `signers`.
    pub fn make_signer(&self) -> anyhow::Result<()> {
        let keygen = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f", "key"])
            .current_dir(self.path())
            .status()?;
        ensure!(keygen.success(), "ssh-keygen failed");
        let public = fs::read_to_string(self.path().join("key.pub"))?;
        let line = format!("ops@example.net {public}");
        Ok(fs::write(self.path().join("signers"), line)?)
    }

    /// Signs an authorization with that key, and writes it to `file`: its targets and further options, in one line.
    pub fn authorize(&self, file: &str, options: &str) -> anyhow::Result<()> {
        let fixed = format!("authorize --key key --contact ops@example.net -o {file} {options}");
        let written = self.run(&fixed)?;
        ensure!(written.status == 0, "{}", written.stderr);
        Ok(())
    }

    /// A directory with a key and an authorization `a.toml` for port 25 at tier `connect`, whose canary is 127.0.0.1.
    pub fn authorized(options: &str) -> anyhow::Result<Self> {
        let ajar = Self::new()?;
        ajar.make_signer()?;
        ajar.authorize_connect("a.toml", options)?;
        Ok(ajar)
    }

    /// Signs one more authorization of that kind.
    pub fn authorize_connect(&self, file: &str, options: &str) -> anyhow::Result<()> {
        let fixed = "--canary 127.0.0.1 --ports 25 --tier connect";
        self.authorize(file, &format!("{fixed} {options}"))
    }

    /// Changes an authorization's text, and signs it again with stock tools.
    pub fn sign_again(&self, file: &str, from: &str, to: &str) -> anyhow::Result<()> {
        let path = self.path().join(file);
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{text}");
        fs::write(&path, text.replace(from, to))?;
        let _ = fs::remove_file(self.path().join(format!("{file}.sig")));
        let signed = Command::new("ssh-keygen")
            .args([
                "-q",
                "-Y",
                "sign",
                "-n",
                "ajar-authorization",
                "-f",
                "key",
                file,
            ])
            .current_dir(self.path())
            .status()?;
        ensure!(signed.success(), "ssh-keygen failed");
        Ok(())
    }
}
