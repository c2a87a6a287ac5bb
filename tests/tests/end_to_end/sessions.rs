//! One stream for each worker: leases are kept on it, more are brought, and stops arrive unasked.

use std::{
    thread,
    time::{Duration, Instant},
};

use ajar_model::Lease;
use ajar_proto::{
    dial::Coordinator,
    v1::{self, lease_news::News},
};
use ajar_tests::{Cluster, Signal, Site};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The worker's side of a session.
struct Talk {
    out: mpsc::Sender<v1::SessionRequest>,
    answers: tonic::Streaming<v1::SessionResponse>,
    number: u64,
}

impl Talk {
    /// Opens a session with room for so many leases.
    async fn open(cluster: &Cluster, worker: &str, room: u32) -> Self {
        let coordinator = Coordinator::remote(&cluster.url(), None, false).unwrap();
        let (out, requests) = mpsc::channel(4);
        let hello = v1::SessionRequest {
            number: 1,
            worker: Some(v1::LeaseRequest {
                worker: worker.to_owned(),
                vantage: "here".to_owned(),
                ..v1::LeaseRequest::default()
            }),
            leases: Vec::new(),
            room,
        };
        out.send(hello).await.unwrap();
        let mut client = coordinator.work();
        let answers = client.session(ReceiverStream::new(requests)).await;
        Self {
            out,
            answers: answers.unwrap().into_inner(),
            number: 1,
        }
    }

    async fn name(&mut self, leases: Vec<v1::RenewRequest>) {
        self.number += 1;
        let message = v1::SessionRequest {
            number: self.number,
            worker: None,
            leases,
            room: 0,
        };
        self.out.send(message).await.unwrap();
    }

    async fn next(&mut self) -> v1::SessionResponse {
        let answer = timeout(PATIENCE, self.answers.message()).await;
        answer.expect("an answer").unwrap().expect("a session")
    }

    /// The next lease that is granted.
    async fn granted(&mut self) -> Lease {
        loop {
            if let Some(lease) = self.next().await.grant {
                return lease.try_into().unwrap();
            }
        }
    }
}

/// A cluster in which ann has a lease.
async fn leased() -> (Cluster, Talk, Lease) {
    let cluster = Site::new().cluster().workers(0).start().unwrap();
    let asked = "127.1.0.0/20 -p 25 --rate 160 --prefix-rate 20";
    cluster.submit(asked).unwrap();
    let mut ann = Talk::open(&cluster, "ann", 1).await;
    let lease = ann.granted().await;
    (cluster, ann, lease)
}

fn renewal(lease: &Lease) -> v1::RenewRequest {
    v1::RenewRequest {
        shard: Some(lease.shard.into()),
        token: lease.token,
        want_rate: lease.rate,
        worker: "ann".to_owned(),
        rate: lease.rate,
        number: 1,
        revision: lease.revision,
    }
}

/// What an answer says of the only lease that it speaks of.
fn renewed(answer: &v1::SessionResponse) -> &v1::RenewResponse {
    match &answer.leases[..] {
        [
            v1::LeaseNews {
                news: Some(News::Renewed(renewed)),
                ..
            },
        ] => renewed,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stop_arrives_before_its_worker_asks() {
    let (cluster, mut ann, lease) = leased().await;
    let id = lease.shard.campaign;
    ann.name(vec![renewal(&lease)]).await;
    let answer = ann.next().await;
    assert!(renewed(&answer).kept, "{answer:?}");
    assert_eq!(answer.number, 2);
    assert!(answer.renew_after.is_some());
    // Nothing is said from now on, until the stop or the exclusion is there.
    let stopped = Instant::now();
    let paused = cluster.run(&format!("campaign pause {id}")).unwrap();
    assert_eq!(paused.status, 0, "{}", paused.stderr);
    let news = ann.next().await;
    assert!(!renewed(&news).kept, "{news:?}");
    assert_eq!(news.number, 0);
    assert!(stopped.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn an_exclusion_arrives_before_its_worker_asks() {
    let (cluster, mut ann, lease) = leased().await;
    let excluded = cluster.run("exclude add 127.1.2.3 --reason asked");
    let excluded = excluded.unwrap();
    assert_eq!(excluded.status, 0, "{}", excluded.stderr);
    let news = ann.next().await;
    let [told] = &news.leases[..] else {
        panic!("{news:?}");
    };
    assert_eq!(told.news, Some(News::Epoch(lease.epoch + 1)), "{news:?}");
}

#[tokio::test]
async fn a_lease_that_cannot_be_stored_harms_nobody_elses() {
    let (cluster, mut ann, lease) = leased().await;
    let mut eve = Talk::open(&cluster, "eve", 0).await;
    let absurd = v1::RenewRequest {
        token: u64::MAX,
        number: u64::MAX,
        shard: Some(v1::ShardId {
            number: u64::MAX,
            ..lease.shard.into()
        }),
        ..renewal(&lease)
    };
    for _ in 0..5 {
        // Both arrive within the time in which renewals gather.
        eve.name(vec![absurd.clone()]).await;
        ann.name(vec![renewal(&lease)]).await;
        let answer = ann.next().await;
        assert!(renewed(&answer).kept, "{answer:?}");
        let refused = timeout(PATIENCE, eve.answers.message()).await.unwrap();
        assert!(refused.is_err(), "{refused:?}");
        eve = Talk::open(&cluster, "eve", 0).await;
    }
}

/// Sixteen leases at a time, of a shard each that takes minutes.
const LONG: &str = "127.1.0.0/18 -p 25-28 --rate 32 --prefix-rate 4 --probes smtp-relay";

/// The leases that there are, each by its token.
fn tokens(cluster: &Cluster) -> Vec<String> {
    let tokens = cluster
        .postgres
        .query("SELECT token FROM ajar.leases ORDER BY token");
    tokens.unwrap().lines().map(str::to_owned).collect()
}

/// Waits until there are so many.
fn await_leases(cluster: &Cluster, enough: usize) -> Vec<String> {
    let started = Instant::now();
    loop {
        let tokens = tokens(cluster);
        if tokens.len() >= enough {
            return tokens;
        }
        assert!(started.elapsed() < 2 * PATIENCE, "only {tokens:?}");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_worker_has_two_connections_however_many_leases_it_has() {
    let cluster = Site::new().cluster().workers(1).start().unwrap();
    cluster.submit(LONG).unwrap();
    await_leases(&cluster, 12);
    let url = cluster.url();
    let (_, port) = url.rsplit_once(':').unwrap();
    // The coordinator's ends; the canary has the third one.
    let listed = format!("ss -Htn state established '( sport = :{port} )'");
    let listed = cluster.ajar.shell(&listed).unwrap();
    assert!(listed.lines().count() <= 3, "{listed}");
}

#[test]
fn a_coordinator_that_is_replaced_takes_no_lease_from_anybody() {
    let mut cluster = Site::new().cluster().workers(2).start().unwrap();
    cluster.submit(LONG).unwrap();
    let before = await_leases(&cluster, 12);
    cluster.signal("coordinator", Signal::TERM).unwrap();
    thread::sleep(Duration::from_secs(2));
    cluster.start_coordinator().unwrap();
    // Longer than a lease lasts that nobody renews, and than it is counted on after that.
    thread::sleep(Duration::from_secs(22));
    let after = tokens(&cluster);
    let lost: Vec<_> = before
        .iter()
        .filter(|token| !after.contains(token))
        .collect();
    assert_eq!(lost.len(), 0, "{lost:?} of {before:?}");
}
