//! Replays the fuzz corpora on the ordinary toolchain, so that what fuzzing once found stays mended.

#[path = "../../fuzz/src/lib.rs"]
mod shared;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

pub use shared::{Tapes, framed};

// The targets name what they share as their own library does.
extern crate self as ajar_fuzz;

/// A fuzz target's name, and what it asserts.
type Target = (&'static str, fn(&[u8]));

include!(concat!(env!("OUT_DIR"), "/fuzz_targets.rs"));

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn names(directory: &Path) -> BTreeSet<String> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn every_target_holds_on_its_corpus() {
    for (name, check) in TARGETS {
        let corpus = root().join("fuzz/corpus").join(name);
        assert!(corpus.is_dir(), "{name} has no corpus");
        let inputs = names(&corpus);
        assert!(!inputs.is_empty(), "the corpus of {name} is empty");
        for input in inputs {
            let data = fs::read(corpus.join(&input)).unwrap();
            let ran = std::panic::catch_unwind(|| check(&data));
            assert!(ran.is_ok(), "{name} fails on {input}");
        }
    }
}

#[test]
fn every_corpus_has_a_target_and_every_target_is_built() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&root().join("fuzz/corpus")), targets);
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    for name in targets {
        let path = format!("path = \"fuzz_targets/{name}.rs\"");
        assert!(manifest.contains(&path), "{name} is not in fuzz/Cargo.toml");
    }
}

#[test]
fn every_codec_has_a_target() {
    let sources = root().join("fuzz/fuzz_targets");
    let targets: String = names(&sources)
        .iter()
        .map(|name| fs::read_to_string(sources.join(name)).unwrap())
        .collect();
    let probe = root().join("probe/src");
    for protocol in names(&probe).iter().filter(|name| !name.contains('.')) {
        for file in names(&probe.join(protocol)) {
            let codec = file
                .strip_suffix(".rs")
                .filter(|name| name.starts_with("codec"));
            let Some(codec) = codec else { continue };
            let path = format!("ajar_probe::{protocol}::{codec}");
            assert!(targets.contains(&path), "no fuzz target uses {path}");
        }
    }
    assert!(targets.contains("ajar_canary::codec"));
    assert!(targets.contains("ajar_sweep::syn"));
}
