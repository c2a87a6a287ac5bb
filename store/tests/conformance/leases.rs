use std::collections::{HashMap, HashSet};

use ajar_model::{Campaign, campaign::State};
use ajar_store::{
    Admission, Batch, Caps, Grant, GrantRequest, Holder, Registered, Renewal, Renewed,
};
use ipnet::IpNet;

use crate::support::*;

pub async fn a_shard_is_granted_again_only_after_ttl_and_margin(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let grant = async |seconds| store.grant(&request(shard, at(seconds))).await.unwrap();
    let Grant::Granted {
        token: first,
        cursor: 0,
        end: TARGETS,
        rate: WANT,
        attempt: 1,
        epoch: 1,
    } = grant(0).await
    else {
        panic!("not granted as asked");
    };
    assert_eq!(grant(0).await, Grant::Leased);
    assert_eq!(grant(34).await, Grant::Leased);
    let Grant::Granted { token, attempt, .. } = grant(35).await else {
        panic!("not granted after its end");
    };
    assert!(token > first);
    assert_eq!(attempt, 2);
    // Whose a token was is known for good, and a token is of one shard.
    let holder = async |shard, token| store.holder(shard, token).await.unwrap();
    for (issued, seconds) in [(first, 0), (token, 35)] {
        let GrantRequest { owner, vantage, .. } = request(shard, at(0));
        let expect = Holder {
            owner,
            vantage: Some(vantage),
            issued_at: at(seconds),
        };
        assert_eq!(holder(shard, issued).await, Some(expect));
        assert_eq!(holder(crate::support::shard(1, 9), issued).await, None);
    }
    assert_eq!(holder(shard, token + 1).await, None);
    assert_eq!(holder(shard, u64::MAX).await, None);
    let unknown = request(crate::support::shard(1, 9), at(0));
    assert_eq!(store.grant(&unknown).await.unwrap(), Grant::NotOpen);
}

pub async fn a_block_is_in_one_live_lease_over_all_campaigns(place: &Place) {
    let store = &place.store;
    submit(&**store, 1, 2).await;
    submit(&**store, 2, 1).await;
    let touching = |shard, blocks: &[&str], seconds| GrantRequest {
        blocks: blocks.iter().map(|b| block(b)).collect(),
        ..request(shard, at(seconds))
    };
    let grant = async |request| store.grant(&request).await.unwrap();
    let one = &["192.0.2.0/24", "2001:db8::/64"];
    assert!(is_granted(&grant(touching(shard(1, 0), one, 0)).await));
    let other = &["198.51.100.0/24", "2001:db8::/64"];
    for shard in [shard(1, 1), shard(2, 0)] {
        let refused = grant(touching(shard, other, 34)).await;
        assert_eq!(refused, Grant::BlocksBusy, "{shard}");
    }
    assert!(is_granted(&grant(touching(shard(2, 0), other, 35)).await));
    let unaligned = &["198.51.100.77/24"];
    let refused = grant(touching(shard(1, 1), unaligned, 36)).await;
    assert_eq!(refused, Grant::BlocksBusy);
    let free = &["203.0.113.0/24", "203.0.113.0/24"];
    assert!(is_granted(&grant(touching(shard(1, 1), free, 36)).await));
}

pub async fn the_rates_of_live_leases_never_exceed_the_cap(place: &Place) {
    let store = &place.store;
    submit(&**store, 1, 3).await;
    submit(&**store, 2, 1).await;
    let grant = async |shard, want_rate, seconds| {
        let request = GrantRequest {
            want_rate,
            ..request(shard, at(seconds))
        };
        match store.grant(&request).await.unwrap() {
            Grant::Granted { rate, .. } => rate,
            Grant::NoRate => 0,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(grant(shard(1, 0), 70, 0).await, 70);
    assert_eq!(grant(shard(1, 1), 70, 10).await, 30);
    assert_eq!(grant(shard(1, 2), 70, 10).await, 0);
    assert_eq!(grant(shard(2, 0), 70, 10).await, 70);
    // Its own dead lease is not counted, the other's live one is.
    assert_eq!(grant(shard(1, 0), 200, 35).await, 70);
    assert_eq!(grant(shard(1, 2), 0, 45).await, 1);
}

pub async fn a_renewal_moves_the_rate_as_far_as_the_caps_let_it(place: &Place) {
    let store = &place.store;
    submit(&**store, 1, 2).await;
    let first = token(&**store, shard(1, 0), at(0)).await;
    let second = token(&**store, shard(1, 1), at(0)).await;
    let renew = async |shard, token, rate, want_rate, campaign| {
        let renewal = Renewal {
            rate,
            want_rate,
            caps: Caps { campaign, ..CAPS },
            ..renewal(shard, token, at(10))
        };
        renewed(&**store, &renewal).await
    };
    let kept = |rate| Renewed::Kept { rate, epoch: 1 };
    assert_eq!(renew(shard(1, 0), first, 10, 60, CAP).await, kept(60));
    assert_eq!(renew(shard(1, 1), second, 10, 60, CAP).await, kept(40));
    // The other gets what the first gives back, but only after its worker has slowed down.
    assert_eq!(renew(shard(1, 0), first, 60, 20, CAP).await, kept(20));
    assert_eq!(renew(shard(1, 1), second, 40, 200, CAP).await, kept(40));
    assert_eq!(renew(shard(1, 0), first, 20, 20, CAP).await, kept(20));
    assert_eq!(renew(shard(1, 1), second, 40, 200, CAP).await, kept(80));
    // Its worker never heard of the last answer.
    assert_eq!(renew(shard(1, 1), second, 40, 40, CAP).await, kept(40));
    // A lower cap takes nothing back by itself, and gives nothing more.
    assert_eq!(renew(shard(1, 1), second, 40, 200, 50).await, kept(40));
    assert_eq!(renew(shard(1, 0), first, 0, 0, 50).await, kept(1));
    assert_eq!(renew(shard(1, 1), second, 40, 200, 50).await, kept(49));
    assert_eq!(place.wrong_sums().await, 0);
}

pub async fn the_caps_of_authorization_and_site_are_over_all_campaigns(place: &Place) {
    let store = &place.store;
    let registered = Registered {
        id: "A-1".to_owned(),
        digest: [1; 32],
    };
    for number in [1, 2] {
        let admission = Admission {
            campaign: &campaign(number),
            shards: &[0..1, 1..2],
            pairs: 0,
            authorization: Some(&registered),
            audit: &entry("create"),
        };
        store.create_campaign(&admission).await.unwrap();
    }
    submit(&**store, 3, 1).await;
    let caps = Caps {
        campaign: CAP,
        authorization: Some(120),
        site: Some(150),
    };
    let granted = async |shard, caps: Caps| {
        let request = GrantRequest {
            want_rate: 100,
            caps,
            ..request(shard, at(0))
        };
        match store.grant(&request).await.unwrap() {
            Grant::Granted { token, rate, .. } => (token, rate),
            Grant::NoRate => (0, 0),
            other => panic!("{other:?}"),
        }
    };
    let (token, rate) = granted(shard(1, 0), caps).await;
    assert_eq!(rate, 100);
    assert_eq!(granted(shard(2, 0), caps).await.1, 20);
    assert_eq!(granted(shard(2, 1), caps).await.1, 0);
    let alone = Caps {
        authorization: None,
        ..caps
    };
    assert_eq!(granted(shard(3, 0), alone).await.1, 30);
    let slower = Renewal {
        rate: 10,
        want_rate: 10,
        caps,
        ..renewal(shard(1, 0), token, at(1))
    };
    renewed(&**store, &slower).await;
    assert_eq!(granted(shard(2, 1), caps).await.1, 80);
}

pub async fn a_renewal_is_refused_to_stale_tokens_and_stopped_campaigns(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let stale = token_of(&**store, shard, at(0), 3).await;
    let current = token_of(&**store, shard, at(40), 3).await;
    let renew = async |token| renewed(&**store, &renewal(shard, token, at(50))).await;
    assert_eq!(renew(stale).await, Renewed::Fenced);
    assert_eq!(
        renew(current).await,
        Renewed::Kept {
            rate: WANT,
            epoch: 1
        }
    );
    let id = shard.campaign;
    set_state(&**store, id, State::Paused).await;
    assert_eq!(renew(current).await, Renewed::Stopped);
    assert_eq!(renew(stale).await, Renewed::Fenced);
    let paused = store.grant(&request(shard, at(500))).await.unwrap();
    assert_eq!(paused, Grant::NotOpen);
    set_state(&**store, id, State::Running).await;
    let last = Batch {
        progress: Some(advance(0, 3, true)),
        ..batch(shard, current, vec![])
    };
    store.ingest(&last).await.unwrap();
    assert_eq!(renew(current).await, Renewed::Fenced);
    let closed = store.grant(&request(shard, at(500))).await.unwrap();
    assert_eq!(closed, Grant::NotOpen);
}

pub async fn a_dead_lease_cannot_be_renewed(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let renew = async |seconds| renewed(&**store, &renewal(shard, token, at(seconds))).await;
    assert_eq!(
        renew(34).await,
        Renewed::Kept {
            rate: WANT,
            epoch: 1
        }
    );
    // Delivered late: the renewal after it stands.
    assert_eq!(
        renew(10).await,
        Renewed::Kept {
            rate: WANT,
            epoch: 1
        }
    );
    assert_eq!(
        renew(68).await,
        Renewed::Kept {
            rate: WANT,
            epoch: 1
        }
    );
    assert_eq!(renew(68 + 35).await, Renewed::Fenced);
}

pub async fn a_shard_whose_block_was_taken_over_is_not_revived(place: &Place) {
    let store = &place.store;
    submit(&**store, 1, 1).await;
    submit(&**store, 2, 1).await;
    let same = |shard, seconds| GrantRequest {
        blocks: vec![block("192.0.2.0/24")],
        ..request(shard, at(seconds))
    };
    let Grant::Granted { token, .. } = store.grant(&same(shard(1, 0), 0)).await.unwrap() else {
        panic!("not granted");
    };
    let taken = store.grant(&same(shard(2, 0), 40)).await.unwrap();
    assert!(is_granted(&taken));
    // A coordinator whose clock is behind still takes the first lease for live.
    let late = renewed(&**store, &renewal(shard(1, 0), token, at(20))).await;
    assert_eq!(late, Renewed::Fenced);
    let report = Batch {
        progress: Some(advance(0, 3, false)),
        ..batch(shard(1, 0), token, vec![])
    };
    assert!(!store.ingest(&report).await.unwrap().stale);
    let again = store.grant(&same(shard(1, 0), 50)).await.unwrap();
    assert_eq!(again, Grant::BlocksBusy);
}

pub async fn a_released_shard_is_free_at_once_and_keeps_its_cursor(place: &Place) {
    let store = &place.store;
    submit(&**store, 1, 1).await;
    submit(&**store, 2, 1).await;
    let held = token(&**store, shard(1, 0), at(0)).await;
    let report = Batch {
        progress: Some(advance(0, 3, false)),
        ..batch(shard(1, 0), held, vec![])
    };
    store.ingest(&report).await.unwrap();
    store.release(shard(1, 0), held + 1, None).await.unwrap();
    store.release(shard(1, 9), held, None).await.unwrap();
    let still = store.grant(&request(shard(1, 0), at(1))).await.unwrap();
    assert_eq!(still, Grant::Leased);
    store
        .release(shard(1, 0), held, Some("it broke"))
        .await
        .unwrap();
    let over = renewed(&**store, &renewal(shard(1, 0), held, at(2))).await;
    assert_eq!(over, Renewed::Fenced);
    let block_is_free = GrantRequest {
        blocks: request(shard(1, 0), at(2)).blocks,
        ..request(shard(2, 0), at(2))
    };
    assert!(is_granted(&store.grant(&block_is_free).await.unwrap()));
    let elsewhere = GrantRequest {
        blocks: vec![],
        ..request(shard(1, 0), at(2))
    };
    let again = store.grant(&elsewhere).await.unwrap();
    assert!(matches!(
        again,
        Grant::Granted {
            cursor: 3,
            attempt: 1,
            epoch: 1,
            ..
        }
    ));
}

pub async fn the_leases_of_local_campaigns_can_be_ended_at_once(place: &Place) {
    let store = &place.store;
    let local = Campaign {
        local: true,
        ..campaign(1)
    };
    create(&**store, &local, &[0..1, 1..2]).await.unwrap();
    submit(&**store, 2, 1).await;
    let orphan = token(&**store, shard(1, 0), at(0)).await;
    token(&**store, shard(1, 1), at(0)).await;
    token(&**store, shard(2, 0), at(0)).await;
    store.end_local_leases().await.unwrap();
    let unleased = |only| on(store, at(0)).unleased_shards(only, MARGIN);
    assert_eq!(unleased(Some(local.id)).await.unwrap().len(), 2);
    assert_eq!(unleased(None).await.unwrap(), []);
    let report = Batch {
        progress: Some(advance(0, 3, false)),
        ..batch(shard(1, 0), orphan, vec![])
    };
    assert!(store.ingest(&report).await.unwrap().stale);
    assert!(token(&**store, shard(1, 0), at(1)).await > orphan);
}

pub async fn concurrent_grants_share_no_block_and_keep_the_cap(place: &Place) {
    const CAMPAIGNS: u128 = 3;
    const SHARDS: u64 = 8;
    for number in 0..CAMPAIGNS {
        submit(&*place.store, number, SHARDS).await;
    }
    let tasks = (0..CAMPAIGNS).flat_map(|campaign| (0..SHARDS).map(move |n| shard(campaign, n)));
    let tasks: Vec<_> = tasks
        .chain((0..CAMPAIGNS).map(|campaign| shard(campaign, 0)))
        .map(|shard| {
            let store = place.store.clone();
            // Neighbours and the same numbers of all campaigns contend.
            let blocks = [shard.number, shard.number + 1].map(|n| block(&format!("10.0.{n}.0/24")));
            let request = GrantRequest {
                want_rate: 40,
                blocks: blocks.to_vec(),
                ..request(shard, at(0))
            };
            tokio::spawn(async move { (request.clone(), store.grant(&request).await.unwrap()) })
        })
        .collect();
    let mut granted = Vec::new();
    for task in tasks {
        let (request, grant) = task.await.unwrap();
        if let Grant::Granted { token, rate, .. } = grant {
            granted.push((request, token, rate));
        }
    }
    assert!(granted.len() > 1, "{granted:?}");
    let mut blocks: HashSet<IpNet> = HashSet::new();
    let mut rates: HashMap<_, u32> = HashMap::new();
    let mut tokens = HashSet::new();
    for (request, token, rate) in &granted {
        assert!(request.blocks.iter().all(|block| blocks.insert(*block)));
        assert!(tokens.insert(*token), "token {token} twice");
        *rates.entry(request.shard.campaign).or_default() += rate;
    }
    assert!(rates.values().all(|rate| *rate <= CAP), "{rates:?}");
    let last = tokens.into_iter().max().unwrap();
    assert!(token(&*place.store, shard(0, 0), at(100)).await > last);
}

fn is_granted(grant: &Grant) -> bool {
    matches!(grant, Grant::Granted { .. })
}
