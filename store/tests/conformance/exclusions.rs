use ajar_model::Target;
use ajar_store::{Exclusion, ExclusionQuery, Grant, Renewal, Renewed, Store};

use crate::support::*;

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

/// An exclusion of one range, for one tenant or for all.
fn exclusion(id: &str, tenant: Option<&str>, of: &str) -> Exclusion {
    Exclusion {
        id: id.to_owned(),
        tenant: tenant.map(str::to_owned),
        target: target(of),
        reason: "the owner asked for it".to_owned(),
        by: "alice".to_owned(),
        created_at: at(0),
        expires_at: None,
        removed_at: None,
    }
}

async fn exclude(store: &dyn Store, exclusion: &Exclusion) {
    let only = std::slice::from_ref(exclusion);
    store.exclude(only, &entry(&exclusion.id)).await.unwrap();
}

/// What is excluded for the tenant acme, and the epoch.
async fn excluded(store: &dyn Store) -> (u64, Vec<Target>) {
    let excluded = store.excluded("acme").await.unwrap();
    (excluded.epoch, excluded.targets)
}

pub async fn leases_carry_the_epoch_of_what_is_excluded(place: &Place) {
    let store = &*place.store;
    let shard = submit(store, 1, 1).await;
    let granted = store.grant(&request(shard, at(0))).await.unwrap();
    let Grant::Granted { token, epoch, .. } = granted else {
        panic!("{granted:?}");
    };
    assert_eq!(epoch, 1);
    let renewal = Renewal {
        shard,
        token,
        number: 0,
        rate: WANT,
        want_rate: WANT,
        caps: CAPS,
        ttl: TTL,
        margin: MARGIN,
    };
    let epoch = async || match renewed(store, &renewal).await {
        Renewed::Kept { epoch, .. } => epoch,
        other => panic!("{other:?}"),
    };
    assert_eq!(epoch().await, 1);
    exclude(store, &exclusion("A", None, "10.0.4.0/24")).await;
    assert_eq!(epoch().await, 2);
    assert_eq!(excluded(store).await, (2, vec![target("10.0.4.0/24")]));
    let removed = store.include("A", None, &entry("remove")).await.unwrap();
    assert!(removed);
    assert_eq!(epoch().await, 3);
    assert_eq!(excluded(store).await, (3, vec![]));
    let again = store.include("A", None, &entry("again")).await.unwrap();
    assert!(!again, "it is over");
    assert_eq!(epoch().await, 3);
    let details: Vec<_> = audit_log(store)
        .await
        .into_iter()
        .map(|e| e.detail)
        .collect();
    assert_eq!(details, ["create", "A", "remove"]);
}

pub async fn an_exclusion_holds_for_its_tenant_or_for_all(place: &Place) {
    let store = &*place.store;
    let site = exclusion("A", None, "10.0.1.0/24");
    let ours = exclusion("B", Some("acme"), "2001:db8::/64");
    let theirs = exclusion("C", Some("other"), "10.0.3.1-10.0.3.9");
    for one in [&site, &ours, &theirs] {
        exclude(store, one).await;
    }
    let (_, of_acme) = excluded(store).await;
    assert_eq!(of_acme, [site.target, ours.target]);
    let of_other = store.excluded("other").await.unwrap().targets;
    assert_eq!(of_other, [site.target, theirs.target]);
    let acme = ["acme".to_owned()];
    let listed = async |all, after: Option<&str>| {
        let query = ExclusionQuery {
            tenants: Some(acme.to_vec()),
            all,
            after: after.map(str::to_owned),
            limit: 10,
        };
        store.exclusions(&query).await.unwrap()
    };
    assert_eq!(listed(false, None).await, [ours.clone(), site.clone()]);
    assert_eq!(listed(false, Some("B")).await, std::slice::from_ref(&site));
    // Who acts for one tenant takes back that tenant's alone.
    for id in ["A", "C"] {
        let removed = store.include(id, Some(&acme), &entry("no")).await;
        assert!(!removed.unwrap(), "{id}");
    }
    let yes = entry("yes");
    let removed = on(store, at(9)).include("B", Some(&acme), &yes).await;
    assert!(removed.unwrap());
    assert_eq!(listed(false, None).await, std::slice::from_ref(&site));
    let over = Exclusion {
        removed_at: Some(at(9)),
        ..ours
    };
    assert_eq!(listed(true, None).await, [over, site]);
}

pub async fn an_exclusion_ends_when_its_time_is_over(place: &Place) {
    let store = &*place.store;
    let short = Exclusion {
        expires_at: Some(at(100)),
        ..exclusion("A", None, "10.0.1.0/24")
    };
    exclude(store, &short).await;
    assert_eq!(on(store, at(99)).end_exclusions().await.unwrap(), 0);
    assert_eq!(excluded(store).await, (2, vec![short.target]));
    assert_eq!(on(store, at(100)).end_exclusions().await.unwrap(), 1);
    assert_eq!(excluded(store).await, (3, vec![]));
    assert_eq!(store.end_exclusions().await.unwrap(), 0);
}

pub async fn what_is_excluded_is_not_visited_again(place: &Place) {
    let store = &*place.store;
    let put_off = |endpoint| observation(1, endpoint, LATER);
    let observations = vec![put_off("10.0.0.1:25"), put_off("10.0.1.1:25")];
    submit(store, 1, 1).await;
    close(store, shard(1, 0), observations).await;
    exclude(store, &exclusion("A", Some("acme"), "10.0.1.0/24")).await;
    let planned = on(store, at(40)).plan_revisits(campaign_id(1), LATELY);
    assert_eq!(planned.await.unwrap(), [shard(1, 1)]);
    let work = store.work(shard(1, 1)).await.unwrap();
    let Some(ajar_model::lease::Work::Revisit { endpoints, .. }) = work else {
        panic!("{work:?}");
    };
    assert_eq!(endpoints, ["10.0.0.1:25".parse().unwrap()]);
    let progress = store.progress(campaign_id(1)).await.unwrap();
    assert_eq!(progress.awaiting_revisit, 0);
}
