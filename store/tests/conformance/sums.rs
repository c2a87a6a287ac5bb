use ajar_model::campaign::State;
use ajar_store::{
    Admission, Caps, Demand, Error, Grant, GrantRequest, Registered, Renewal, Renewed,
};

use crate::support::*;

pub async fn many_leases_are_renewed_at_once(place: &Place) {
    let store = &place.store;
    submit(&**store, 1, 4).await;
    submit(&**store, 2, 2).await;
    let first = token(&**store, shard(1, 0), at(0)).await;
    let second = token(&**store, shard(1, 1), at(0)).await;
    let elsewhere = token(&**store, shard(2, 0), at(0)).await;
    let mut wanted = [
        renewal(shard(2, 0), elsewhere, at(10)),
        renewal(shard(1, 1), second, at(10)),
        renewal(shard(1, 1), first, at(10)),
        renewal(shard(1, 3), first, at(10)),
        renewal(shard(1, 0), first, at(10)),
    ];
    wanted[0].want_rate = CAP;
    wanted[1].want_rate = CAP;
    (wanted[4].rate, wanted[4].want_rate) = (4, 4);
    let renewed = store.renew(&wanted).await.unwrap();
    let kept = |rate| Renewed::Kept { rate, epoch: 1 };
    let fenced = Renewed::Fenced;
    assert_eq!(renewed, [kept(CAP), kept(90), fenced, fenced, kept(4)]);
    assert_eq!(place.wrong_sums().await, 0);
    // What the first gave back is the other's at the next renewal.
    (wanted[0].rate, wanted[1].rate) = (CAP, 90);
    let renewed = store.renew(&wanted).await.unwrap();
    assert_eq!(renewed, [kept(CAP), kept(96), fenced, fenced, kept(4)]);
    assert_eq!(store.renew(&[]).await.unwrap(), []);
    // All of them were extended: none is over by the end that it had at first.
    now_is(at(39));
    assert_eq!(store.end_leases(MARGIN).await.unwrap(), 0);
    now_is(at(46));
    assert_eq!(store.end_leases(MARGIN).await.unwrap(), 3);
    assert_eq!(place.wrong_sums().await, 0);
}

pub async fn a_renewal_that_was_held_up_moves_no_rate(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let renew = async |number, rate, want_rate| {
        let renewal = Renewal {
            number,
            rate,
            want_rate,
            ..renewal(shard, token, at(10))
        };
        renewed(&**store, &renewal).await
    };
    let kept = |rate| Renewed::Kept { rate, epoch: 1 };
    assert_eq!(renew(2, 10, 50).await, kept(50));
    // Its worker gave this one up and obeys the answer to the later one.
    assert_eq!(renew(1, 10, 20).await, kept(50));
    assert_eq!(
        place.number("SELECT CAST(rate AS bigint) FROM rates").await,
        50
    );
    assert_eq!(renew(3, 50, 20).await, kept(20));
}

pub async fn what_is_over_is_ended_and_its_rate_is_free(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 3).await;
    token(&**store, shard, at(0)).await;
    token(&**store, crate::support::shard(1, 1), at(10)).await;
    assert_eq!(place.wrong_sums().await, 0);
    now_is(at(34));
    assert_eq!(store.end_leases(MARGIN).await.unwrap(), 0);
    now_is(at(35));
    assert_eq!(store.end_leases(MARGIN).await.unwrap(), 1);
    let rate = "SELECT CAST(rate AS bigint) FROM rates WHERE leases > 0";
    assert_eq!(place.number(rate).await, i64::from(WANT));
    assert_eq!(place.wrong_sums().await, 0);
    let progress = store.progress(shard.campaign).await.unwrap();
    assert_eq!((progress.leased, progress.rate), (1, u64::from(WANT)));
}

pub async fn demands_tell_what_campaigns_have_and_could_use(place: &Place) {
    let store = &place.store;
    let first = submit(&**store, 1, 3).await;
    let second = submit(&**store, 2, 1).await;
    token(&**store, first, at(0)).await;
    close(&**store, second, vec![observation(2, "10.2.0.1:25", LATER)]).await;
    let demands = async |only, most| store.demands(only, most).await.unwrap();
    let expect = [
        Demand {
            campaign: first.campaign,
            rate: WANT.into(),
            leases: 1,
            open: 3,
            revisit_waits: false,
        },
        Demand {
            campaign: second.campaign,
            rate: 0,
            leases: 0,
            open: 0,
            revisit_waits: false,
        },
    ];
    assert_eq!(demands(None, 9).await, expect);
    assert_eq!(demands(Some(second.campaign), 9).await, expect[1..]);
    assert_eq!(demands(None, 2).await[0].open, 2);
    // A planned visit waits for a lease.
    now_is(at(40));
    let planned = store.plan_revisits(second.campaign, LATELY).await.unwrap();
    let waits = Demand {
        open: 1,
        revisit_waits: true,
        ..expect[1]
    };
    assert_eq!(demands(Some(second.campaign), 9).await, [waits]);
    token_of(&**store, planned[0], at(40), 1).await;
    let visited = Demand {
        rate: WANT.into(),
        leases: 1,
        revisit_waits: false,
        ..waits
    };
    assert_eq!(demands(Some(second.campaign), 9).await, [visited]);
    set_state(&**store, first.campaign, State::Paused).await;
    assert_eq!(demands(Some(first.campaign), 9).await, []);
}

pub async fn concurrent_leases_keep_sums_and_caps(place: &Place) {
    const CAMPAIGNS: u128 = 4;
    const SHARDS: u64 = 6;
    let registered = Registered {
        id: "A-1".to_owned(),
        digest: [1; 32],
    };
    let ranges: Vec<_> = (0..SHARDS).map(|block| block..block + 1).collect();
    for number in 0..CAMPAIGNS {
        let admission = Admission {
            campaign: &campaign(number),
            shards: &ranges,
            pairs: 0,
            authorization: Some(&registered),
            audit: &entry("create"),
        };
        place.store.create_campaign(&admission).await.unwrap();
    }
    let caps = Caps {
        campaign: 60,
        authorization: Some(100),
        site: Some(90),
    };
    let shards = (0..CAMPAIGNS).flat_map(|campaign| (0..SHARDS).map(move |n| shard(campaign, n)));
    let tasks: Vec<_> = shards
        .map(|shard| {
            let store = place.store.clone();
            // The same numbers of all campaigns contend.
            let request = GrantRequest {
                want_rate: 20,
                blocks: vec![block(&format!("10.0.{}.0/24", shard.number))],
                caps,
                ..request(shard, at(0))
            };
            let mut wanted = renewal(shard, 0, at(0));
            wanted.caps = caps;
            tokio::spawn(async move {
                for round in 0..8 {
                    let Grant::Granted { token, .. } = store.grant(&request).await? else {
                        continue;
                    };
                    wanted.token = token;
                    for (rate, want) in [(20, 40), (40, 1), (1, 15 + round)] {
                        (wanted.rate, wanted.want_rate) = (rate, want);
                        let renewed = store.renew(std::slice::from_ref(&wanted)).await?;
                        assert!(matches!(renewed[..], [Renewed::Kept { .. }]), "{renewed:?}");
                    }
                    store.end_leases(MARGIN).await?;
                    if round < 7 {
                        store.release(shard, token, None).await?;
                    }
                }
                Ok::<(), Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(place.wrong_sums().await, 0);
    let site = "SELECT CAST(sum(rate) AS bigint) FROM leases";
    let granted = place.number(site).await;
    assert!(0 < granted && granted <= 90, "{granted}");
    let most = "SELECT CAST(max(rate) AS bigint) FROM rates";
    assert!(place.number(most).await <= 60);
}
