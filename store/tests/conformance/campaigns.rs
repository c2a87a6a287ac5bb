use ajar_model::{Tally, Verdict, campaign::State, lease::Work};
use ajar_store::{Batch, Error, Progress};

use crate::support::*;

pub async fn a_campaign_is_created_once(place: &Place) {
    let store = &place.store;
    let wanted = campaign(1);
    assert_eq!(store.campaign(wanted.id).await.unwrap(), None);
    store.create_campaign(&wanted, &[0..4, 4..7]).await.unwrap();
    assert_eq!(
        store.campaign(wanted.id).await.unwrap(),
        Some(wanted.clone())
    );
    assert!(
        store
            .transition(wanted.id, &[State::Running], State::Paused)
            .await
            .unwrap()
    );
    let mut again = wanted.clone();
    again.spec.traceparent = Some("00-another-trace-01".to_owned());
    store.create_campaign(&again, &[0..9, 9..10]).await.unwrap();
    assert_eq!(
        store.campaign(wanted.id).await.unwrap().unwrap().state,
        State::Paused
    );
    let mut other = campaign(1);
    other.spec.rate += 1;
    let refused = store.create_campaign(&other, &[0..9, 9..10]).await;
    assert!(matches!(refused, Err(Error::Conflict { .. })));
    let work = |number| store.work(shard(1, number));
    assert_eq!(work(0).await.unwrap(), Some(Work::Sweep(0..4)));
    assert_eq!(work(1).await.unwrap(), Some(Work::Sweep(4..7)));
    assert_eq!(work(2).await.unwrap(), None);
}

pub async fn campaigns_are_listed_newest_first(place: &Place) {
    for number in [2, 3, 1] {
        submit(&*place.store, number, 0).await;
    }
    let listed = place.store.campaigns().await.unwrap();
    assert_eq!(listed, [campaign(3), campaign(2), campaign(1)]);
}

pub async fn a_campaign_moves_only_from_a_named_state(place: &Place) {
    let store = &place.store;
    let id = submit(&**store, 1, 0).await.campaign;
    for (from, to, moved) in [
        (
            &[State::Paused, State::Settling][..],
            State::Finished,
            false,
        ),
        (&[], State::Finished, false),
        (&[State::Paused, State::Running], State::Settling, true),
        (&[State::Running], State::Paused, false),
        (&[State::Settling], State::Finished, true),
    ] {
        assert_eq!(store.transition(id, from, to).await.unwrap(), moved);
    }
    assert_eq!(
        store.campaign(id).await.unwrap().unwrap().state,
        State::Finished
    );
    let unknown = store.transition(campaign_id(9), &State::ALL, State::Paused);
    assert!(!unknown.await.unwrap());
}

pub async fn revisits_follow_the_planned_shards(place: &Place) {
    let store = &place.store;
    let id = submit(&**store, 1, 2).await.campaign;
    let endpoints = ["10.0.0.1:25", "[2001:db8::1]:3128"].map(|e| e.parse().unwrap());
    assert_eq!(
        store.add_revisit(id, &endpoints, 2).await.unwrap(),
        shard(1, 2)
    );
    assert_eq!(
        store.add_revisit(id, &endpoints[..1], 3).await.unwrap(),
        shard(1, 3)
    );
    let expect = Work::Revisit {
        endpoints: endpoints.to_vec(),
        visit: 2,
    };
    assert_eq!(store.work(shard(1, 2)).await.unwrap(), Some(expect));
    let unknown = store.add_revisit(campaign_id(9), &endpoints, 2).await;
    assert!(matches!(unknown, Err(Error::Unknown { .. })));
    submit(&**store, 2, 0).await;
    let first = store.add_revisit(campaign_id(2), &endpoints, 2);
    assert_eq!(first.await.unwrap(), shard(2, 0));
}

pub async fn progress_tells_shards_leases_outcomes_and_verdicts(place: &Place) {
    let store = &place.store;
    let id = submit(&**store, 1, 4).await.campaign;
    let closed = token(&**store, shard(1, 0), at(0)).await;
    token(&**store, shard(1, 1), at(0)).await;
    let mut other = request(shard(1, 2), at(0));
    other.owner = "worker-2".to_owned();
    store.grant(&other).await.unwrap();
    let tally = Tally {
        answered: 3,
        refused: 1,
        silent: 2,
        unreachable: 4,
        denied: 5,
        failed: 6,
    };
    let report = Batch {
        observations: vec![
            observation(1, "10.0.0.1:25", ACCEPTED),
            observation(1, "10.0.0.2:25", REFUSED),
            observation(1, "10.0.0.3:25", REFUSED),
        ],
        progress: Some(ajar_store::Advance {
            from: 0,
            to: 21,
            tally,
            closes: Some(21),
        }),
        now: at(7),
        ..batch(shard(1, 0), closed, vec![])
    };
    store.ingest(&report).await.unwrap();
    let expect = Progress {
        shards: 4,
        closed: 1,
        leased: 2,
        tally,
        verdicts: vec![(Verdict::Closed, 2), (Verdict::Unproven, 1)],
        rate: 2 * u64::from(WANT),
        workers: 2,
        awaiting_mail: 1,
        last_report_at: Some(at(7)),
    };
    assert_eq!(store.progress(id, at(1)).await.unwrap(), expect);
    let later = Progress {
        leased: 0,
        rate: 0,
        workers: 0,
        ..expect
    };
    assert_eq!(store.progress(id, at(31)).await.unwrap(), later);
    assert_eq!(
        store.progress(campaign_id(9), at(1)).await.unwrap(),
        Progress::default()
    );
}

pub async fn only_open_shards_of_running_campaigns_are_offered(place: &Place) {
    let store = &place.store;
    submit(&**store, 1, 3).await;
    submit(&**store, 2, 1).await;
    let paused = campaign_id(2);
    store
        .transition(paused, &[State::Running], State::Paused)
        .await
        .unwrap();
    let closes = token(&**store, shard(1, 0), at(0)).await;
    let last = Batch {
        progress: Some(advance(0, 3, Some(3))),
        ..batch(shard(1, 0), closes, vec![])
    };
    store.ingest(&last).await.unwrap();
    token(&**store, shard(1, 1), at(0)).await;
    let offered = |seconds| store.unleased_shards(at(seconds), MARGIN);
    assert_eq!(offered(34).await.unwrap(), [shard(1, 2)]);
    assert_eq!(offered(35).await.unwrap(), [shard(1, 1), shard(1, 2)]);
}
