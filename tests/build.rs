//! Lists the fuzz targets, so that a test can run each on its corpus.

use std::{env, fmt::Write, fs, path::Path};

fn main() {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("Cargo sets it");
    let targets = Path::new(&manifest).join("../fuzz/fuzz_targets");
    println!("cargo::rerun-if-changed={}", targets.display());
    println!("cargo::rustc-check-cfg=cfg(fuzzing)");
    let mut names: Vec<String> = fs::read_dir(&targets)
        .expect("the fuzz targets are there")
        .filter_map(|file| file.ok()?.file_name().into_string().ok())
        .filter_map(|name| Some(name.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort();
    let mut modules = String::new();
    let mut list = String::new();
    for name in &names {
        let path = targets.join(format!("{name}.rs"));
        writeln!(modules, "#[path = {:?}]\nmod {name};", path).expect("a string takes it");
        writeln!(list, "    ({name:?}, {name}::check),").expect("a string takes it");
    }
    let code = format!("{modules}\nconst TARGETS: &[Target] = &[\n{list}];\n");
    let out = env::var_os("OUT_DIR").expect("Cargo sets it");
    fs::write(Path::new(&out).join("fuzz_targets.rs"), code).expect("it can be written");
}
