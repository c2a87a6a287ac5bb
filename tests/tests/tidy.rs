//! Rules of CONTRIBUTING.md that a program can check.

use std::{
    fs,
    path::{Path, PathBuf},
};

const LONGEST: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file of the project.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 100, "only {} files were found", found.len());
    found
}

#[test]
fn no_file_is_long() {
    for path in sources() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(
            lines <= LONGEST,
            "{} has {lines} lines: does it have one reason to exist?",
            path.display()
        );
    }
}

#[test]
fn no_file_is_a_drawer() {
    for path in sources() {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            !["common", "util", "utils", "helpers", "misc"].contains(&stem.as_str()),
            "{}",
            path.display()
        );
    }
}

#[test]
fn every_room_shares_the_lints() {
    for entry in fs::read_dir(root()).unwrap() {
        let manifest = entry.unwrap().path().join("Cargo.toml");
        if manifest.exists() && !manifest.parent().unwrap().ends_with("fuzz") {
            let text = fs::read_to_string(&manifest).unwrap();
            assert!(
                text.contains("[lints]\nworkspace = true"),
                "{}",
                manifest.display()
            );
        }
    }
}

#[test]
fn the_worker_opens_sockets_in_its_egress_only() {
    for path in sources() {
        let is_worker = path.to_string_lossy().contains("/worker/src/");
        if is_worker && !path.ends_with("egress.rs") {
            let code: String = fs::read_to_string(&path)
                .unwrap()
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            assert!(
                !code.contains("tokio::net") && !code.contains("std::net::Tcp"),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn what_is_unsafe_shares_frames_with_the_kernel_or_stands_in_for_it() {
    let known = [
        "sweep/src/syn/xdp.rs",
        "benches/src/bare_frames.rs",
        "tests/tests/simulation/boundary.rs",
    ];
    for path in sources() {
        let allows = fs::read_to_string(&path).unwrap();
        let allows = allows.contains(concat!("unsafe", "_code,"));
        assert_eq!(
            allows,
            known.iter().any(|file| path.ends_with(file)),
            "{}",
            path.display()
        );
    }
}

#[test]
fn every_test_that_the_documentation_names_is_there() {
    let page = fs::read_to_string(root().join("docs/what-fools-scanners.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let cases = rows.filter(|row| !row.starts_with("| case") && !row.starts_with("| ---"));
    let code: String = sources()
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let mut seen = 0;
    for case in cases {
        let tests = case.rsplit('|').nth(1).unwrap_or_default();
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test in {case}");
        for name in names {
            assert!(
                code.contains(&format!("fn {name}(")),
                "{name} is no test: {case}"
            );
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} tests were found");
}
