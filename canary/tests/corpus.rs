//! Replays the fuzz corpus on the ordinary toolchain, so that what fuzzing once found stays mended.

#[path = "../../fuzz/src/sink.rs"]
mod sink;

use std::{fs, path::Path};

#[test]
fn the_corpus_of_the_sink_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/canary");
    let mut inputs = 0;
    for entry in fs::read_dir(&corpus).unwrap() {
        sink::canary(&fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs >= 3, "{} holds {inputs} inputs", corpus.display());
}
