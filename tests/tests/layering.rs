//! The floor plan of ARCHITECTURE.md, held against the manifests.

use std::{collections::BTreeMap, path::Path, process::Command};

/// Which rooms a room may import. `tests` and `benches` stand outside.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("queue", &["model"]),
    ("store", &["model"]),
    ("proto", &["model"]),
    ("probe", &["model"]),
    ("sweep", &["model"]),
    ("coordinator", &["model", "proto", "queue", "store"]),
    ("worker", &["model", "proto", "probe", "sweep"]),
    ("canary", &["model"]),
    (
        "cli",
        &[
            "model",
            "proto",
            "probe",
            "sweep",
            "queue",
            "store",
            "coordinator",
            "worker",
            "canary",
        ],
    ),
];

/// Normal and build dependencies of each room on other rooms.
fn edges() -> BTreeMap<String, Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root)
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let room = |name: &serde_json::Value| name.as_str()?.strip_prefix("ajar-").map(str::to_owned);
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|package| {
            let imports = package["dependencies"].as_array()?.iter();
            let imports = imports
                .filter(|d| d["kind"] != "dev")
                .filter_map(|d| room(&d["name"]));
            Some((room(&package["name"])?, imports.collect()))
        })
        .collect()
}

#[test]
fn no_room_imports_what_the_floor_plan_does_not_allow() {
    let edges = edges();
    for (room, allowed) in ALLOWED {
        let imports = &edges[*room];
        let wrong: Vec<_> = imports
            .iter()
            .filter(|i| !allowed.contains(&i.as_str()))
            .collect();
        assert!(wrong.is_empty(), "{room} imports {wrong:?}");
    }
    let known = |room: &String| {
        ALLOWED.iter().any(|(name, _)| name == room)
            || ["tests", "benches"].contains(&room.as_str())
    };
    let unknown: Vec<_> = edges.keys().filter(|room| !known(room)).collect();
    assert!(
        unknown.is_empty(),
        "{unknown:?} have no place in the floor plan"
    );
}
