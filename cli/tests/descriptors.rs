//! A scan uses the open files that it is allowed, and says so if they are few.

use std::process::Command;

/// The standard error of a scan of one closed port under this limit of open files, as `ulimit` takes it.
fn scan_under(limit: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let scan = "scan 127.0.0.91 -p 9 --tier connect --sweep connect --canary-domain canary.test";
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit {limit} && exec \"$0\" {scan}")])
        .arg(env!("CARGO_BIN_EXE_ajar"))
        .current_dir(directory.path())
        .env_clear()
        .env("HOME", directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn a_limit_that_may_be_raised_is_raised() {
    assert!(!scan_under("-Sn 300").contains("only 300 files"));
}

#[test]
fn a_limit_that_may_not_be_raised_is_met_and_said() {
    let said = scan_under("-n 300");
    let words = "at most 86 targets are visited at a time";
    assert!(said.contains(words), "{said}");
}
