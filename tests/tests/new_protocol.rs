//! `make new-protocol` makes a skeleton that compiles without a warning.

use std::{path::Path, process::Command};

use ajar_tests::finished;

/// Compiles the fuzz target beside the probes, as `corpus.rs` does in the workspace.
const FUZZ: &str = r#"
#[path = "../../fuzz/src/lib.rs"]
mod shared;
#[path = "../../fuzz/fuzz_targets/gopher.rs"]
mod target;
pub use shared::{Tapes, framed};
extern crate self as ajar_fuzz;
#[test]
fn it_holds_on_its_corpus() {
    target::check(include_bytes!("../../fuzz/corpus/gopher/yes"));
}
"#;

#[test]
fn the_skeleton_of_a_protocol_compiles_without_a_warning() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let copy = tempfile::tempdir().unwrap();
    let run = |command: &mut Command| {
        let run = finished(command).unwrap();
        assert_eq!(run.status, 0, "{}", run.stderr);
    };
    let skip = ["target", ".git"].map(|name| format!("--exclude=./{name}"));
    let tree = copy.path().join("tree.tar");
    let mut tar = Command::new("tar");
    run(tar
        .args(skip)
        .arg("-cf")
        .arg(&tree)
        .arg("-C")
        .arg(&root)
        .arg("."));
    run(Command::new("tar")
        .arg("-xf")
        .arg(&tree)
        .arg("-C")
        .arg(copy.path()));
    run(Command::new("make")
        .args(["new-protocol", "NAME=gopher"])
        .current_dir(copy.path()));
    std::fs::write(copy.path().join("probe/tests/fuzz.rs"), FUZZ).unwrap();
    // Not where the workspace is built: Cargo would take its crates for these.
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap().join("new-protocol");
    run(Command::new(env!("CARGO"))
        .args(["check", "--offline", "--tests", "-p", "ajar-probe"])
        .current_dir(copy.path())
        .env("CARGO_TARGET_DIR", target)
        .env("RUSTFLAGS", "--deny warnings --check-cfg cfg(fuzzing)"));
}
