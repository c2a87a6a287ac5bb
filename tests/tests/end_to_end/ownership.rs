//! Whose store it is: one owner at a time, readers change nothing, and a local run touches nobody else's campaign.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use ajar_tests::{Ajar, Signal, Site, free_port, signal};

/// Starts a scan of loopback that takes a while, and waits until it has visited something.
fn busy(site: &Site, store: &str) -> (std::process::Child, String) {
    let scan = site.scan_line(&format!("127.0.70.0/24 -p 9 --rate 20 --store {store}"));
    let child = site.ajar.spawn(&scan, "busy").unwrap();
    let id = site.ajar.await_campaign("busy").unwrap();
    thread::sleep(Duration::from_secs(1));
    (child, id)
}

#[test]
fn the_second_process_on_a_file_is_told_who_has_it() {
    let site = Site::new();
    let ajar = &site.ajar;
    let (mut owner, _) = busy(&site, "ajar.db");
    let pid = format!("process {} (ajar scan)", owner.id());
    let listen = format!("127.0.0.1:{}", free_port().unwrap());
    for second in [
        "scan 127.0.71.1 -p 9",
        &format!("coordinator --listen {listen}"),
    ] {
        let refused = ajar.run(second).unwrap();
        assert_eq!(refused.status, 2, "{second}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(&pid),
            "{second}: {}",
            refused.stderr
        );
    }
    // A reader need not ask.
    let listed = ajar.run("findings list").unwrap();
    assert_eq!(listed.status, 0, "{}", listed.stderr);
    signal(&owner, Signal::INT).unwrap();
    assert_eq!(owner.wait().unwrap().code(), Some(130));

    let coordinator = ajar.spawn(&format!("coordinator --listen {listen}"), "coordinator");
    let mut coordinator = coordinator.unwrap();
    ajar.await_line("coordinator", "the coordinator is ready")
        .unwrap();
    let refused = ajar.run("scan 127.0.71.1 -p 9").unwrap();
    let pid = format!("process {} (ajar coordinator)", coordinator.id());
    assert!(refused.stderr.contains(&pid), "{}", refused.stderr);
    signal(&coordinator, Signal::TERM).unwrap();
    assert_eq!(coordinator.wait().unwrap().code(), Some(0));
}

#[test]
fn a_finished_store_is_one_file_and_reading_it_changes_nothing() {
    let site = Site::new();
    let ajar = &site.ajar;
    let port = free_port().unwrap();
    let _listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let run = site.scan(&format!("127.0.0.1 -p {port} --tier connect"));
    assert_eq!(run.status, 0, "{}", run.stderr);
    let mut files: Vec<String> = fs::read_dir(ajar.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("ajar.db"))
        .collect();
    files.sort();
    assert_eq!(files, ["ajar.db"]);

    let other = Ajar::new().unwrap();
    fs::copy(ajar.path().join("ajar.db"), other.path().join("ajar.db")).unwrap();
    // A campaign that waits for mail would be ended by whoever keeps house.
    let settle = "UPDATE campaigns SET state = 'settling'";
    let file = other.path().join("ajar.db");
    let set = Command::new("sqlite3").arg(&file).arg(settle).status();
    assert!(set.unwrap().success());
    let before = fs::read(&file).unwrap();
    let exported = other.run("findings export").unwrap();
    assert_eq!(exported.findings().unwrap().len(), 1, "{}", exported.stderr);
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn a_local_run_on_a_shared_store_touches_no_other_campaign() {
    let cluster = Site::new().cluster().workers(0).start().unwrap();
    let store = cluster.postgres.url();
    let id = cluster.submit("127.0.72.0/28 -p 9").unwrap();
    let state = |id: &str| {
        let shown = cluster.show(id).unwrap();
        shown.split_whitespace().nth(1).unwrap().to_owned()
    };
    let beside = Site::new();
    let run = beside.scan(&format!("127.0.73.0/29 -p 9 --store {store}"));
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert_eq!(state(&id), "running");

    // Nor does the cluster take up what a local run began.
    let (mut local, own) = busy(&beside, &store);
    let resumed = cluster.run(&format!("campaign resume {own}")).unwrap();
    assert_eq!(resumed.status, 2);
    assert!(
        resumed.stderr.contains("ajar scan --resume"),
        "{}",
        resumed.stderr
    );
    let foreign = Site::new().scan(&format!("--resume {id} --store {store}"));
    assert_eq!(foreign.status, 2, "{foreign:?}");
    assert!(
        foreign.stderr.contains("belongs to a cluster"),
        "{foreign:?}"
    );
    assert_eq!(state(&id), "running");
    // An emergency stop means everything.
    let stopped = cluster.run("campaign stop-all").unwrap();
    assert!(stopped.stdout.contains(&own) && stopped.stdout.contains(&id));
    signal(&local, Signal::INT).unwrap();
    assert_eq!(local.wait().unwrap().code(), Some(130));
}

#[test]
fn ctrl_c_before_a_campaign_begins_ends_with_130() {
    let ajar = Ajar::new().unwrap();
    let away = "postgres://ajar@127.0.0.1:9/none";
    for scan in [
        "scan --targets -",
        &format!("scan 127.0.0.1 --store {away}"),
    ] {
        let mut command = ajar.command(scan);
        // Standard input stays open, as on a terminal.
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        thread::sleep(Duration::from_secs(2));
        signal(&child, Signal::INT).unwrap();
        let started = Instant::now();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(
                    started.elapsed() < Duration::from_secs(5),
                    "{scan}: ignored"
                ),
            }
            thread::sleep(Duration::from_millis(50));
        };
        assert_eq!(status.code(), Some(130), "{scan}");
    }
}
