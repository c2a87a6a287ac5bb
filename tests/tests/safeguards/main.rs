//! Would a test notice? Each safeguard of [`list`] is taken out in turn, and the test that is named there must fail.
//!
//! `make safeguards` does so, over a copy of the sources. `make test` sees that the list fits the sources.

mod list;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use list::{SAFEGUARDS, Safeguard};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn each_safeguard_is_where_the_list_has_it_and_its_test_is_there() {
    for safeguard in SAFEGUARDS {
        let text = fs::read_to_string(root().join(safeguard.file)).unwrap();
        assert_eq!(
            text.matches(safeguard.code).count(),
            1,
            "{}: {} holds its code not once",
            safeguard.what,
            safeguard.file
        );
        let name = safeguard.test.rsplit("::").next().unwrap();
        let test = format!("fn {name}(");
        let folder = match safeguard.package {
            "ajar-tests" => "tests",
            package => package.strip_prefix("ajar-").unwrap(),
        };
        assert!(
            holds(&root().join(folder), &test),
            "{}: there is no test {name}",
            safeguard.what
        );
    }
}

#[test]
#[ignore = "takes an hour: `make safeguards`"]
fn without_a_safeguard_its_test_fails() {
    let copy = copy_of_the_sources();
    let only = std::env::var("SAFEGUARD").unwrap_or_default();
    let wanted = SAFEGUARDS.iter().filter(|s| s.what.contains(&only));
    for safeguard in wanted.clone() {
        // A file that an earlier run was stopped at is newer in what was built.
        let file = copy.join(safeguard.file);
        fs::write(&file, fs::read_to_string(&file).unwrap()).unwrap();
    }
    for safeguard in wanted.clone() {
        let whole = is_passed(safeguard, &copy);
        assert!(whole, "{} fails as it is", safeguard.test);
    }
    let mut missed = Vec::new();
    for safeguard in wanted {
        let file = copy.join(safeguard.file);
        let whole = fs::read_to_string(&file).unwrap();
        fs::write(&file, whole.replace(safeguard.code, safeguard.without)).unwrap();
        let noticed = !is_passed(safeguard, &copy);
        fs::write(&file, whole).unwrap();
        let verdict = if noticed { "noticed" } else { "NOT NOTICED" };
        let what = safeguard.what;
        writeln!(io::stdout(), "{verdict}: {what}: {}", safeguard.test).unwrap();
        if !noticed {
            missed.push(safeguard.what);
        }
    }
    assert!(missed.is_empty(), "nobody noticed: {missed:?}");
}

/// True if a file in or below a folder holds a text.
fn holds(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => holds(&path, text),
            false => fs::read_to_string(&path).is_ok_and(|content| content.contains(text)),
        }
    })
}

/// Every file that git knows, as it is now, under the build directory: what was built for it last time still counts.
fn copy_of_the_sources() -> PathBuf {
    let copy = build().join("sources");
    let script =
        r#"rm -rf "$1" && mkdir -p "$1" && git ls-files -z | tar -c --null -T - | tar -x -C "$1""#;
    let copied = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(&copy)
        .current_dir(root())
        .status()
        .unwrap();
    assert!(copied.success(), "the sources could not be copied");
    copy
}

fn build() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("safeguards")
}

/// Builds the copy as it is, and runs the test of a safeguard.
fn is_passed(safeguard: &Safeguard, copy: &Path) -> bool {
    let mut packages = vec!["-p", safeguard.package];
    if safeguard.package == "ajar-tests" {
        // Its tests run the program.
        packages.extend(["-p", "ajar-cli"]);
    }
    let cargo = |rest: &[&str]| -> Output {
        Command::new("timeout")
            .args(["900", env!("CARGO"), "test", "--locked", "--quiet"])
            .args(&packages)
            .args(rest)
            .current_dir(copy)
            .env("CARGO_TARGET_DIR", build().join("target"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let built = cargo(&["--no-run"]);
    assert!(
        built.status.success(),
        "without {} it cannot be built: {}",
        safeguard.what,
        String::from_utf8_lossy(&built.stderr)
    );
    let ran = cargo(&[safeguard.test]);
    let said = String::from_utf8_lossy(&ran.stdout);
    let (passed, failed) = (said.contains(" 1 passed"), said.contains(" 1 failed"));
    assert!(
        passed != failed,
        "{} was not run alone: {said}",
        safeguard.test
    );
    passed
}
