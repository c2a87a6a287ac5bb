use std::time::Duration;

use ajar_model::{Observation, Reply, ShardId, Verdict, campaign::State, lease::Work};
use ajar_store::{Grant, GrantRequest, Store};

use crate::support::*;

const ENDPOINT: &str = "10.0.0.1:25";

/// What visit number `visit` saw, which was over so many seconds after the fixed moment.
fn visited(endpoint: &str, visit: u32, finished: i64, reply: Reply) -> Observation {
    Observation {
        visit,
        ..seen(1, endpoint, "local", finished, reply)
    }
}

/// A campaign with one shard, which is closed, and these observations.
async fn closed(store: &dyn Store, observations: Vec<Observation>) -> ShardId {
    let shard = submit(store, 1, 1).await;
    close(store, shard, observations).await;
    shard
}

async fn planned(store: &dyn Store, seconds: i64) -> Vec<ShardId> {
    let store = on(store, at(seconds));
    let active = store.active_campaigns(None).await.unwrap();
    let planned = store.plan_revisits(campaign_id(1), LATELY).await.unwrap();
    // Coordinators plan only where they see that something is due.
    let is_due = active.iter().any(|active| active.is_due);
    assert!(is_due || planned.is_empty());
    planned
}

async fn state(store: &dyn Store, seconds: i64) -> State {
    let settle = Duration::from_secs(60);
    let concluded = on(store, at(seconds))
        .conclude(campaign_id(1), settle)
        .await;
    concluded.unwrap().unwrap()
}

async fn waiting(store: &dyn Store) -> (u64, Option<ajar_model::Timestamp>) {
    let progress = on(store, at(0)).progress(campaign_id(1)).await.unwrap();
    (progress.awaiting_revisit, progress.next_revisit_at)
}

fn revisit(endpoints: &[&str], visit: u32, vantage: &str) -> Option<Work> {
    Some(Work::Revisit {
        endpoints: endpoints.iter().map(|e| e.parse().unwrap()).collect(),
        visit,
        round: 0,
        vantage: Some(vantage.to_owned()),
    })
}

pub async fn whoever_puts_us_off_is_visited_again_until_it_was_often_enough(place: &Place) {
    let store = &*place.store;
    let first = visited(ENDPOINT, 1, 10, LATER);
    let sweep = closed(store, vec![first.clone()]).await;
    assert_eq!(waiting(store).await, (1, Some(at(40))));
    assert_eq!(planned(store, 39).await, []);
    assert_eq!(state(store, 39).await, State::Running);
    assert_eq!(planned(store, 40).await, [shard(1, 1)]);
    let work = store.work(shard(1, 1)).await.unwrap();
    assert_eq!(work, revisit(&[ENDPOINT], 2, "local"));
    assert_eq!(waiting(store).await, (0, None));
    // A batch that is delivered twice does not send anybody out twice.
    let again = batch(sweep, 1, vec![first]);
    store.ingest(&again).await.unwrap();
    assert_eq!(planned(store, 1000).await, []);
    assert_eq!(state(store, 1000).await, State::Running);

    close(store, shard(1, 1), vec![visited(ENDPOINT, 2, 50, LATER)]).await;
    assert_eq!(waiting(store).await, (1, Some(at(350))));
    assert_eq!(planned(store, 349).await, []);
    assert_eq!(planned(store, 350).await, [shard(1, 2)]);
    let work = store.work(shard(1, 2)).await.unwrap();
    assert_eq!(work, revisit(&[ENDPOINT], 3, "local"));
    close(store, shard(1, 2), vec![visited(ENDPOINT, 3, 360, LATER)]).await;
    assert_eq!(waiting(store).await, (0, None));
    assert_eq!(planned(store, 99_999).await, []);
    assert_eq!(state(store, 99_999).await, State::Finished);
    let findings = all_findings(store).await;
    let summary: Vec<_> = findings.iter().map(|f| (f.verdict, f.attempts)).collect();
    assert_eq!(summary, [(Verdict::Inconclusive, 3)]);
}

pub async fn an_answer_ends_the_waiting(place: &Place) {
    let store = &*place.store;
    closed(store, vec![visited(ENDPOINT, 1, 10, LATER)]).await;
    planned(store, 40).await;
    close(store, shard(1, 1), vec![visited(ENDPOINT, 2, 50, REFUSED)]).await;
    assert_eq!(waiting(store).await, (0, None));
    assert_eq!(state(store, 51).await, State::Finished);
    assert_eq!(all_findings(store).await[0].verdict, Verdict::Closed);
}

pub async fn what_is_due_is_gathered_while_there_is_other_work(place: &Place) {
    let store = &*place.store;
    submit(store, 1, 2).await;
    let later = vec![
        visited(ENDPOINT, 1, 10, LATER),
        visited("10.0.0.2:25", 1, 15, LATER),
    ];
    close(store, shard(1, 0), later).await;
    assert_eq!(planned(store, 40).await, []);
    assert_eq!(planned(store, 49).await, []);
    assert_eq!(planned(store, 50).await, [shard(1, 2)]);
    let work = store.work(shard(1, 2)).await.unwrap();
    assert_eq!(work, revisit(&[ENDPOINT, "10.0.0.2:25"], 2, "local"));
}

pub async fn a_shard_is_of_one_vantage_point(place: &Place) {
    let store = &*place.store;
    let from = |endpoint, vantage| seen(1, endpoint, vantage, 10, LATER);
    let later = vec![
        from(ENDPOINT, "north"),
        from("10.0.0.2:25", "south"),
        from("10.0.0.3:25", "north"),
    ];
    closed(store, later).await;
    assert_eq!(planned(store, 40).await, [shard(1, 1), shard(1, 2)]);
    let north = store.work(shard(1, 1)).await.unwrap();
    assert_eq!(north, revisit(&[ENDPOINT, "10.0.0.3:25"], 2, "north"));
    let south = store.work(shard(1, 2)).await.unwrap();
    assert_eq!(south, revisit(&["10.0.0.2:25"], 2, "south"));
}

pub async fn an_endpoint_that_is_open_by_then_is_left_out(place: &Place) {
    let store = &*place.store;
    let mut accepted = Observation {
        probe: "another".to_owned().into(),
        ..visited(ENDPOINT, 1, 10, ACCEPTED)
    };
    accepted.evidence.attempts[0].nonce = "00112233445566778899aabbccddeeff".parse().unwrap();
    let mail = sighting(&accepted, 20);
    closed(store, vec![visited(ENDPOINT, 1, 10, LATER), accepted]).await;
    record(store, &mail).await;
    assert_eq!(waiting(store).await, (1, Some(at(40))));
    assert_eq!(planned(store, 40).await, []);
    assert_eq!(waiting(store).await, (0, None));
}

pub async fn only_a_running_campaign_visits_again(place: &Place) {
    let store = &*place.store;
    let id = closed(store, vec![visited(ENDPOINT, 1, 10, LATER)])
        .await
        .campaign;
    set_state(store, id, State::Paused).await;
    assert_eq!(planned(store, 40).await, []);
    set_state(store, id, State::Running).await;
    assert_eq!(planned(store, 40).await, [shard(1, 1)]);
}

pub async fn revisits_count_as_no_targets(place: &Place) {
    let store = &*place.store;
    closed(store, vec![visited(ENDPOINT, 1, 10, LATER)]).await;
    planned(store, 40).await;
    close(store, shard(1, 1), vec![visited(ENDPOINT, 2, 50, REFUSED)]).await;
    let progress = on(store, at(60)).progress(campaign_id(1)).await.unwrap();
    assert_eq!((progress.shards, progress.closed), (2, 2));
    assert_eq!(progress.tally.total(), 3);
}

pub async fn an_endpoint_gets_no_more_visits_than_its_campaign_allows(place: &Place) {
    let store = &*place.store;
    closed(store, vec![visited(ENDPOINT, 1, 10, LATER)]).await;
    // Something asks for a fourth visit, of three.
    let findings = place.table("findings");
    let ask = format!("UPDATE {findings} SET visits = 3");
    sql(&place.url, &ask).await.unwrap();
    assert_eq!(waiting(store).await, (1, Some(at(40))));
    assert_eq!(planned(store, 40).await, []);
    assert_eq!(waiting(store).await, (0, None));
    assert_eq!(state(store, 99_999).await, State::Finished);
}

pub async fn endpoints_join_a_revisit_that_no_worker_has(place: &Place) {
    let store = &*place.store;
    let observations = [("1", 10), ("2", 15), ("3", 40)]
        .map(|(host, finished)| visited(&format!("10.0.0.{host}:25"), 1, finished, LATER));
    closed(store, observations.to_vec()).await;
    assert_eq!(planned(store, 40).await, [shard(1, 1)]);
    let early = GrantRequest {
        targets: 1,
        ..request(shard(1, 1), at(40))
    };
    assert_eq!(planned(store, 55).await, [shard(1, 1)]);
    let work = store.work(shard(1, 1)).await.unwrap();
    assert_eq!(work, revisit(&[ENDPOINT, "10.0.0.2:25"], 2, "local"));
    // Who read the shard before it had both endpoints does not get it.
    assert_eq!(store.grant(&early).await.unwrap(), Grant::Outdated);
    token_of(store, shard(1, 1), at(55), 2).await;
    assert_eq!(planned(store, 80).await, [shard(1, 2)]);
    let work = store.work(shard(1, 2)).await.unwrap();
    assert_eq!(work, revisit(&["10.0.0.3:25"], 2, "local"));
}

pub async fn a_revisit_waits_for_few_blocks(place: &Place) {
    let store = &*place.store;
    let put_off = (0..20).map(|net| visited(&format!("10.0.{net}.1:25"), 1, 10, LATER));
    let token = token(store, submit(store, 1, 1).await, at(0)).await;
    store
        .ingest(&batch(shard(1, 0), token, put_off.collect()))
        .await
        .unwrap();
    assert_eq!(planned(store, 99).await, [shard(1, 1), shard(1, 2)]);
    let mut endpoints = Vec::new();
    for number in 1..=2 {
        let Some(Work::Revisit { endpoints: own, .. }) =
            store.work(shard(1, number)).await.unwrap()
        else {
            panic!("{number} is no revisit");
        };
        assert!(own.len() <= 16, "{own:?}");
        endpoints.extend(own);
    }
    assert_eq!(endpoints.len(), 20);
}
