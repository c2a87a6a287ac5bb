use std::time::Duration;

use ajar_model::campaign::State;
use ajar_store::{Batch, Grant, GrantRequest, Resumption};

use crate::support::*;

pub async fn a_shard_that_never_moves_is_cut_and_then_quarantined(place: &Place) {
    let store = &place.store;
    let first = submit(&**store, 1, 1).await;
    let mut seconds = 0;
    // Every worker that takes it dies.
    let mut die = async |shard| {
        seconds += 100;
        let request = GrantRequest {
            targets: 1000,
            ..request(shard, at(seconds))
        };
        store.grant(&request).await.unwrap()
    };
    for attempt in 1..=3 {
        let granted = die(first).await;
        assert!(
            matches!(granted, Grant::Granted { cursor: 0, end: 1000, attempt: a, .. } if a == attempt)
        );
    }
    let half = die(first).await;
    assert!(
        matches!(
            half,
            Grant::Granted {
                cursor: 0,
                end: 500,
                ..
            }
        ),
        "{half:?}"
    );
    die(first).await;
    let quarter = die(first).await;
    assert!(
        matches!(
            quarter,
            Grant::Granted {
                cursor: 0,
                end: 250,
                ..
            }
        ),
        "{quarter:?}"
    );
    die(first).await;
    assert_eq!(die(first).await, Grant::Quarantined);
    assert_eq!(die(first).await, Grant::NotOpen);

    // What was cut off is whole, and can be done.
    for (number, from, to) in [(1, 500, 1000), (2, 250, 500)] {
        let shard = shard(1, number);
        let Grant::Granted {
            token, cursor, end, ..
        } = die(shard).await
        else {
            panic!("{shard} is not granted");
        };
        assert_eq!((cursor, end), (from, to));
        let last = Batch {
            progress: Some(advance(from, to, true)),
            ..batch(shard, token, vec![])
        };
        store.ingest(&last).await.unwrap();
    }
    let id = first.campaign;
    let progress = on(store, at(9999)).progress(id).await.unwrap();
    assert_eq!(
        (progress.shards, progress.closed, progress.quarantined),
        (3, 3, 1)
    );
    assert_eq!(progress.tally.total(), 750);
    let concluded = on(store, at(9999)).conclude(id, Duration::ZERO).await;
    assert_eq!(concluded.unwrap(), Some(State::Incomplete));
    let given_up = store.quarantined(id, 10).await.unwrap();
    assert_eq!(given_up.len(), 1);
    assert_eq!(
        (given_up[0].shard, given_up[0].targets.clone()),
        (first, 0..250)
    );
    assert_eq!(given_up[0].cause, None, "they died without a word");
    let cause = on(store, at(9999)).progress(id).await.unwrap().cause;
    assert!(cause.is_some_and(|cause| cause.contains("a shard was given up")));

    let audit = entry("resume");
    let resumption = Resumption {
        id,
        authorization: None,
        audit: &audit,
    };
    store.resume(&resumption).await.unwrap();
    assert_eq!(store.quarantined(id, 10).await.unwrap(), []);
    let again = die(first).await;
    assert!(
        matches!(
            again,
            Grant::Granted {
                cursor: 0,
                end: 250,
                attempt: 1,
                ..
            }
        ),
        "{again:?}"
    );
}

pub async fn a_shard_that_moves_or_is_handed_back_is_not_poison(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    for round in 0..5_u64 {
        let request = GrantRequest {
            targets: 10,
            ..request(shard, at(100 * round as i64))
        };
        let Grant::Granted { token, attempt, .. } = store.grant(&request).await.unwrap() else {
            panic!("not granted");
        };
        assert_eq!(attempt, 1);
        match round % 2 {
            0 => store.release(shard, token, None).await.unwrap(),
            _ => {
                let moved = Batch {
                    progress: Some(advance(round / 2, round / 2 + 1, false)),
                    ..batch(shard, token, vec![])
                };
                assert!(!store.ingest(&moved).await.unwrap().stale);
            }
        }
    }
}

pub async fn a_quarantined_shard_says_what_its_last_worker_said(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    for (attempt, cause) in ["no memory", "a visit was lost", ""]
        .into_iter()
        .enumerate()
    {
        let now = at(100 * attempt as i64);
        let token = token_of(&**store, shard, now, 10).await;
        if !cause.is_empty() {
            store.release(shard, token, Some(cause)).await.unwrap();
        }
    }
    let request = GrantRequest {
        targets: 10,
        ..request(shard, at(9999))
    };
    assert_eq!(store.grant(&request).await.unwrap(), Grant::Quarantined);
    let given_up = store.quarantined(shard.campaign, 10).await.unwrap();
    assert_eq!(given_up[0].cause.as_deref(), Some("a visit was lost"));
    assert_eq!(given_up[0].work, store.work(shard).await.unwrap().unwrap());
    assert!(
        store
            .quarantined(campaign_id(2), 10)
            .await
            .unwrap()
            .is_empty()
    );
}
