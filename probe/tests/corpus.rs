//! Replays the fuzz corpus on the ordinary toolchain, so that what fuzzing once found stays mended.

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use std::{fs, path::Path};

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        let ran = std::panic::catch_unwind(|| run(&input));
        assert!(ran.is_ok(), "{}", path.display());
        inputs += 1;
    }
    assert!(inputs > 0, "{} holds no input", corpus.display());
}

#[test]
fn the_corpus_of_every_codec_holds() {
    replay("smtp", fuzz::smtp);
    replay("http", fuzz::http);
    replay("socks4", fuzz::socks4);
    replay("socks5", fuzz::socks5);
}

#[test]
fn the_corpus_of_whole_examinations_holds() {
    replay("examine", fuzz::examine);
}
