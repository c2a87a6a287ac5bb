//! Bad input gets a clear error and status 2, and nothing is sent.

use std::{
    io::Write,
    process::{Command, Stdio},
};

/// Runs `ajar` in an empty directory; its status and standard error.
fn run(arguments: &[&str], files: &[(&str, &str)], input: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_ajar"))
        .args(arguments)
        .current_dir(directory.path())
        .env_clear()
        .env("HOME", directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Most of these runs end without reading it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn refused(arguments: &[&str], files: &[(&str, &str)], input: &str, expect: &str) {
    let (status, stderr) = run(arguments, files, input);
    assert_eq!(status, Some(2), "{arguments:?}: {stderr}");
    assert!(stderr.contains(expect), "{arguments:?}: {stderr}");
}

#[test]
fn an_address_inside_a_block_is_not_the_block() {
    refused(
        &["scan", "127.0.0.1/24"],
        &[],
        "",
        "write 127.0.0.0/24 for the block",
    );
}

#[test]
fn the_missing_authorization_is_said_before_a_missing_canary() {
    refused(
        &["scan", "198.51.100.1"],
        &[],
        "",
        "198.51.100.1 is not on loopback",
    );
}

#[test]
fn a_server_that_would_take_anybody_does_not_start() {
    let files = [("c.pem", "x"), ("k.pem", "x")];
    let coordinator = ["coordinator", "--tls-cert", "c.pem", "--tls-key", "k.pem"];
    refused(&coordinator, &files, "", "without --tls-ca anybody");
}

#[test]
fn a_tenants_weight_is_a_whole_number() {
    for wrong in ["acme", "acme=", "acme=0", "=3", "acme=-1", "acme=1.5"] {
        let weight = format!("--tenant-weight={wrong}");
        refused(&["coordinator", &weight], &[], "", "as in acme=3");
    }
}

#[test]
fn evidence_is_kept_for_as_long_as_mails_count() {
    for wrong in ["", "180", "30d", "-1d", "1y", "99999999d"] {
        let keep = format!("--keep-evidence={wrong}");
        refused(&["coordinator", &keep], &[], "", "as in 180d");
    }
}

#[test]
fn an_authorization_that_excludes_all_that_it_allows_is_not_signed() {
    let authorize = [
        "authorize",
        "192.0.2.0/25",
        "--exclude",
        "192.0.2.0/24",
        "--contact",
        "ops@example.net",
        "--canary",
        "192.0.2.200",
    ];
    refused(&authorize, &[], "", "");
}

#[test]
fn stores_and_queues_that_are_none_are_a_mistake_of_the_command() {
    let stranger = [("notes.txt", "not a database, but rather a longer text")];
    refused(
        &["coordinator", "--store", "notes.txt"],
        &stranger,
        "",
        "ajar did not make",
    );
    refused(
        &["coordinator", "--redis", "mysql://host"],
        &[],
        "",
        "is not a queue",
    );
}

#[test]
fn submit_lists_no_option_that_it_does_not_read() {
    let refusal = [
        "campaign",
        "submit",
        "127.0.0.1",
        "--canary-ports",
        "1,2,3,4",
    ];
    refused(&refusal, &[], "", "unexpected argument");
}

#[test]
fn a_coordinator_that_is_away_is_named() {
    let url = "http://127.0.0.1:9";
    let (status, stderr) = run(&["campaign", "list", "--coordinator", url], &[], "");
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains(url), "{stderr}");
}

#[test]
fn results_may_go_where_nothing_can_be_truncated() {
    let (status, stderr) = run(
        &[
            "scan",
            "127.0.0.1",
            "-p",
            "9",
            "--tier",
            "connect",
            "-o",
            "/dev/null",
        ],
        &[],
        "",
    );
    assert_eq!(status, Some(0), "{stderr}");
}

#[test]
fn targets_that_are_none_are_named() {
    refused(
        &["scan", "127.0.0.0/33"],
        &[],
        "",
        "\"127.0.0.0/33\" is not a target",
    );
    refused(&["scan", "127.0.0.9-127.0.0.1"], &[], "", "is not a range");
    refused(&["scan"], &[], "", "no target was given");
    refused(
        &["scan", "127.0.0.1", "--exclude", "127.0.0.0/8"],
        &[],
        "",
        "no target is left",
    );
    let list = [("list", "127.0.0.1\n# a comment\n\n127.0.0.300\n")];
    refused(
        &["scan", "--targets", "list"],
        &list,
        "",
        "list, line 4: \"127.0.0.300\"",
    );
    refused(
        &["scan", "-iL", "-"],
        &[],
        "127.0.0.1\nx/y\n",
        "standard input, line 2: \"x/y\"",
    );
    refused(
        &["scan", "-iL", "empty"],
        &[("empty", "# nothing\n")],
        "",
        "the list is empty",
    );
    refused(
        &["scan", "-iL", "missing"],
        &[],
        "",
        "missing cannot be read",
    );
    refused(&["scan", "2001:db8::/32"], &[], "", "2^32");
}

#[test]
fn options_that_cannot_be_are_named() {
    refused(
        &["scan", "127.0.0.1", "--probes", "smtp-relais"],
        &[],
        "",
        "\"smtp-relais\" is not a probe",
    );
    refused(&["scan", "127.0.0.1", "-p", "0"], &[], "", "is not a port");
    refused(
        &["scan", "127.0.0.1", "-p", "70000"],
        &[],
        "",
        "is not a port",
    );
    refused(&["scan", "127.0.0.1", "--rate", "0"], &[], "", "--rate");
    refused(
        &["scan", "127.0.0.1", "--prefix-rate", "0"],
        &[],
        "",
        "--prefix-rate",
    );
    refused(
        &["scan", "127.0.0.1", "--settle", "soon"],
        &[],
        "",
        "--settle",
    );
    refused(
        &["scan", "127.0.0.1", "--resume", "x"],
        &[],
        "",
        "cannot be used with",
    );
    refused(&["scan", "--resume", "x"], &[], "", "is not a campaign id");
    refused(
        &["scan", "127.0.0.1", "-o", "no/such/folder"],
        &[],
        "",
        "cannot be written",
    );
    refused(
        &["scan", "127.0.0.1", "--canary-ports", "1,2"],
        &[],
        "",
        "four ports",
    );
    refused(
        &["scan", "127.0.0.1"],
        &[("ajar.toml", "[scan]\nrates = 1")],
        "",
        "--rates",
    );
    refused(&["findings", "list"], &[], "", "there is no store ajar.db");
}

#[test]
fn a_canary_or_store_that_cannot_be_used_is_named() {
    refused(
        &["scan", "127.0.0.1", "--canary", "192.0.2.1"],
        &[],
        "",
        "192.0.2.1",
    );
    refused(
        &["scan", "127.0.0.1", "--store", "no/such/folder.db"],
        &[],
        "",
        "no/such/folder.db",
    );
    refused(
        &["scan", "127.0.0.1", "--store", "mysql://x"],
        &[],
        "",
        "is not a store",
    );
    refused(
        &["scan", "127.0.0.1", "--store", "text"],
        &[("text", "not a database, but a text of some length")],
        "",
        "text",
    );
}

#[test]
fn nothing_but_loopback_is_contacted_without_an_authorization() {
    refused(
        &["scan", "198.51.100.1", "--canary", "127.0.0.1"],
        &[],
        "",
        "ajar authorize",
    );
    let file = [("a.toml", "version = 1\n")];
    refused(
        &["scan", "--authorization", "a.toml"],
        &file,
        "",
        "not signed",
    );
    let files = [("a.toml", "version = 1\n"), ("a.toml.sig", "garbage")];
    refused(
        &["scan", "--authorization", "a.toml"],
        &files,
        "",
        "not signed",
    );
}

#[test]
fn plain_text_is_refused_off_loopback() {
    refused(
        &["coordinator", "--listen", "0.0.0.0:0"],
        &[],
        "",
        "plain text",
    );
    refused(
        &["worker", "--coordinator", "http://198.51.100.1:7400"],
        &[],
        "",
        "plain text",
    );
    refused(
        &["worker", "--coordinator", "nonsense"],
        &[],
        "",
        "is not a coordinator",
    );
}

#[test]
fn a_list_of_outdated_versions_that_cannot_be_read_is_refused_by_line() {
    let list = [("eol.csv", "squid-cache,squid,6.0\nexim 4.98\n")];
    let scan = |list| ["scan", "127.0.0.1", "--eol", list];
    refused(
        &scan("eol.csv"),
        &list,
        "",
        "eol.csv:2: expected vendor,product,first maintained version",
    );
    refused(&scan("none.csv"), &[], "", "none.csv: No such file");
}

#[test]
fn names_that_cannot_be_are_refused_at_the_door() {
    let authorize = [
        "authorize",
        "198.51.100.0/24",
        "--contact",
        "a@b.example",
        "--canary",
        "192.0.2.1",
    ];
    let with = |more: &[&str], expect: &str| {
        let arguments = [&authorize[..], more].concat();
        refused(&arguments, &[], "", expect);
    };
    with(&["--canary-domain", "foo bar"], "expected a domain");
    with(&["--canary-domain", ""], "expected a domain");
    with(&["--tenant", "a'; DROP"], "expected up to 64 letters");
    with(&["--tenant", ""], "expected up to 64 letters");
    refused(&["canary", "--domain", ""], &[], "", "expected a domain");
    let helo = ["scan", "127.0.0.1", "--helo", "localhost"];
    refused(&helo, &[], "", "expected a host name with a dot");
}

/// `ajar probes | head -1`.
#[test]
fn a_reader_that_has_gone_ends_a_command_without_a_word() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_ajar"))
        .arg("probes")
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_list_that_is_no_list_is_refused_in_few_words() {
    let long = "x".repeat(300);
    let list = ("list", long.as_str());
    refused(
        &["scan", "--targets", "list"],
        &[list],
        "",
        "list, line 1: \"xxxx",
    );
    refused(
        &["scan", "--targets", "/dev/zero"],
        &[],
        "",
        "line 1 is longer than 1024 bytes",
    );
    let stale = ("stale", "nosuch.invalid\n");
    refused(
        &["scan", "--targets", "stale"],
        &[stale],
        "",
        "none of its names resolves",
    );
}
