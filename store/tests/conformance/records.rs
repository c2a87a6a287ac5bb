use std::time::Duration;

use ajar_store::{Admission, AuditEntry, Error, Registered, SeenWorker};

use crate::support::*;

fn entry(detail: &str) -> AuditEntry {
    AuditEntry {
        at: at(1),
        actor: "alice".to_owned(),
        action: "campaign.submit".to_owned(),
        authorization: Some("A-1".to_owned()),
        campaign: Some(campaign_id(1)),
        detail: detail.to_owned(),
    }
}

pub async fn an_authorization_id_cannot_be_used_for_another_text(place: &Place) {
    let store = &place.store;
    let submit = async |number, id: &str, digest| {
        let registered = Registered {
            id: id.to_owned(),
            digest: [digest; 32],
        };
        let admission = Admission {
            campaign: &campaign(number),
            shards: &[],
            pairs: 0,
            authorization: Some(&registered),
            audit: &entry("create"),
        };
        store.create_campaign(&admission).await
    };
    submit(1, "A-1", 1).await.unwrap();
    submit(2, "A-1", 1).await.unwrap();
    let replayed = submit(3, "A-1", 2).await;
    assert!(matches!(replayed, Err(Error::Conflict { .. })));
    assert_eq!(store.campaign(campaign_id(3)).await.unwrap(), None);
    submit(3, "A-2", 2).await.unwrap();
    assert_eq!(audit_log(&**store).await.len(), 3);
}

pub async fn the_audit_log_is_kept_in_order(place: &Place) {
    let store = &place.store;
    assert_eq!(audit_log(&**store).await, []);
    let bare = AuditEntry {
        authorization: None,
        campaign: None,
        ..entry("second")
    };
    let entries = [entry("first"), bare, entry("third ☃")];
    for entry in &entries {
        store.audit(entry).await.unwrap();
    }
    assert_eq!(audit_log(&**store).await, entries);
    let refused = store.audit(&entry("a\0b")).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })));
}

pub async fn concurrent_audit_entries_form_one_chain(place: &Place) {
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let store = place.store.clone();
            tokio::spawn(async move { store.audit(&entry(&format!("{n:02}"))).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let log = audit_log(&*place.store).await;
    let mut details: Vec<_> = log.into_iter().map(|entry| entry.detail).collect();
    details.sort();
    let expect: Vec<_> = (0..20).map(|n| format!("{n:02}")).collect();
    assert_eq!(details, expect);
}

pub async fn a_canary_of_the_same_address_takes_its_place(place: &Place) {
    let store = &place.store;
    for address in ["192.0.2.9", "2001:db8::1", "192.0.2.1"] {
        store.put_canary(&canary(address)).await.unwrap();
    }
    let mut moved = canary("2001:db8::1");
    moved.smtp = 2525;
    store.put_canary(&moved).await.unwrap();
    let expect = [canary("192.0.2.9"), moved, canary("192.0.2.1")];
    assert_eq!(store.canaries().await.unwrap(), expect);
}

pub async fn workers_are_forgotten_after_a_week(place: &Place) {
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
    let store = &place.store;
    let seen = |worker: &str, vantage: &str, last_seen| SeenWorker {
        worker: worker.to_owned(),
        vantage: vantage.to_owned(),
        last_seen,
    };
    let see = async |now, workers: &[(&str, &str)]| {
        let workers = workers.iter();
        let workers = workers.map(|(worker, vantage)| ((*worker).into(), (*vantage).into()));
        let store = on(store, now);
        store.seen_workers(&workers.collect()).await.unwrap();
    };
    see(at(10), &[("b", "outside")]).await;
    // A name that cannot be stored keeps no other from being stored.
    see(at(20), &[("a", "outside"), ("\0", "outside"), ("c", "\0")]).await;
    see(at(30), &[("c", "inside")]).await;
    see(at(5), &[("b", "outside")]).await;
    see(at(40), &[]).await;
    let expect = [
        seen("c", "inside", at(30)),
        seen("a", "outside", at(20)),
        seen("b", "outside", at(10)),
    ];
    let lately = |seconds| on(store, at(40)).workers(Duration::from_secs(seconds));
    assert_eq!(lately(30).await.unwrap(), expect);
    assert_eq!(lately(29).await.unwrap(), expect[..2]);
    let now = at(15).saturating_add(WEEK).unwrap();
    see(now, &[("d", "inside")]).await;
    let expect = [
        seen("c", "inside", at(30)),
        seen("d", "inside", now),
        seen("a", "outside", at(20)),
    ];
    let all = on(store, now).workers(2 * WEEK).await;
    assert_eq!(all.unwrap(), expect);
}
