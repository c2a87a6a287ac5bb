//! What was acknowledged survives the sudden end of the process that stored it.

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use ajar_model::Campaign;
use ajar_store::{Batch, Options, open};
use support::*;

/// Names the store to the child.
const STORE: &str = "AJAR_TEST_STORE";
const ROUNDS: usize = 3;
const BATCHES: usize = 25;

#[tokio::test]
async fn acknowledged_batches_survive_kill_9() {
    for place in [sqlite().await, postgres().await] {
        let local = Campaign {
            local: true,
            ..campaign(1)
        };
        create(&*place.store, &local, std::slice::from_ref(&(0..1)))
            .await
            .unwrap();
        let mut acknowledged = 0;
        for round in 1..=ROUNDS {
            acknowledged = run_until_killed(&place.url, BATCHES * round);
            let reopened = open(&place.url, &Options::default()).await.unwrap();
            let progress = reopened.progress(campaign_id(1)).await.unwrap();
            let findings = all_findings(&*reopened).await.len() as u64;
            // Beyond the last acknowledged one, at most the one that was under way when the process died.
            for stored in [progress.tally.total(), findings] {
                assert!(stored >= acknowledged, "{stored} of {acknowledged}");
                assert!(stored <= acknowledged + 1, "{stored} of {acknowledged}");
            }
            reopened.end_local_leases().await.unwrap();
        }
        assert!(acknowledged >= (BATCHES * ROUNDS) as u64);
    }
}

/// Starts the child, kills it once it has said that so many batches are stored, and returns the last number that it
/// said.
fn run_until_killed(url: &str, batches: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "child_stores_batches",
        ])
        .env(STORE, url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("stored ")?.parse::<u64>().ok());
    let mut acknowledged = 0;
    // It goes on until it dies: what it said meanwhile counts too.
    for stored in said {
        acknowledged = stored;
        if stored as usize >= batches {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged as usize >= batches, "it ended by itself");
    acknowledged
}

/// Not a test of its own: the process that is killed.
#[tokio::test]
#[ignore = "run by acknowledged_batches_survive_kill_9"]
async fn child_stores_batches() {
    let url = std::env::var(STORE).expect("only as a child");
    let store = open(&url, &Options::default()).await.unwrap();
    let token = token(&*store, shard(1, 0), at(0)).await;
    let progress = store.progress(campaign_id(1)).await.unwrap();
    let done = progress.tally.total();
    for slot in done..done + 10_000 {
        let endpoint = format!("10.0.{}.{}:25", slot >> 8, slot & 255);
        let report = Batch {
            progress: Some(advance(slot, slot + 1, false)),
            ..batch(
                shard(1, 0),
                token,
                vec![observation(1, &endpoint, ACCEPTED)],
            )
        };
        assert!(!store.ingest(&report).await.unwrap().stale);
        writeln!(std::io::stdout(), "stored {}", slot + 1).unwrap();
    }
}
