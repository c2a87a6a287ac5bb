use std::time::Duration;

use ajar_model::{
    Ahead, Campaign, CampaignId, SignedAuthorization, Tally, Verdict, campaign::State, lease::Work,
};
use ajar_store::{
    Active, AuditEntry, Batch, CampaignQuery, Error, Grant, GrantRequest, Progress, Registered,
    Renewal, Renewed, Resumption, Store, Transition, Trouble,
};

use crate::support::*;

pub async fn a_campaign_is_created_once(place: &Place) {
    let store = &place.store;
    let wanted = campaign(1);
    assert_eq!(store.campaign(wanted.id).await.unwrap(), None);
    create(&**store, &wanted, &[0..4, 4..7]).await.unwrap();
    assert_eq!(
        store.campaign(wanted.id).await.unwrap(),
        Some(wanted.clone())
    );
    set_state(&**store, wanted.id, State::Paused).await;
    let mut again = wanted.clone();
    again.spec.traceparent = Some("00-another-trace-01".to_owned());
    create(&**store, &again, &[0..9, 9..10]).await.unwrap();
    assert_eq!(
        store.campaign(wanted.id).await.unwrap().unwrap().state,
        State::Paused
    );
    let mut other = campaign(1);
    other.spec.rate += 1;
    let refused = create(&**store, &other, &[0..9, 9..10]).await;
    assert!(matches!(refused, Err(Error::Conflict { .. })));
    let work = |number| store.work(shard(1, number));
    assert_eq!(work(0).await.unwrap(), Some(Work::Sweep(0..4)));
    assert_eq!(work(1).await.unwrap(), Some(Work::Sweep(4..7)));
    assert_eq!(work(2).await.unwrap(), None);
}

pub async fn a_removed_campaign_leaves_the_audit_log_and_the_others(place: &Place) {
    let store = &place.store;
    let mut mails = Vec::new();
    for number in [1, 2] {
        let shard = submit(&**store, number, 1).await;
        let token = token(&**store, shard, at(0)).await;
        let seen = observation(number, &format!("10.{number}.0.1:25"), ACCEPTED);
        mails.push(sighting(&seen, 50));
        let report = batch(shard, token, vec![seen]);
        store.ingest(&report).await.unwrap();
        record(&**store, mails.last().unwrap()).await.unwrap();
    }
    let (gone, stays) = (campaign_id(1), campaign_id(2));
    let remove = async || store.remove_campaign(gone, &entry("gone")).await.unwrap();
    assert_eq!(remove().await, Some(State::Running), "it is not over");
    assert_eq!(all_findings(&**store).await.len(), 2);
    set_state(&**store, gone, State::Cancelled).await;
    assert_eq!(remove().await, Some(State::Cancelled));
    assert_eq!(remove().await, None);

    assert_eq!(store.campaign(gone).await.unwrap(), None);
    assert_eq!(
        on(store, at(60)).progress(gone).await.unwrap(),
        Progress::default()
    );
    let left = all_findings(&**store).await;
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].campaign, left[0].verdict), (stays, Verdict::Open));
    let log = audit_log(&**store).await;
    let of = |detail: &str| log.iter().filter(|entry| entry.detail == detail).count();
    assert_eq!(of("gone"), 1);
    // Its last mail, which comes late, is of nobody; its id is free in the end.
    assert_eq!(record(&**store, &mails[0]).await, None);
    now_is(at(600));
    while store.clear_removed().await.unwrap() {}
    submit(&**store, 1, 1).await;
    assert_eq!(on(store, at(60)).progress(gone).await.unwrap().shards, 1);
}

pub async fn campaigns_are_listed_newest_first(place: &Place) {
    for number in [2, 3, 1] {
        submit(&*place.store, number, 0).await;
    }
    let store = &*place.store;
    let listed: Vec<_> = campaigns(store).await.into_iter().map(|c| c.id).collect();
    assert_eq!(listed, [3, 2, 1].map(campaign_id));
    let after = |after| CampaignQuery {
        after: Some(campaign_id(after)),
        limit: 1,
        ..CampaignQuery::default()
    };
    let next = store.summaries(&after(3)).await.unwrap();
    assert_eq!(
        next.iter().map(|c| c.id).collect::<Vec<_>>(),
        [campaign_id(2)]
    );
    assert_eq!(store.summaries(&after(1)).await.unwrap(), []);
    let of_others = CampaignQuery {
        tenants: Some(vec!["other".to_owned()]),
        limit: 10,
        ..CampaignQuery::default()
    };
    assert_eq!(store.summaries(&of_others).await.unwrap(), []);
}

pub async fn a_campaign_that_cannot_be_read_is_listed_and_steered(place: &Place) {
    let store = &*place.store;
    let shard = submit(store, 1, 1).await;
    let token = token_of(store, shard, at(0), 5).await;
    let report = Batch {
        progress: Some(advance(0, 3, false)),
        ..batch(shard, token, Vec::new())
    };
    store.ingest(&report).await.unwrap();
    let broken = format!("UPDATE {} SET spec = '{{}}'", place.table("campaigns"));
    sql(&place.url, &broken).await.unwrap();
    let unreadable = store.campaign(shard.campaign).await;
    assert!(matches!(unreadable, Err(Error::Corrupt { .. })));
    let [listed] = &campaigns(store).await[..] else {
        panic!("not one campaign");
    };
    assert_eq!((listed.finished, listed.tenant.as_str()), (3, "acme"));
    set_state(store, shard.campaign, State::Cancelled).await;
    let summary = store.summary(shard.campaign).await.unwrap().unwrap();
    assert_eq!(summary.state, State::Cancelled);
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
        let transition = Transition {
            id,
            from,
            to,
            cause: None,
            not_before: None,
            audit: &entry("move"),
        };
        assert_eq!(store.transition(&transition).await.unwrap(), moved);
    }
    assert_eq!(
        store.campaign(id).await.unwrap().unwrap().state,
        State::Finished
    );
    let unknown = Transition {
        id: campaign_id(9),
        from: &State::ALL,
        to: State::Paused,
        cause: None,
        not_before: None,
        audit: &entry("move"),
    };
    assert!(!store.transition(&unknown).await.unwrap());
    // The submission, and each move that was made.
    assert_eq!(audit_log(&**store).await.len(), 3);
}

pub async fn progress_tells_shards_leases_outcomes_and_verdicts(place: &Place) {
    let store = &place.store;
    let id = submit(&**store, 1, 4).await.campaign;
    let closed = token_of(&**store, shard(1, 0), at(0), 3).await;
    let open = token(&**store, shard(1, 1), at(0)).await;
    let mut other = request(shard(1, 2), at(0));
    other.owner = "worker-2".to_owned();
    store.grant(&other).await.unwrap();
    let tally = Tally {
        answered: 1,
        silent: 2,
        ..Tally::default()
    };
    now_is(at(7));
    let report = Batch {
        observations: vec![
            observation(1, "10.0.0.1:25", ACCEPTED),
            observation(1, "10.0.0.2:25", REFUSED),
            observation(1, "10.0.0.3:25", REFUSED),
        ],
        progress: Some(ajar_store::Advance {
            from: 0,
            to: 3,
            tally,
            closes: true,
        }),
        ..batch(shard(1, 0), closed, vec![])
    };
    store.ingest(&report).await.unwrap();
    now_is(at(6));
    let beyond = Batch {
        ahead: Ahead {
            finished: 2,
            answered: 1,
        },
        ..batch(shard(1, 1), open, vec![])
    };
    store.ingest(&beyond).await.unwrap();
    let expect = Progress {
        shards: 4,
        closed: 1,
        ahead: Ahead {
            finished: 2,
            answered: 1,
        },
        leased: 2,
        tally,
        verdicts: vec![(Verdict::Closed, 2), (Verdict::Unproven, 1)],
        rate: 2 * u64::from(WANT),
        workers: 2,
        awaiting_mail: 1,
        last_report_at: Some(at(7)),
        ..Progress::default()
    };
    assert_eq!(on(store, at(1)).progress(id).await.unwrap(), expect);
    let later = Progress {
        leased: 0,
        rate: 0,
        workers: 0,
        ..expect
    };
    assert_eq!(on(store, at(31)).progress(id).await.unwrap(), later);
    assert_eq!(
        on(store, at(1)).progress(campaign_id(9)).await.unwrap(),
        Progress::default()
    );
}

pub async fn only_open_shards_of_running_campaigns_are_offered(place: &Place) {
    let store = &place.store;
    submit(&**store, 1, 3).await;
    submit(&**store, 2, 1).await;
    let paused = campaign_id(2);
    set_state(&**store, paused, State::Paused).await;
    let closes = token_of(&**store, shard(1, 0), at(0), 3).await;
    let last = Batch {
        progress: Some(advance(0, 3, true)),
        ..batch(shard(1, 0), closes, vec![])
    };
    store.ingest(&last).await.unwrap();
    token(&**store, shard(1, 1), at(0)).await;
    let offered = |seconds| on(store, at(seconds)).unleased_shards(None, MARGIN);
    assert_eq!(offered(34).await.unwrap(), [unleased(shard(1, 2))]);
    assert_eq!(
        offered(35).await.unwrap(),
        [1, 2].map(|n| unleased(shard(1, n)))
    );
}

pub async fn a_local_campaign_is_offered_to_its_own_process_alone(place: &Place) {
    let store = &place.store;
    submit(&**store, 1, 1).await;
    let local = Campaign {
        local: true,
        ..campaign(2)
    };
    create(&**store, &local, std::slice::from_ref(&(0..1)))
        .await
        .unwrap();
    assert!(store.campaign(local.id).await.unwrap().unwrap().local);
    let offered = |only| on(store, at(0)).unleased_shards(only, MARGIN);
    assert_eq!(offered(None).await.unwrap(), [unleased(shard(1, 0))]);
    assert_eq!(
        offered(Some(local.id)).await.unwrap(),
        [unleased(shard(2, 0))]
    );
    let active = |only| store.active_campaigns(only);
    let open = |campaign| Active {
        campaign,
        is_open: true,
        is_due: false,
    };
    assert_eq!(active(None).await.unwrap(), [open(campaign_id(1))]);
    assert_eq!(active(Some(local.id)).await.unwrap(), [open(local.id)]);
}

fn resumption<'a>(id: CampaignId, audit: &'a AuditEntry) -> Resumption<'a> {
    Resumption {
        id,
        authorization: None,
        audit,
    }
}

/// A campaign with one closed shard, whose only finding is a relay that accepted a mail.
async fn closed(store: &dyn Store, number: u128) -> CampaignId {
    let shard = submit(store, number, 1).await;
    let token = token_of(store, shard, at(0), 3).await;
    let seen = observation(number, "10.0.0.1:25", ACCEPTED);
    let last = Batch {
        progress: Some(advance(0, 3, true)),
        ..batch(shard, token, vec![seen])
    };
    store.ingest(&last).await.unwrap();
    shard.campaign
}

/// The same, waiting for its mail.
async fn settled(store: &dyn Store) -> CampaignId {
    let id = closed(store, 1).await;
    let concluded = on(store, at(30))
        .conclude(id, Duration::from_secs(60))
        .await;
    assert_eq!(concluded.unwrap(), Some(State::Settling));
    id
}

pub async fn a_campaign_ends_only_when_no_shard_is_open(place: &Place) {
    let store = &place.store;
    let settle = Duration::from_secs(60);
    let id = settled(&**store).await;
    let conclude = |seconds| on(store, at(seconds)).conclude(id, settle);
    let audit = entry("resume");
    store.resume(&resumption(id, &audit)).await.unwrap();
    let revisit = shard(1, 1);
    assert_eq!(conclude(500).await.unwrap(), Some(State::Running));
    let only = GrantRequest {
        targets: 1,
        ..request(revisit, at(500))
    };
    let Grant::Granted { token, .. } = store.grant(&only).await.unwrap() else {
        panic!("not granted");
    };
    assert_eq!(conclude(500).await.unwrap(), Some(State::Running));
    now_is(at(510));
    let last = Batch {
        progress: Some(advance(0, 1, true)),
        ..batch(revisit, token, vec![])
    };
    store.ingest(&last).await.unwrap();
    assert_eq!(conclude(569).await.unwrap(), Some(State::Settling));
    assert_eq!(conclude(570).await.unwrap(), Some(State::Finished));
    assert_eq!(conclude(9999).await.unwrap(), Some(State::Finished));
    let unknown = on(store, at(0)).conclude(campaign_id(9), settle).await;
    assert_eq!(unknown.unwrap(), None);
}

pub async fn resuming_repeats_unproven_endpoints_once(place: &Place) {
    let store = &place.store;
    let id = settled(&**store).await;
    let audit = entry("resume");
    let resume = async || store.resume(&resumption(id, &audit)).await.unwrap();
    assert_eq!(resume().await, Some(State::Settling));
    assert_eq!(resume().await, Some(State::Running));
    set_state(&**store, id, State::Paused).await;
    assert_eq!(resume().await, Some(State::Paused));
    let expect = Work::Revisit {
        endpoints: vec!["10.0.0.1:25".parse().unwrap()],
        visit: 1,
        round: 0,
        vantage: None,
    };
    assert_eq!(store.work(shard(1, 1)).await.unwrap(), Some(expect));
    assert_eq!(store.work(shard(1, 2)).await.unwrap(), None);
    for over in [State::Finished, State::Cancelled] {
        set_state(&**store, id, over).await;
        assert_eq!(resume().await, Some(over));
        assert_eq!(store.campaign(id).await.unwrap().unwrap().state, over);
    }
    let unknown = resumption(campaign_id(9), &audit);
    assert_eq!(store.resume(&unknown).await.unwrap(), None);
}

pub async fn resuming_beside_housekeeping_always_repeats(place: &Place) {
    let store = &place.store;
    let id = settled(&**store).await;
    let housekeeping = tokio::spawn({
        let store = store.clone();
        async move {
            // The settling time is over: it ends the campaign if it comes first.
            for _ in 0..20 {
                on(&*store, at(31))
                    .conclude(id, Duration::ZERO)
                    .await
                    .unwrap();
            }
        }
    });
    let audit = entry("resume");
    let before = store.resume(&resumption(id, &audit)).await.unwrap();
    housekeeping.await.unwrap();
    let state = store.campaign(id).await.unwrap().unwrap().state;
    let repeated = store.work(shard(1, 1)).await.unwrap().is_some();
    match before {
        Some(State::Settling) => assert_eq!((state, repeated), (State::Running, true)),
        _ => assert_eq!((state, repeated), (State::Finished, false)),
    }
}

pub async fn a_new_authorization_takes_the_place_of_the_old_one(place: &Place) {
    let store = &place.store;
    let id = submit(&**store, 1, 1).await.campaign;
    set_state(&**store, id, State::Incomplete).await;
    let signed = SignedAuthorization {
        text: "tenant".to_owned(),
        signature: "by somebody".to_owned(),
    };
    let registered = |id: &str, digest| Registered {
        id: id.to_owned(),
        digest: [digest; 32],
    };
    let (first, other) = (registered("A-1", 1), registered("A-1", 2));
    let audit = entry("resume");
    let resumption = |registered| Resumption {
        authorization: Some((&signed, registered)),
        ..resumption(id, &audit)
    };
    store.resume(&resumption(&first)).await.unwrap();
    let stored = store.campaign(id).await.unwrap().unwrap();
    assert_eq!(stored.spec.authorization.as_ref(), Some(&signed));
    assert_eq!(stored.state, State::Running);
    set_state(&**store, id, State::Paused).await;
    let refused = store.resume(&resumption(&other)).await;
    assert!(matches!(refused, Err(Error::Conflict { .. })));
    let state = store.campaign(id).await.unwrap().unwrap().state;
    assert_eq!(state, State::Paused);
}

/// Takes the tables of findings away: whatever reads them fails.
async fn hide_findings(place: &Place) {
    let schema = match place.url.starts_with("postgres") {
        true => "ajar.",
        false => "",
    };
    for table in ["findings", "observations"] {
        sql(
            &place.url,
            &format!("ALTER TABLE {schema}{table} RENAME TO hidden_{table}"),
        )
        .await
        .unwrap();
    }
}

pub async fn leases_housekeeping_and_watching_read_no_findings(place: &Place) {
    let store = &place.store;
    submit(&**store, 1, 2).await;
    let id = closed(&**store, 2).await;
    hide_findings(place).await;
    let token = token(&**store, shard(1, 1), at(40)).await;
    now_is(at(41));
    let renewal = Renewal {
        shard: shard(1, 1),
        token,
        number: 0,
        rate: WANT,
        want_rate: 60,
        caps: CAPS,
        ttl: TTL,
        margin: MARGIN,
    };
    assert_eq!(
        renewed(&**store, &renewal).await,
        Renewed::Kept { rate: 60, epoch: 1 }
    );
    store.release(shard(1, 1), token, None).await.unwrap();
    let progress = on(store, at(41)).progress(id).await.unwrap();
    assert_eq!(progress.verdicts, [(Verdict::Unproven, 1)]);
    assert_eq!(progress.awaiting_mail, 1);
    on(store, at(41))
        .unleased_shards(None, MARGIN)
        .await
        .unwrap();
    store.judge_sightings().await.unwrap();
    let settle = Duration::from_secs(60);
    let concluded = on(store, at(42)).conclude(id, settle).await.unwrap();
    assert_eq!(concluded, Some(State::Settling));
}

pub async fn what_workers_complain_of_is_shown_for_a_minute(place: &Place) {
    let store = &place.store;
    let id = submit(&**store, 1, 1).await.campaign;
    let trouble = |worker: &str, cause: &str, seconds| Trouble {
        campaign: id,
        worker: worker.to_owned(),
        vantage: "local".to_owned(),
        cause: cause.to_owned(),
        at: at(seconds),
    };
    let (one, two) = (trouble("w-1", "again", 20), trouble("w-2", "no route", 50));
    for trouble in [&trouble("w-1", "first", 10), &one, &two] {
        store.note_trouble(trouble).await.unwrap();
    }
    let shown = async |seconds| on(store, at(seconds)).progress(id).await.unwrap().troubles;
    assert_eq!(shown(60).await, [one, two.clone()]);
    assert_eq!(shown(100).await, [two]);
    assert_eq!(shown(200).await, []);
}
