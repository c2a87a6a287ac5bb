//! Campaigns that a cluster runs again and again.

use std::{
    thread,
    time::{Duration, Instant},
};

use ajar_tests::{Cluster, Finished, Site};

fn put(cluster: &Cluster, asked: &str, cron: &str) -> Finished {
    let line = format!("schedule put {asked}");
    cluster.run_with(&line, &["--cron", cron]).unwrap()
}

/// What `schedule list` says, once it says this.
fn listed(cluster: &Cluster, said: &str, patience: Duration) -> String {
    let start = Instant::now();
    loop {
        let listed = cluster.run("schedule list").unwrap().stdout;
        if listed.contains(said) {
            return listed;
        }
        assert!(start.elapsed() < patience, "{said}: {listed}");
        thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn a_schedule_starts_a_campaign_at_its_time_and_two_coordinators_start_one() {
    let site = Site::new();
    let mut cluster = site.cluster().start().unwrap();
    cluster.start_replica("replica").unwrap();
    let asked = "every-minute 127.0.84.1-127.0.84.5 -p 9 --settle 1s";
    let put = put(&cluster, asked, "* * * * *");
    assert_eq!(put.status, 0, "{put:?}");
    assert!(put.stdout.starts_with("next at 20"), "{put:?}");
    let ran = listed(&cluster, "  campaign ", Duration::from_secs(75));
    let (_, id) = ran.split_once("  campaign ").unwrap();
    let id = &id[..26];
    let watched = cluster.run(&format!("campaign watch {id}")).unwrap();
    assert!(watched.stdout.contains("5 refused"), "{watched:?}");
    let campaigns = cluster.run("campaign list").unwrap().stdout;
    assert_eq!(campaigns.matches("/5 targets").count(), 1, "{campaigns}");
    let audit = cluster.run("audit show").unwrap().stdout;
    assert!(audit.contains("schedule every-minute"), "{audit}");

    let paused = cluster.run("schedule pause every-minute").unwrap();
    assert_eq!(paused.status, 0, "{paused:?}");
    assert!(listed(&cluster, "paused", Duration::ZERO).contains("* * * * * UTC"));
    let removed = cluster.run("schedule remove every-minute").unwrap();
    assert_eq!(removed.status, 0, "{removed:?}");
    assert_eq!(cluster.run("schedule list").unwrap().stdout, "");
}

#[test]
fn what_cannot_run_at_its_time_is_refused_at_once() {
    let site = Site::new();
    let cluster = site.cluster().workers(0).start().unwrap();
    let monday = "0 3 * * 1";
    for (asked, cron, said) in [
        ("weekly 127.0.84.1 -p 9", "61 3 * * 1", "0..=59"),
        (
            "weekly 127.0.84.1 -p 9 --time-zone Mars/Olympus",
            monday,
            "Mars/Olympus",
        ),
        ("weekly 127.0.84.1 -p 9", "0 3 30 2 *", "never comes"),
        ("a/b 127.0.84.1 -p 9", monday, "no name of a schedule"),
        ("weekly 127.0.84.1 -p 9 --probes nothing", monday, "nothing"),
        ("weekly 192.0.2.1 -p 9", monday, "authorization"),
    ] {
        let put = put(&cluster, asked, cron);
        assert_eq!(put.status, 2, "{asked}: {put:?}");
        assert!(put.stderr.contains(said), "{asked}: {put:?}");
    }
    assert_eq!(cluster.run("schedule list").unwrap().stdout, "");
    let gone = cluster.run("schedule pause nothing").unwrap();
    assert!(gone.stderr.contains("ajar schedule list"), "{gone:?}");
}
