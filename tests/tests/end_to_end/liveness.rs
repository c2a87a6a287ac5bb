//! Once faults cease, a campaign ends: whatever the queue forgot, and whoever died holding a lease.

use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use ajar_tests::{Cluster, Signal, Site};

fn started(workers: usize) -> Cluster {
    Site::new().cluster().workers(workers).start().unwrap()
}

/// Submits a campaign over loopback addresses where nothing listens, which takes some seconds.
fn submit(cluster: &Cluster, targets: &str) -> String {
    submit_at(cluster, targets, "--rate 16 --prefix-rate 4")
}

fn submit_at(cluster: &Cluster, targets: &str, rates: &str) -> String {
    let asked = format!("{targets} -p 9 --tier connect {rates}");
    cluster.submit(&asked).unwrap()
}

fn await_state(cluster: &Cluster, id: &str, state: &str, seconds: u64) {
    let patience = Duration::from_secs(seconds);
    cluster.await_state(id, state, patience).unwrap();
}

const EIGHT: &str = "127.0.50.0/26 127.0.51.0/26 127.0.52.0/26 127.0.53.0/26 \
     127.0.54.0/26 127.0.55.0/26 127.0.56.0/26 127.0.57.0/26";

#[test]
fn a_campaign_ends_after_its_queue_was_flushed_and_a_worker_died() {
    let mut cluster = started(2);
    let id = submit(&cluster, EIGHT);
    thread::sleep(Duration::from_secs(3));
    cluster.redis.cli(&["FLUSHALL"]).unwrap();
    thread::sleep(Duration::from_millis(700));
    cluster.kill("worker-1");
    await_state(&cluster, &id, "finished", 120);
    let outcomes = cluster.postgres.query(&format!(
        "SELECT sum(refused + silent), bool_and(closed) FROM ajar.shards WHERE campaign = '{id}'"
    ));
    assert_eq!(outcomes.unwrap(), "512|t");
}

#[test]
fn ten_who_watch_a_campaign_cost_as_much_as_one() {
    let cluster = started(1);
    let id = submit(&cluster, EIGHT);
    let watch = format!("campaign watch {id} --coordinator {}", cluster.url());
    let watcher = |number| {
        let log = format!("watch-{number}.log");
        cluster.ajar.spawn(&watch, &log).unwrap()
    };
    let mut watchers: Vec<_> = (0..10).map(watcher).collect();
    // Nothing but a look at a campaign reads these rows.
    let looks = || -> i64 {
        let read = "SELECT seq_scan + idx_scan FROM pg_stat_all_tables WHERE relname = 'troubles'";
        cluster.postgres.query(read).unwrap().parse().unwrap()
    };
    thread::sleep(Duration::from_secs(3));
    let before = looks();
    thread::sleep(Duration::from_secs(5));
    let looked = looks() - before;
    // Four times a second; each of ten by itself would look 200 times.
    assert!((1..=40).contains(&looked), "{looked} looks");
    for watcher in &mut watchers {
        watcher.kill().unwrap();
        watcher.wait().unwrap();
    }
}

#[test]
fn a_target_that_kills_its_workers_is_given_up_and_named_and_the_rest_is_visited() {
    let mut cluster = started(1);
    let killer = TcpListener::bind("127.0.49.77:9").unwrap();
    killer.set_nonblocking(true).unwrap();
    // Two shards: the worker dies at each visit of one address in the second.
    let id = submit_at(
        &cluster,
        "127.0.48.0/25 127.0.49.0/25",
        "--rate 64 --prefix-rate 32 --sweep connect",
    );
    let mut deaths = 0;
    let (ajar, url) = (cluster.ajar.clone(), cluster.url());
    thread::scope(|scope| {
        // In a thread of its own: a look takes longer than a worker may live.
        let given_up = scope.spawn(|| {
            let show = format!("campaign show {id} --coordinator {url}");
            for _ in 0..180 {
                let shown = ajar.run(&show).unwrap();
                if shown.stdout.contains("incomplete") {
                    return;
                }
                thread::sleep(Duration::from_secs(1));
            }
        });
        while !given_up.is_finished() {
            if killer.accept().is_ok() {
                cluster.kill("worker-1");
                deaths += 1;
                cluster.start_worker("worker-1").unwrap();
            }
            // It reports after a fifth of a second: until then it must be dead.
            thread::sleep(Duration::from_millis(10));
        }
    });
    // Three attempts, and one before them if that one moved the cursor.
    assert!((3..=4).contains(&deaths), "{deaths}");
    let shown = cluster.show(&id).unwrap();
    let line = shown.lines().find(|line| line.starts_with("given up"));
    let line = line.unwrap_or_else(|| panic!("{shown}"));
    for said in [" targets in 127.0.49.0/24: ", "went silent"] {
        assert!(line.contains(said), "{line}");
    }
    let watched = cluster.run(&format!("campaign watch {id}")).unwrap();
    assert_eq!(watched.status, 1, "{watched:?}");
    let others = cluster.postgres.query(&format!(
        "SELECT count(*), sum(refused) FROM ajar.shards WHERE campaign = '{id}' AND NOT quarantined"
    ));
    assert_eq!(others.unwrap(), "1|128", "{shown}");

    // Mended, it is visited after all.
    drop(killer);
    let resumed = cluster.run(&format!("campaign resume {id}")).unwrap();
    assert_eq!(resumed.status, 0, "{resumed:?}");
    await_state(&cluster, &id, "finished", 60);
    let visited = cluster.postgres.query(&format!(
        "SELECT sum(refused + answered) FROM ajar.shards WHERE campaign = '{id}'"
    ));
    assert_eq!(visited.unwrap(), "256");
}

#[test]
fn entries_that_a_thief_deletes_or_hides_come_back() {
    let cluster = started(1);
    let id = submit(&cluster, EIGHT);
    let started = Instant::now();
    let line = format!("{{ajar}}:line:{id}:normal");
    let steal = |command: &[&str]| cluster.redis.cli(command).unwrap();
    let mut robbed = 0;
    while !cluster.show(&id).unwrap().contains("finished") {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "{}",
            cluster.show(&id).unwrap()
        );
        for shard in 0..8 {
            let hidden = format!("{id}/{shard}");
            steal(&["ZADD", &line, "XX", "9e15", &hidden]);
            steal(&["ZADD", "{ajar}:out", "9e15", &hidden]);
        }
        robbed += i32::from(steal(&["DEL", &line]).trim() == "1");
        thread::sleep(Duration::from_secs(2));
    }
    assert!(robbed > 0, "the thief found nothing");
}

#[test]
fn a_campaign_that_was_submitted_without_a_queue_starts_when_there_is_one() {
    let mut cluster = started(1);
    cluster.redis.stop();
    let id = submit(&cluster, "127.0.58.0/29");
    cluster.redis.up().unwrap();
    await_state(&cluster, &id, "finished", 60);
}

#[test]
fn stop_all_stops_a_campaign_whose_row_somebody_holds() {
    let cluster = started(1);
    let mut ids =
        ["127.0.60.0/24", "127.0.61.0/24", "127.0.62.0/24"].map(|net| submit(&cluster, net));
    ids.sort();
    let leases = |patience: u64, expect: &str| {
        let started = Instant::now();
        let count = "SELECT count(*) FROM ajar.leases";
        while cluster.postgres.query(count).unwrap() != expect {
            let waited = started.elapsed();
            let patience = Duration::from_secs(patience);
            assert!(waited < patience, "not {expect} leases");
            thread::sleep(Duration::from_millis(100));
        }
    };
    leases(60, "3");
    let held = format!(
        "BEGIN; SELECT 1 FROM ajar.campaigns WHERE id = '{}' FOR NO KEY UPDATE; SELECT pg_sleep(30)",
        ids[1]
    );
    let mut holder = std::process::Command::new("psql")
        .args([&cluster.postgres.url(), "-qc", &held])
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_secs(1));
    let stopped = cluster.run("campaign stop-all").unwrap();
    assert_eq!(stopped.status, 0, "{stopped:?}");
    assert_eq!(stopped.stdout.lines().collect::<Vec<_>>(), ids);
    // The worker is told at its next renewals, and gives all leases back.
    leases(10, "0");
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn a_coordinator_frozen_in_a_transaction_does_not_stop_the_others() {
    let cluster = started(1);
    let limit = Duration::from_secs(40);
    let any_backend = |of: &str| {
        let backends = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ajar' AND";
        let counted = cluster.postgres.query(&format!("{backends} {of}"));
        counted.unwrap() != "0"
    };
    let id = submit(&cluster, EIGHT);
    // It waits for shards that another holds, is frozen, and is then given them.
    let held = format!(
        "BEGIN; SELECT 1 FROM ajar.shards WHERE campaign = '{id}' FOR UPDATE; SELECT pg_sleep(60)"
    );
    let mut holder = std::process::Command::new("psql")
        .args([&cluster.postgres.url(), "-qc", &held])
        .env("PGAPPNAME", "holder")
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !any_backend("wait_event_type = 'Lock'") {
        assert!(started.elapsed() < limit, "it wants no shard");
        thread::sleep(Duration::from_millis(20));
    }
    cluster.signal("coordinator", Signal::STOP).unwrap();
    let ended =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holder'";
    assert_eq!(cluster.postgres.query(ended).unwrap(), "t");
    holder.wait().unwrap();
    let caught = Instant::now();
    while !any_backend("state = 'idle in transaction' AND backend_xid IS NOT NULL") {
        assert!(caught.elapsed() < Duration::from_secs(3), "it has no locks");
        thread::sleep(Duration::from_millis(20));
    }
    while any_backend("state LIKE 'idle in transaction%'") {
        assert!(caught.elapsed() < limit, "its locks outlast it");
        thread::sleep(Duration::from_millis(200));
    }
    cluster.signal("coordinator", Signal::CONT).unwrap();
    await_state(&cluster, &id, "finished", 120);
}

#[test]
fn a_campaign_that_cannot_be_read_stops_nobody_else() {
    let mut cluster = started(1);
    let broken = submit(&cluster, EIGHT);
    cluster
        .postgres
        .query("UPDATE ajar.campaigns SET spec = '{\"of\": \"a later version\"}'")
        .unwrap();
    // What it has at hand is as it was.
    cluster.kill("coordinator");
    cluster.start_coordinator().unwrap();
    cluster.ajar.await_line("coordinator", "is ready").unwrap();
    let id = submit(&cluster, "127.0.63.0/29");
    await_state(&cluster, &id, "finished", 60);
    let listed = cluster.run("campaign list").unwrap().stdout;
    assert!(listed.contains(&broken) && listed.contains(&id), "{listed}");
    let cancelled = cluster.run(&format!("campaign cancel {broken}")).unwrap();
    assert_eq!(cancelled.status, 0, "{cancelled:?}");
    let listed = cluster.run("campaign list").unwrap().stdout;
    assert!(listed.contains(&format!("{broken}  cancelled")), "{listed}");
    cluster
        .ajar
        .await_line("coordinator", "it is left as it is")
        .unwrap();
}

#[test]
fn a_batch_that_the_store_cannot_take_ends_as_a_shard_that_was_given_up() {
    let cluster = started(1);
    let _listener = TcpListener::bind("127.0.64.3:9").unwrap();
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
        'BEGIN RAISE EXCEPTION ''no row of this address''; END'; \
        CREATE TRIGGER refuse BEFORE INSERT ON ajar.findings FOR EACH ROW \
        WHEN (new.ip = '127.0.64.3') EXECUTE FUNCTION refuse()";
    cluster.postgres.query(refuse).unwrap();
    let id = submit(&cluster, "127.0.64.0/29");
    await_state(&cluster, &id, "incomplete", 120);
    let shown = cluster.show(&id).unwrap();
    assert!(shown.contains("no row of this address"), "{shown}");
}
