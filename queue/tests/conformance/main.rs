//! What every queue must do, asked of each backend.

use std::{sync::Arc, time::Duration};

use ajar_model::{CampaignId, ShardId};
use ajar_queue::{
    Depth, Error, Line,
    Priority::{self, High, Normal},
    ShardQueue,
    memory::Memory,
    redis::Redis,
};

mod server;

use server::Server;

const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(3600);
/// Long enough for a server to answer in between, short enough to wait for.
const SOON: Duration = Duration::from_millis(300);

type Queue = Arc<dyn ShardQueue>;

fn shard(campaign: u128, number: u64) -> ShardId {
    ShardId {
        campaign: CampaignId(campaign.into()),
        number,
    }
}

/// The lines of two campaigns.
fn lines() -> Vec<Line> {
    let of = |priority| {
        [1, 2].map(|campaign| Line {
            campaign: shard(campaign, 0).campaign,
            priority,
        })
    };
    [High, Normal].into_iter().flat_map(of).collect()
}

async fn drain(queue: &Queue) -> Vec<ShardId> {
    let mut taken = Vec::new();
    while let Some(shard) = queue.take(&lines(), LONG).await.unwrap() {
        taken.push(shard);
    }
    taken
}

/// Waits, boundedly, until something can be taken.
async fn await_take(queue: &Queue) -> ShardId {
    for _ in 0..200 {
        if let Some(shard) = queue.take(&lines(), LONG).await.unwrap() {
            return shard;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing came due");
}

async fn an_offered_shard_is_taken_once(queue: Queue) {
    queue
        .offer(&[shard(1, 0), shard(1, 1)], Normal, NOW)
        .await
        .unwrap();
    queue.offer(&[shard(1, 1)], Normal, NOW).await.unwrap();
    let mut taken = drain(&queue).await;
    taken.sort();
    assert_eq!(taken, [shard(1, 0), shard(1, 1)]);
    assert_eq!(
        queue.depth().await.unwrap(),
        Depth {
            waiting: 0,
            taken: 2
        }
    );
}

async fn lines_are_taken_from_in_the_order_that_is_asked_for(queue: Queue) {
    let of = |campaign: u128, priority: Priority| Line {
        campaign: shard(campaign, 0).campaign,
        priority,
    };
    let normal = [shard(1, 0), shard(1, 1), shard(2, 0)];
    queue.offer(&normal, Normal, NOW).await.unwrap();
    queue.offer(&[shard(1, 7)], High, NOW).await.unwrap();
    let take = async |lines: &[Line]| queue.take(lines, LONG).await.unwrap();
    assert_eq!(take(&[]).await, None);
    assert_eq!(take(&[of(2, High), of(3, Normal)]).await, None);
    let first = take(&[of(2, Normal), of(1, High)]).await;
    assert_eq!(first, Some(shard(2, 0)));
    let high = take(&[of(2, Normal), of(1, High), of(1, Normal)]).await;
    assert_eq!(high, Some(shard(1, 7)));
    // The last offer decides its line.
    queue.offer(&[shard(1, 1)], High, LONG).await.unwrap();
    assert_eq!(take(&[of(1, High)]).await, Some(shard(1, 1)));
    assert_eq!(take(&[of(1, Normal)]).await, Some(shard(1, 0)));
    assert_eq!(take(&lines()).await, None);
}

async fn a_delayed_shard_comes_due_later(queue: Queue) {
    queue.offer(&[shard(1, 0)], Normal, LONG).await.unwrap();
    queue.offer(&[shard(1, 1)], Normal, SOON).await.unwrap();
    assert_eq!(queue.take(&lines(), LONG).await.unwrap(), None);
    assert_eq!(await_take(&queue).await, shard(1, 1));
    assert_eq!(
        queue.depth().await.unwrap(),
        Depth {
            waiting: 1,
            taken: 1
        }
    );
}

async fn the_earlier_of_two_offers_counts(queue: Queue) {
    queue.offer(&[shard(1, 0)], Normal, LONG).await.unwrap();
    queue.offer(&[shard(1, 0)], Normal, NOW).await.unwrap();
    queue.offer(&[shard(1, 0)], Normal, LONG).await.unwrap();
    assert_eq!(queue.take(&lines(), LONG).await.unwrap(), Some(shard(1, 0)));
}

async fn a_taken_shard_comes_back_by_itself(queue: Queue) {
    queue.offer(&[shard(1, 0)], Normal, NOW).await.unwrap();
    assert_eq!(queue.take(&lines(), SOON).await.unwrap(), Some(shard(1, 0)));
    assert_eq!(await_take(&queue).await, shard(1, 0));
}

async fn a_shard_that_is_offered_while_taken_is_due_again(queue: Queue) {
    queue.offer(&[shard(1, 0)], Normal, NOW).await.unwrap();
    queue.take(&lines(), LONG).await.unwrap().unwrap();
    queue.offer(&[shard(1, 0)], Normal, NOW).await.unwrap();
    assert_eq!(queue.take(&lines(), LONG).await.unwrap(), Some(shard(1, 0)));
}

async fn what_is_done_is_gone_unless_it_was_offered_again(queue: Queue) {
    queue
        .offer(&[shard(1, 0), shard(1, 1)], Normal, NOW)
        .await
        .unwrap();
    queue.take(&lines(), SOON).await.unwrap().unwrap();
    queue.take(&lines(), SOON).await.unwrap().unwrap();
    queue.offer(&[shard(1, 1)], Normal, NOW).await.unwrap();
    for number in [0, 1, 7] {
        queue.done(shard(1, number)).await.unwrap();
    }
    assert_eq!(drain(&queue).await, [shard(1, 1)]);
}

async fn a_campaign_is_withdrawn_whole_and_alone(queue: Queue) {
    queue
        .offer(&[shard(1, 0), shard(1, 1), shard(2, 0)], Normal, NOW)
        .await
        .unwrap();
    queue.take(&lines(), LONG).await.unwrap().unwrap();
    queue.withdraw(shard(1, 0).campaign).await.unwrap();
    queue.offer(&[shard(2, 0)], Normal, NOW).await.unwrap();
    assert_eq!(drain(&queue).await, [shard(2, 0)]);
}

async fn no_shard_is_given_to_two_at_once(queue: Queue) {
    let shards: Vec<ShardId> = (0..300).map(|number| shard(1, number)).collect();
    queue.offer(&shards, Normal, NOW).await.unwrap();
    let takers: Vec<_> = (0..8)
        .map(|_| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { drain(&queue).await })
        })
        .collect();
    let mut taken = Vec::new();
    for taker in takers {
        taken.extend(taker.await.unwrap());
    }
    taken.sort();
    assert_eq!(taken, shards);
}

async fn a_new_queue_says_once_that_it_is_new(queue: Queue) {
    assert!(queue.lost().await.unwrap());
    assert!(!queue.lost().await.unwrap());
    queue.offer(&[shard(1, 0)], Normal, NOW).await.unwrap();
    assert!(!queue.lost().await.unwrap());
}

macro_rules! conformance {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(start_paused = true)]
            async fn $case() {
                super::$case(super::Arc::new(super::Memory::new())).await;
            })*
        }
        mod redis {
            $(#[tokio::test]
            async fn $case() {
                let server = super::Server::start(&[]);
                super::$case(super::Arc::new(super::Redis::connect(&server.url()).await.unwrap())).await;
            })*
        }
        mod cluster {
            $(#[tokio::test]
            async fn $case() {
                let server = super::Server::cluster();
                let url = server.url().replace("redis:", "redis-cluster:");
                super::$case(super::Arc::new(super::Redis::connect(&url).await.unwrap())).await;
            })*
        }
    };
}

conformance!(
    an_offered_shard_is_taken_once,
    lines_are_taken_from_in_the_order_that_is_asked_for,
    a_delayed_shard_comes_due_later,
    the_earlier_of_two_offers_counts,
    a_taken_shard_comes_back_by_itself,
    a_shard_that_is_offered_while_taken_is_due_again,
    what_is_done_is_gone_unless_it_was_offered_again,
    a_campaign_is_withdrawn_whole_and_alone,
    no_shard_is_given_to_two_at_once,
    a_new_queue_says_once_that_it_is_new,
);

#[tokio::test]
async fn a_flush_and_a_restart_are_noticed() {
    let mut server = Server::start(&[]);
    let queue = Redis::connect(&server.url()).await.unwrap();
    assert!(queue.lost().await.unwrap());
    server.cli(&["FLUSHALL"]);
    assert!(queue.lost().await.unwrap());
    assert!(!queue.lost().await.unwrap());
    server.restart();
    let mut answers = Vec::new();
    for _ in 0..100 {
        answers.extend(queue.lost().await.ok());
        if answers.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(answers, [true, false]);
}

#[tokio::test]
async fn sentinels_name_another_master_when_it_dies_and_that_is_noticed() {
    let mut master = Server::start(&[]);
    let (_copy, sentinel) = Server::watching(&master);
    let url = format!("redis-sentinel://{}/0#mymaster", sentinel.host());
    let queue: Queue = Arc::new(Redis::connect(&url).await.unwrap());
    assert!(queue.lost().await.unwrap() && !queue.lost().await.unwrap());
    queue
        .offer(&[shard(1, 0), shard(1, 1)], Normal, NOW)
        .await
        .unwrap();
    queue.take(&lines(), LONG).await.unwrap().unwrap();
    master.kill();
    let mut answers = Vec::new();
    for _ in 0..300 {
        answers.extend(queue.lost().await.ok());
        if answers.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(answers, [true, false]);
    queue
        .offer(&[shard(1, 0), shard(1, 1)], Normal, NOW)
        .await
        .unwrap();
    assert_eq!(drain(&queue).await.len(), 2);
}

#[tokio::test]
async fn sentinels_that_know_no_such_master_are_no_queue() {
    let master = Server::start(&[]);
    let (_copy, sentinel) = Server::watching(&master);
    let url = format!("redis-sentinel://{}/0#another", sentinel.host());
    let refused = Redis::connect(&url).await.err().unwrap();
    assert!(refused.is_transient(), "{refused}");
}

#[tokio::test]
async fn another_process_does_not_take_a_queue_for_lost_twice() {
    let server = Server::start(&[]);
    let first = Redis::connect(&server.url()).await.unwrap();
    assert!(first.lost().await.unwrap());
    let second = Redis::connect(&server.url()).await.unwrap();
    assert!(second.lost().await.unwrap());
    assert!(!first.lost().await.unwrap() && !second.lost().await.unwrap());
}

#[tokio::test]
async fn an_entry_that_is_no_shard_is_dropped() {
    let server = Server::start(&[]);
    let queue: Queue = Arc::new(Redis::connect(&server.url()).await.unwrap());
    for garbage in [
        "",
        "x",
        "../../etc/passwd",
        "01JD3Y5Q9Z8K7W6V5T4S3R2Q1P",
        "01JD3Y5Q9Z8K7W6V5T4S3R2Q1P/-1",
    ] {
        let line = format!("{{ajar}}:line:{}:normal", shard(1, 0).campaign);
        server.cli(&["ZADD", &line, "0", garbage]);
    }
    queue.offer(&[shard(1, 0)], Normal, NOW).await.unwrap();
    assert_eq!(drain(&queue).await, [shard(1, 0)]);
    assert_eq!(
        queue.depth().await.unwrap(),
        Depth {
            waiting: 0,
            taken: 1
        }
    );
}

#[tokio::test]
async fn keys_that_somebody_else_wrote_are_replaced() {
    let server = Server::start(&[]);
    let queue: Queue = Arc::new(Redis::connect(&server.url()).await.unwrap());
    let line = format!("{{ajar}}:line:{}:normal", shard(1, 0).campaign);
    for foreign in ["{ajar}:out", "{ajar}:lines", "{ajar}:epoch", &line] {
        assert!(queue.lost().await.is_ok());
        server.cli(&["DEL", foreign]);
        server.cli(&["LPUSH", foreign, "not ours"]);
        // A coordinator that finds the queue lost offers everything again.
        let lost = queue.lost().await.unwrap();
        queue.depth().await.unwrap();
        queue.offer(&[shard(1, 0)], Normal, NOW).await.unwrap();
        assert_eq!(drain(&queue).await, [shard(1, 0)], "{foreign}");
        queue.done(shard(1, 0)).await.unwrap();
        assert!(
            lost || queue.lost().await.unwrap() || foreign == "{ajar}:epoch",
            "{foreign}"
        );
    }
}

#[tokio::test]
async fn a_server_that_refuses_us_or_is_full_is_named_at_once() {
    let server = Server::start(&["--requirepass", "hunter2"]);
    let began = std::time::Instant::now();
    let refused = Redis::connect(&server.url()).await.err().unwrap();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    assert!(!refused.is_transient() && began.elapsed().as_secs() < 5);
    let full = Server::start(&["--maxmemory", "1"]);
    let refused = Redis::connect(&full.url()).await.err().unwrap();
    assert!(matches!(refused, Error::Full { most: 1, .. }), "{refused}");
}

#[tokio::test]
async fn a_server_that_would_drop_shards_is_refused() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let refused = Redis::connect(&server.url()).await.err().unwrap();
    assert!(matches!(refused, Error::Evicting { .. }), "{refused}");
}

#[tokio::test]
async fn no_message_holds_the_password() {
    let server = Server::start(&["--requirepass", "hunter2"]);
    let with = |password: &str| {
        server
            .url()
            .replace("redis://", &format!("redis://:{password}@"))
    };
    Redis::connect(&with("hunter2")).await.unwrap();
    let refused = Redis::connect(&with("wrong-password"))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(!refused.contains("wrong-password"), "{refused}");
    let malformed = ajar_queue::open("mysql://user:hunter2@host")
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(!malformed.contains("hunter2"), "{malformed}");
}
