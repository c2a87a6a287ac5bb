//! Once faults cease, a campaign ends: whatever the queue forgot, and whoever died holding a lease.

use std::{
    net::TcpListener,
    process::Output,
    thread,
    time::{Duration, Instant},
};

use ajar_tests::{Ajar, Cluster, Postgres, Redis, Signal, free_port};

struct Site {
    ajar: Ajar,
    redis: Redis,
    postgres: Postgres,
    cluster: Cluster,
}

fn site(workers: usize) -> Site {
    let ajar = Ajar::new().unwrap();
    let (redis, postgres) = (Redis::start().unwrap(), Postgres::start().unwrap());
    let ports = [(); 4].map(|()| free_port().unwrap().to_string()).join(",");
    let urls = [redis.url(), postgres.url()];
    let cluster = Cluster::start(&ajar, &urls[0], &urls[1], &ports, workers, &[]).unwrap();
    Site {
        ajar,
        redis,
        postgres,
        cluster,
    }
}

impl Site {
    fn run(&self, arguments: &str) -> Output {
        let url = self.cluster.url();
        let words = arguments.split_whitespace().chain(["--coordinator", &url]);
        let mut command = self.ajar.command(&words.collect::<Vec<_>>());
        command.output().unwrap()
    }

    /// Loopback addresses where nothing listens, visited for some seconds.
    fn submit(&self, targets: &str) -> String {
        self.submit_at(targets, "--rate 16 --prefix-rate 4")
    }

    fn submit_at(&self, targets: &str, rates: &str) -> String {
        let submitted = self.run(&format!(
            "campaign submit {targets} -p 9 --tier connect {rates}"
        ));
        assert!(submitted.status.success(), "{submitted:?}");
        String::from_utf8(submitted.stdout)
            .unwrap()
            .trim()
            .to_owned()
    }

    fn shown(&self, id: &str) -> String {
        let shown = self.run(&format!("campaign show {id}"));
        String::from_utf8(shown.stdout).unwrap()
    }

    fn await_state(&self, id: &str, state: &str, patience: Duration) {
        let started = Instant::now();
        while !self.shown(id).contains(state) {
            assert!(started.elapsed() < patience, "{}", self.shown(id));
            thread::sleep(Duration::from_millis(300));
        }
    }

    fn psql(&self, statement: &str) -> String {
        let output = std::process::Command::new("psql")
            .args([&self.postgres.url(), "-Atc", statement])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

const EIGHT: &str = "127.0.50.0/26 127.0.51.0/26 127.0.52.0/26 127.0.53.0/26 \
     127.0.54.0/26 127.0.55.0/26 127.0.56.0/26 127.0.57.0/26";

#[test]
fn a_campaign_ends_after_its_queue_was_flushed_and_a_worker_died() {
    let mut site = site(2);
    let id = site.submit(EIGHT);
    thread::sleep(Duration::from_secs(3));
    site.redis.cli(&["FLUSHALL"]).unwrap();
    thread::sleep(Duration::from_millis(700));
    site.cluster.kill("worker-1");
    site.await_state(&id, "finished", Duration::from_secs(120));
    let outcomes = site.psql(&format!(
        "SELECT sum(refused + silent), bool_and(closed) FROM ajar.shards WHERE campaign = '{id}'"
    ));
    assert_eq!(outcomes, "512|t");
}

#[test]
fn a_target_that_kills_its_workers_is_given_up_and_named_and_the_rest_is_visited() {
    let mut site = site(1);
    let killer = TcpListener::bind("127.0.49.77:9").unwrap();
    killer.set_nonblocking(true).unwrap();
    // Two shards: the worker dies at each visit of one address in the second.
    let id = site.submit_at("127.0.48.0/25 127.0.49.0/25", "--rate 64 --prefix-rate 32");
    let mut deaths = 0;
    let (ajar, url) = (&site.ajar, site.cluster.url());
    let cluster = &mut site.cluster;
    thread::scope(|scope| {
        // In a thread of its own: a look takes longer than a worker may live.
        let given_up = scope.spawn(|| {
            let show = ["campaign", "show", &id, "--coordinator", &url];
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
                cluster.start_worker(ajar, "worker-1").unwrap();
            }
            // It reports after a fifth of a second: until then it must be dead.
            thread::sleep(Duration::from_millis(10));
        }
    });
    // Three attempts, and one before them if that one moved the cursor.
    assert!((3..=4).contains(&deaths), "{deaths}");
    let shown = site.shown(&id);
    let line = shown.lines().find(|line| line.starts_with("given up"));
    let line = line.unwrap_or_else(|| panic!("{shown}"));
    for said in [" targets in 127.0.49.0/24: ", "went silent"] {
        assert!(line.contains(said), "{line}");
    }
    let watched = site.run(&format!("campaign watch {id}"));
    assert_eq!(watched.status.code(), Some(1), "{watched:?}");
    let others = site.psql(&format!(
        "SELECT count(*), sum(refused) FROM ajar.shards WHERE campaign = '{id}' AND NOT quarantined"
    ));
    assert_eq!(others, "1|128", "{shown}");

    // Mended, it is visited after all.
    drop(killer);
    let resumed = site.run(&format!("campaign resume {id}"));
    assert!(resumed.status.success(), "{resumed:?}");
    site.await_state(&id, "finished", Duration::from_secs(60));
    let visited = site.psql(&format!(
        "SELECT sum(refused + answered) FROM ajar.shards WHERE campaign = '{id}'"
    ));
    assert_eq!(visited, "256");
}

#[test]
fn entries_that_a_thief_deletes_or_hides_come_back() {
    let site = site(1);
    let id = site.submit(EIGHT);
    let started = Instant::now();
    while !site.shown(&id).contains("finished") {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "{}",
            site.shown(&id)
        );
        site.redis.cli(&["DEL", "{ajar}:due"]).unwrap();
        for shard in 0..8 {
            let hidden = format!("{id}/{shard}");
            site.redis
                .cli(&["ZADD", "{ajar}:taken", "XX", "9e15", &hidden])
                .unwrap();
        }
        thread::sleep(Duration::from_secs(2));
    }
}

#[test]
fn a_campaign_that_was_submitted_without_a_queue_starts_when_there_is_one() {
    let mut site = site(1);
    site.redis.stop();
    let id = site.submit("127.0.58.0/29");
    site.redis.up().unwrap();
    site.await_state(&id, "finished", Duration::from_secs(60));
}

#[test]
fn stop_all_goes_on_past_a_campaign_that_it_cannot_stop() {
    let site = site(1);
    let ids = ["127.0.60.0/24", "127.0.61.0/24", "127.0.62.0/24"].map(|net| site.submit(net));
    let held = format!(
        "BEGIN; SELECT 1 FROM ajar.campaigns WHERE id = '{}' FOR UPDATE; SELECT pg_sleep(20)",
        ids[1]
    );
    let mut holder = std::process::Command::new("psql")
        .args([&site.postgres.url(), "-qc", &held])
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_secs(1));
    let stopped = site.run("campaign stop-all");
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(stopped.status.code(), Some(1), "{stopped:?}");
    let said = String::from_utf8(stopped.stderr).unwrap();
    assert!(said.contains(&ids[1]), "{said}");
    let paused = site.psql("SELECT id FROM ajar.campaigns WHERE state = 'paused' ORDER BY id");
    let mut expected = [ids[0].clone(), ids[2].clone()];
    expected.sort();
    assert_eq!(paused.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_coordinator_frozen_in_a_transaction_does_not_stop_the_others() {
    let site = site(1);
    let limit = Duration::from_secs(40);
    // Frozen again and again, it is sooner or later caught with locks in its hands.
    let started = Instant::now();
    let id = site.submit(EIGHT);
    let caught = loop {
        assert!(started.elapsed() < Duration::from_secs(60), "never caught");
        site.cluster.signal("coordinator", Signal::STOP).unwrap();
        thread::sleep(Duration::from_millis(30));
        let open = site.psql(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE application_name = 'ajar' AND state = 'idle in transaction' AND backend_xid IS NOT NULL",
        );
        if open != "0" {
            break Instant::now();
        }
        site.cluster.signal("coordinator", Signal::CONT).unwrap();
        thread::sleep(Duration::from_millis(17));
    };
    let locks = "SELECT count(*) FROM pg_stat_activity \
                 WHERE application_name = 'ajar' AND state LIKE 'idle in transaction%'";
    while site.psql(locks) != "0" {
        assert!(caught.elapsed() < limit, "its locks outlast it");
        thread::sleep(Duration::from_millis(200));
    }
    site.cluster.signal("coordinator", Signal::CONT).unwrap();
    site.await_state(&id, "finished", Duration::from_secs(120));
}
