//! The workers and canaries of a cluster, as its operator sees them.

use std::{
    thread,
    time::{Duration, Instant},
};

use ajar_tests::Site;

#[test]
fn an_operator_sees_who_is_there_and_what_each_does() {
    let site = Site::new();
    let mut cluster = site.cluster().workers(0).start().unwrap();
    let none = cluster.run("workers").unwrap();
    assert!(none.stdout.starts_with("no worker is there"), "{none:?}");
    cluster.start_worker_at("north", "north").unwrap();
    cluster.start_worker_at("south", "south").unwrap();
    let asked = "127.0.95.0/24 -p 9-30 --rate 50 --prefix-rate 50 --settle 1s";
    let id = cluster.submit(asked).unwrap();
    let busy = format!("{id}: 1 lease, ");
    let deadline = Instant::now() + Duration::from_secs(20);
    let listed = loop {
        let listed = cluster.run("workers").unwrap().stdout;
        if ["north", "south", &busy]
            .iter()
            .all(|word| listed.contains(word))
        {
            break listed;
        }
        assert!(Instant::now() < deadline, "{listed}");
        thread::sleep(Duration::from_millis(200));
    };
    let rows: Vec<&str> = listed.lines().skip(1).collect();
    assert_eq!(rows.len(), 2, "{listed}");
    assert!(
        rows.iter()
            .all(|row| row.contains("worker-") && row.contains(" UTC")),
        "{listed}"
    );
    // One worker has the only network; the other has nothing to do.
    assert_eq!(
        rows.iter()
            .filter(|row| row.contains("waits for work"))
            .count(),
        1,
        "{listed}"
    );

    let canaries = cluster.run("canaries").unwrap().stdout;
    assert!(canaries.contains(&site.canary_ports()), "{canaries}");
    assert!(
        canaries.contains("canary.test canary.example"),
        "{canaries}"
    );
    assert!(
        canaries.lines().nth(1).unwrap().ends_with("ready"),
        "{canaries}"
    );
}
