//! A store on a disk that is full, and has room again.

mod support;

use std::{fs, path::Path, process::Command};

use ajar_store::{Options, open};
use support::*;

/// A small disk, unmounted at the end. It needs root.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]);
        assert!(mount.arg(directory.path()).status().unwrap().success());
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .status();
    }
}

#[tokio::test]
async fn a_store_goes_on_once_its_disk_has_room_again() {
    let disk = Disk::mount();
    let url = disk.path().join("ajar.db").display().to_string();
    let store = open(&url, &Options::default()).await.unwrap();
    let shard = submit(&*store, 1, 1).await;
    let token = token(&*store, shard, at(0)).await;
    let report = |net: u8| {
        let seen = (0..=255).map(|host| observation(1, &format!("10.0.{net}.{host}:25"), REFUSED));
        batch(shard, token, seen.collect())
    };
    let filler = disk.path().join("filler");
    // Fails once the disk is full.
    let _ = fs::write(&filler, vec![0; 8 << 20]);
    let mut refused = 0;
    for net in 0..20 {
        refused += usize::from(store.ingest(&report(net)).await.is_err());
    }
    assert!(refused > 0, "the disk was not full");
    fs::remove_file(&filler).unwrap();
    for net in 0..3 {
        store.ingest(&report(net)).await.unwrap();
    }
    assert!(all_findings(&*store).await.len() >= 3 * 256);
    store.close().await.unwrap();
}
