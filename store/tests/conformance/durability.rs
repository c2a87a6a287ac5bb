use ajar_model::{Observation, Timestamp};
use ajar_store::{AuditEntry, Batch, Grant, open};

use crate::support::*;

pub async fn what_was_stored_outlasts_the_store(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let first = token(&**store, shard, at(0)).await;
    let report = Batch {
        progress: Some(advance(0, 5, false)),
        ..batch(shard, first, vec![observation(1, "10.0.0.1:25", ACCEPTED)])
    };
    store.ingest(&report).await.unwrap();
    let entry = AuditEntry {
        at: at(1),
        actor: "alice".to_owned(),
        action: "campaign.submit".to_owned(),
        authorization: None,
        campaign: Some(shard.campaign),
        detail: String::new(),
    };
    store.audit(&entry).await.unwrap();
    let before = (
        store.campaign(shard.campaign).await.unwrap(),
        table(&**store).await,
        on(store, at(1)).progress(shard.campaign).await.unwrap(),
    );
    let reopened = open(&place.url, &options()).await.unwrap();
    let after = (
        reopened.campaign(shard.campaign).await.unwrap(),
        table(&*reopened).await,
        reopened.progress(shard.campaign).await.unwrap(),
    );
    assert_eq!(before, after);
    let log = audit_log(&*reopened).await;
    assert_eq!(log.last(), Some(&entry));
    assert_eq!(log.len(), 2);
    let again = reopened.grant(&request(shard, at(60))).await.unwrap();
    assert!(matches!(again, Grant::Granted { token, cursor: 5, attempt: 1, .. } if token > first));
}

pub async fn times_are_kept_to_the_microsecond(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let fine = Observation {
        started_at: time("2026-11-23T22:00:00.123456789Z"),
        finished_at: time("2026-11-23T22:00:01.999999999Z"),
        ..observation(1, "10.0.0.1:25", REFUSED)
    };
    let batch = batch(shard, token, vec![fine]);
    let told = store.ingest(&batch).await.unwrap().findings;
    let (stored, observations) = table(&**store).await.pop().unwrap();
    assert_eq!(told, std::slice::from_ref(&stored));
    assert_eq!(stored.first_seen, time("2026-11-23T22:00:00.123456Z"));
    assert_eq!(stored.last_seen, time("2026-11-23T22:00:01.999999Z"));
    assert_eq!(observations[0].started_at, stored.first_seen);
    assert_eq!(observations[0].finished_at, stored.last_seen);
}
