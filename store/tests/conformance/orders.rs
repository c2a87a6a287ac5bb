use ajar_model::{
    Campaign, CampaignId, Schedule, SignedAuthorization, Spec, campaign::State, schedule::Times,
};
use ajar_store::{
    Admission, Error, Grant, GrantRequest, Outcome, Registered, Renewed, Resumption, Run,
    ScheduleKey, SeenCoordinator, Stop, Store, Transition,
};

use crate::support::*;

/// Pauses a campaign, and lets it go on under an authorization of this id.
async fn resumed(store: &dyn Store, id: CampaignId, authorization: &str) {
    set_state(store, id, State::Paused).await;
    let signed = SignedAuthorization {
        text: authorization.to_owned(),
        signature: "by somebody".to_owned(),
    };
    let registered = Registered {
        id: authorization.to_owned(),
        digest: [1; 32],
    };
    let resumption = Resumption {
        id,
        authorization: Some((&signed, &registered)),
        audit: &entry("resume"),
    };
    let before = store.resume(&resumption).await.unwrap();
    assert_eq!(before, Some(State::Paused));
}

pub async fn a_lease_of_an_earlier_authorization_is_not_renewed(place: &Place) {
    let store = &*place.store;
    let shard = submit(store, 1, 1).await;
    let token = token(store, shard, at(0)).await;
    let kept = renewed(store, &renewal(shard, token, at(0))).await;
    assert_eq!(
        kept,
        Renewed::Kept {
            rate: WANT,
            epoch: 1
        }
    );
    resumed(store, shard.campaign, "A-1").await;
    let fenced = renewed(store, &renewal(shard, token, at(0))).await;
    assert_eq!(fenced, Renewed::Fenced);
}

pub async fn a_plan_of_an_earlier_authorization_gets_no_lease(place: &Place) {
    let store = &*place.store;
    let shard = submit(store, 1, 1).await;
    resumed(store, shard.campaign, "A-1").await;
    let before = request(shard, at(0));
    assert_eq!(store.grant(&before).await.unwrap(), Grant::Outdated);
    let campaign = store.campaign(shard.campaign).await.unwrap().unwrap();
    assert_eq!(campaign.revision, 1);
    let after = GrantRequest {
        revision: 1,
        ..before
    };
    let granted = store.grant(&after).await.unwrap();
    assert!(matches!(granted, Grant::Granted { .. }), "{granted:?}");
}

pub async fn a_stop_holds_leases_revisits_and_starts_until_it_is_lifted(place: &Place) {
    let store = &*place.store;
    let leased = submit(store, 1, 2).await;
    let token = token(store, leased, at(0)).await;
    let put_off = observation(1, "10.0.0.1:25", LATER);
    store
        .ingest(&batch(leased, token, vec![put_off]))
        .await
        .unwrap();
    let order = entry("stop");
    let held = on(store, at(50)).stop(None, &order).await.unwrap();
    assert_eq!(held, [campaign_id(1)]);
    let stops = store.stops().await.unwrap();
    let expect = Stop {
        tenant: None,
        at: at(50),
        by: "alice".to_owned(),
    };
    assert_eq!(stops, [expect]);
    let held = renewed(store, &renewal(leased, token, at(20))).await;
    assert_eq!(held, Renewed::Stopped);
    let free = request(shard(1, 1), at(20));
    assert_eq!(store.grant(&free).await.unwrap(), Grant::NotOpen);
    let offered = on(store, at(60)).unleased_shards(None, MARGIN).await;
    assert_eq!(offered.unwrap(), []);
    let planned = store.plan_revisits(campaign_id(1), LATELY).await.unwrap();
    assert_eq!(planned, []);
    let submitted = create(store, &campaign(2), &[]).await;
    assert!(matches!(submitted, Err(Error::Stopped(_))), "{submitted:?}");
    let schedule = Schedule {
        name: "weekly".parse().unwrap(),
        times: Times::new("0 3 * * 1", "UTC").unwrap(),
        spec: campaign(1).spec,
        created_at: at(0),
        paused: false,
        handled: at(0),
    };
    store.put_schedule(&schedule, &order).await.unwrap();
    let run = Run {
        key: &ScheduleKey::of(&schedule),
        at: at(60),
        handled: at(60),
        campaign: Ok(&Admission {
            campaign: &campaign(2),
            shards: &[],
            pairs: 0,
            authorization: None,
            audit: &order,
        }),
        skipped: &entry("skip"),
    };
    let outcome = store.run_scheduled(&run).await.unwrap();
    let Some(Outcome::Skipped(cause)) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(
        cause.starts_with("everything was stopped by alice"),
        "{cause}"
    );
    set_state(store, campaign_id(1), State::Paused).await;
    let resumption = Resumption {
        id: campaign_id(1),
        authorization: None,
        audit: &order,
    };
    let resumed = store.resume(&resumption).await;
    assert!(matches!(resumed, Err(Error::Stopped(_))), "{resumed:?}");
    // A second stop changes nothing, and is not on record.
    store.stop(None, &order).await.unwrap();

    let again = entry("start again");
    assert!(store.start_again(None, &again).await.unwrap());
    assert!(!store.start_again(None, &again).await.unwrap());
    store.resume(&resumption).await.unwrap();
    assert_eq!(
        store.unleased_shards(None, MARGIN).await.unwrap().len(),
        2,
        "they are offered again"
    );
    create(store, &campaign(2), &[]).await.unwrap();
    let details: Vec<String> = audit_log(store)
        .await
        .into_iter()
        .map(|e| e.detail)
        .collect();
    let skipped = format!("skip: {cause}");
    let orders = [
        "create",
        "stop",
        // The schedule that was put.
        "stop",
        &skipped,
        "set",
        "start again",
        // The resumption.
        "stop",
        "create",
    ];
    assert_eq!(details, orders);
}

pub async fn a_stop_of_one_tenant_holds_no_other(place: &Place) {
    let store = &*place.store;
    let acme = submit(store, 1, 1).await;
    let usual = campaign(2);
    let other = Campaign {
        spec: Spec {
            tenant: "other".to_owned(),
            ..usual.spec
        },
        ..usual
    };
    create(store, &other, std::slice::from_ref(&(0..1)))
        .await
        .unwrap();
    let held = store.stop(Some("other"), &entry("stop")).await.unwrap();
    assert_eq!(held, [campaign_id(2)]);
    let denied = store.grant(&request(shard(2, 0), at(0))).await.unwrap();
    assert_eq!(denied, Grant::NotOpen);
    token(store, acme, at(0)).await;
    let progress = store.progress(campaign_id(1)).await.unwrap();
    assert_eq!(progress.stopped, None);
    let progress = store.progress(campaign_id(2)).await.unwrap();
    assert_eq!(progress.stopped.unwrap().tenant.as_deref(), Some("other"));
    // The site's stop is another one.
    assert!(!store.start_again(None, &entry("start")).await.unwrap());
}

pub async fn a_settling_campaign_does_not_go_on_while_it_is_stopped(place: &Place) {
    let store = &*place.store;
    let usual = campaign(1);
    let revisits = ajar_model::Revisits {
        confirm_after_secs: Some(10),
        ..REVISITS
    };
    let confirming = Campaign {
        spec: Spec {
            revisits,
            ..usual.spec
        },
        ..usual
    };
    create(store, &confirming, std::slice::from_ref(&(0..1)))
        .await
        .unwrap();
    let seen = observation(1, "10.0.0.1:25", ACCEPTED);
    close(store, shard(1, 0), vec![seen.clone()]).await;
    let settle = std::time::Duration::from_secs(60);
    let conclude = async || {
        let state = store.conclude(campaign_id(1), settle).await.unwrap();
        state.unwrap()
    };
    assert_eq!(conclude().await, State::Settling);
    store.stop(None, &entry("stop")).await.unwrap();
    // Its mail arrives, and the open door is to be confirmed.
    record(store, &sighting(&seen, 20)).await;
    assert_eq!(conclude().await, State::Settling);
    store.start_again(None, &entry("start")).await.unwrap();
    assert_eq!(conclude().await, State::Running);
}

/// A coordinator gives a sign of life, and names what it refuses.
async fn told(store: &dyn Store, name: &str, seconds: i64, refuses: &[CampaignId]) {
    let seen = SeenCoordinator {
        name,
        drives: None,
        refuses,
    };
    on(store, at(seconds))
        .seen_coordinator(&seen)
        .await
        .unwrap();
}

pub async fn a_campaign_ends_only_when_every_coordinator_refuses_it(place: &Place) {
    let store = &*place.store;
    let id = submit(store, 1, 1).await.campaign;
    let ended = async |seconds| {
        let audit = entry("refused");
        on(store, at(seconds))
            .end_refused(id, "no signer", &audit)
            .await
            .unwrap()
    };
    told(store, "a", 0, &[id]).await;
    told(store, "b", 0, &[]).await;
    told(store, "a", 19, &[id]).await;
    told(store, "b", 19, &[]).await;
    assert!(!ended(25).await, "b runs it");
    told(store, "b", 26, &[id]).await;
    told(store, "a", 26, &[id]).await;
    assert!(!ended(45).await, "b has not refused it for long");
    // What b accepts again, it has to refuse anew.
    told(store, "b", 30, &[]).await;
    told(store, "b", 31, &[id]).await;
    told(store, "a", 40, &[id]).await;
    told(store, "b", 47, &[id]).await;
    assert!(!ended(50).await);
    assert!(ended(51).await);
    let campaign = store.campaign(id).await.unwrap().unwrap();
    assert_eq!(campaign.state, State::Incomplete);
    let progress = store.progress(id).await.unwrap();
    assert_eq!(progress.cause.as_deref(), Some("no signer"));
    assert_eq!(audit_log(store).await.pop().unwrap().detail, "refused");
    assert!(!ended(52).await, "it is over");
}

pub async fn a_coordinator_that_is_gone_is_not_asked(place: &Place) {
    let store = &*place.store;
    let id = submit(store, 1, 1).await.campaign;
    told(store, "a", 0, &[id]).await;
    told(store, "gone", 5, &[]).await;
    let audit = entry("refused");
    told(store, "a", 12, &[id]).await;
    told(store, "a", 24, &[id]).await;
    assert!(!on(store, at(24)).end_refused(id, "", &audit).await.unwrap());
    assert!(on(store, at(26)).end_refused(id, "", &audit).await.unwrap());
}

pub async fn an_end_by_expiry_waits_for_the_stores_clock(place: &Place) {
    let store = &*place.store;
    let id = submit(store, 1, 1).await.campaign;
    let expiry = entry("expired");
    let transition = Transition {
        id,
        from: &[State::Running],
        to: State::Incomplete,
        cause: Some("it expired"),
        not_before: Some(at(100)),
        audit: &expiry,
    };
    // A coordinator's clock is ahead.
    let early = on(store, at(99)).transition(&transition).await.unwrap();
    assert!(!early);
    assert!(on(store, at(100)).transition(&transition).await.unwrap());
}
