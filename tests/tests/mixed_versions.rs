//! This version beside another one: coordinators and workers are not upgraded at the same moment.
//!
//! `make compatibility` builds the other version and names its program in `AJAR_OTHER`.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use ajar_tests::{Access, Postgres, Site, finished, free_port};

const PATIENCE: Duration = Duration::from_secs(120);

/// The program of the other version.
fn other() -> PathBuf {
    let named = std::env::var_os("AJAR_OTHER");
    named
        .expect("`make compatibility` names the program")
        .into()
}

/// This version's program, or the other one's, with these arguments.
fn command(site: &Site, of_other: bool, line: &str) -> Command {
    let ours = site.ajar.command(line);
    if !of_other {
        return ours;
    }
    let mut command = Command::new(other());
    command
        .args(ours.get_args())
        .current_dir(site.ajar.path())
        .env_clear()
        .stdin(Stdio::null());
    let set = ours
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    command.envs(set);
    command
}

/// A process that ends with the test; what it says goes to a file of this name.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(site: &Site, of_other: bool, line: &str, log: &str) -> Running {
    let log = std::fs::File::create(site.ajar.path().join(log)).unwrap();
    let mut command = command(site, of_other, line);
    command.stdout(Stdio::null()).stderr(log);
    Running(command.spawn().unwrap())
}

/// Waits until `campaign show` says this.
fn await_shown(site: &Site, of_other: bool, id: &str, url: &str, said: &str) -> String {
    let started = Instant::now();
    loop {
        let line = format!("campaign show {id} --coordinator {url}");
        let shown = finished(&mut command(site, of_other, &line)).unwrap();
        if shown.stdout.contains(said) {
            return shown.stdout;
        }
        assert!(started.elapsed() < PATIENCE, "not {said}: {shown:?}");
        thread::sleep(Duration::from_millis(300));
    }
}

/// An open proxy is proven by a coordinator and a worker of which one is of the other version.
fn proves(newer_coordinator: bool, host: u8) {
    let site = Site::new().squid(&format!("127.0.90.{host}:3128"), Access::Open);
    let listen = format!("127.0.0.1:{}", free_port().unwrap());
    let url = format!("http://{listen}");
    let (coordinator, worker) = (!newer_coordinator, newer_coordinator);
    let line = format!("coordinator --listen {listen}");
    let _coordinator = start(&site, coordinator, &line, "coordinator");
    site.ajar.await_line("coordinator", "is ready").unwrap();
    let ports = site.canary_ports();
    let line = format!("canary --domain canary.test --canary-ports {ports} --coordinator {url}");
    let _canary = start(&site, coordinator, &line, "canary");
    site.ajar
        .await_line("coordinator", "a canary is ready")
        .unwrap();
    let line = format!("worker --vantage here --coordinator {url}");
    let _worker = start(&site, worker, &line, "worker");
    let asked = format!(
        "campaign submit 127.0.90.{host} -p 3128 --probes http-connect --settle 1s --coordinator {url}"
    );
    let submitted = finished(&mut command(&site, coordinator, &asked)).unwrap();
    assert_eq!(submitted.status, 0, "{submitted:?}");
    let id = submitted.stdout.trim();
    let shown = await_shown(&site, coordinator, id, &url, " finished ");
    assert!(shown.contains("1 open"), "{shown}");
}

#[test]
#[ignore = "needs another version: `make compatibility`"]
fn the_other_versions_worker_works_for_this_coordinator() {
    proves(true, 1);
}

#[test]
#[ignore = "needs another version: `make compatibility`"]
fn this_worker_works_for_the_other_versions_coordinator() {
    proves(false, 2);
}

#[test]
#[ignore = "needs another version: `make compatibility`"]
fn a_store_is_upgraded_while_the_other_version_runs_and_its_campaign_ends() {
    let site = Site::new();
    let postgres = Postgres::start().unwrap();
    let store = postgres.url();
    let [old, new] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port().unwrap()));
    let before = format!("coordinator --listen {old} --store {store}");
    let before = start(&site, true, &before, "before");
    site.ajar.await_line("before", "is ready").unwrap();
    let (old, new) = (format!("http://{old}"), new);
    let ports = site.canary_ports();
    let canary = format!("canary --domain canary.test --canary-ports {ports} --coordinator {old}");
    let _canary = start(&site, true, &canary, "canary");
    site.ajar.await_line("before", "a canary is ready").unwrap();
    let worker = start(
        &site,
        true,
        &format!("worker --coordinator {old}"),
        "worker-1",
    );
    let asked = format!(
        "campaign submit 127.0.91.0/24 127.0.92.0/24 -p 9 --tier connect --rate 16 --prefix-rate 8 --settle 0s \
         --coordinator {old}"
    );
    let submitted = finished(&mut command(&site, true, &asked)).unwrap();
    assert_eq!(submitted.status, 0, "{submitted:?}");
    let id = submitted.stdout.trim();
    await_shown(&site, true, id, &old, "leased to 1 workers");
    thread::sleep(Duration::from_secs(3));
    let line = format!("coordinator --listen {new} --store {store}");
    let _after = start(&site, false, &line, "after");
    site.ajar.await_line("after", "is ready").unwrap();
    drop((worker, before));
    let url = format!("http://{new}");
    let line = format!("worker --coordinator {url}");
    let _worker = start(&site, false, &line, "worker-2");
    await_shown(&site, false, id, &url, " finished ");
    let outcomes = format!(
        "SELECT sum(answered + refused + silent), bool_and(closed) FROM ajar.shards WHERE campaign = '{id}'"
    );
    assert_eq!(postgres.query(&outcomes).unwrap(), "512|t");
}
