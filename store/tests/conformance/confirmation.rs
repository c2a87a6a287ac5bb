use ajar_model::{
    Campaign, CampaignId, Finding, NonceKey, Observation, Reply, Revisits, ShardId, Spec, Verdict,
    campaign::State,
    judge::Doubt,
    lease::Work,
    nonce::{Occasion, Role},
};
use ajar_store::Store;

use crate::support::*;

const ENDPOINT: &str = "10.0.0.1:25";
const CAMPAIGN: u128 = 1;

/// What was seen in a round, with a nonce of that round.
fn seen_in(round: u32, vantage: &str, finished: i64, reply: Reply) -> Observation {
    let first = seen(CAMPAIGN, ENDPOINT, vantage, finished, reply);
    let occasion = Occasion {
        campaign: first.campaign,
        endpoint: first.endpoint,
        vantage,
        round,
    };
    let mut evidence = first.evidence.clone();
    evidence.attempts[0].nonce =
        NonceKey([7; 32]).nonce(&occasion, &first.probe, "plain", Role::Destination);
    Observation {
        visit: round + 1,
        round,
        evidence,
        ..first
    }
}

/// A campaign that confirms after a hundred seconds, one shard of which has found the endpoint open at second 20.
async fn found_open(store: &dyn Store) -> CampaignId {
    let (id, first) = took_a_mail(store).await;
    record(store, &sighting(&first, 20)).await;
    id
}

/// The same before the mail has arrived.
async fn took_a_mail(store: &dyn Store) -> (CampaignId, Observation) {
    let usual = campaign(CAMPAIGN);
    let revisits = Revisits {
        confirm_after_secs: Some(100),
        ..REVISITS
    };
    let campaign = Campaign {
        spec: Spec {
            revisits,
            ..usual.spec
        },
        ..usual
    };
    let blocks = 0..1;
    create(store, &campaign, std::slice::from_ref(&blocks))
        .await
        .unwrap();
    let first = seen_in(0, "north", 10, ACCEPTED);
    close(store, shard(CAMPAIGN, 0), vec![first.clone()]).await;
    (campaign.id, first)
}

async fn planned(store: &dyn Store, seconds: i64) -> Vec<ShardId> {
    let planned = on(store, at(seconds)).plan_revisits(campaign_id(CAMPAIGN), LATELY);
    planned.await.unwrap()
}

async fn work(store: &dyn Store, number: u64) -> (u32, u32, String) {
    match store.work(shard(CAMPAIGN, number)).await.unwrap() {
        Some(Work::Revisit {
            endpoints,
            visit,
            round,
            vantage,
        }) => {
            assert_eq!(endpoints, [ENDPOINT.parse().unwrap()]);
            (visit, round, vantage.unwrap())
        }
        other => panic!("{other:?}"),
    }
}

async fn finding(store: &dyn Store) -> Finding {
    let [finding] = <[Finding; 1]>::try_from(all_findings(store).await).unwrap();
    finding
}

async fn state(store: &dyn Store, seconds: i64) -> State {
    let settle = std::time::Duration::from_secs(60);
    let concluded = on(store, at(seconds)).conclude(campaign_id(CAMPAIGN), settle);
    concluded.await.unwrap().unwrap()
}

pub async fn what_is_open_is_visited_again_and_confirmed(place: &Place) {
    let store = &*place.store;
    found_open(store).await;
    assert_eq!(state(store, 30).await, State::Running);
    assert_eq!(planned(store, 119).await, []);
    assert_eq!(planned(store, 120).await, [shard(CAMPAIGN, 1)]);
    assert_eq!(work(store, 1).await, (2, 1, "north".to_owned()));
    assert_eq!(finding(store).await.confirmation, None);
    assert_eq!(planned(store, 1000).await, []);

    let again = seen_in(1, "north", 130, ACCEPTED);
    close(store, shard(CAMPAIGN, 1), vec![again.clone()]).await;
    // The second mail is still under way.
    assert_eq!(finding(store).await.verdict, Verdict::Unproven);
    assert_eq!(finding(store).await.doubt, Some(Doubt::NotAgain));
    assert_eq!(state(store, 30).await, State::Settling);
    record(store, &sighting(&again, 140)).await;
    let confirmed = finding(store).await;
    assert_eq!(confirmed.verdict, Verdict::Open);
    assert_eq!(confirmed.proof.unwrap().received_at, at(20));
    let confirmation = confirmed.confirmation.unwrap();
    assert_eq!(confirmation.proof.received_at, at(140));
    assert_eq!(confirmation.proof.nonce, nonce(&again));
    assert_eq!(planned(store, 5000).await, []);
    assert_eq!(state(store, 5000).await, State::Finished);
}

pub async fn what_is_open_once_only_is_not_called_open(place: &Place) {
    let store = &*place.store;
    found_open(store).await;
    let progress = store.progress(campaign_id(CAMPAIGN)).await.unwrap();
    assert_eq!(progress.open_endpoints, 1);
    planned(store, 120).await;
    close(
        store,
        shard(CAMPAIGN, 1),
        vec![seen_in(1, "north", 130, REFUSED)],
    )
    .await;
    let denied = finding(store).await;
    let progress = store.progress(campaign_id(CAMPAIGN)).await.unwrap();
    assert_eq!(progress.open_endpoints, 0, "it is taken back");
    assert_eq!(denied.verdict, Verdict::Unproven);
    assert_eq!(denied.doubt, Some(Doubt::NotAgain));
    assert_eq!((denied.proof, denied.exposure), (None, None));
    assert_eq!(state(store, 5000).await, State::Finished);
}

async fn workers_in_north_and_south(store: &dyn Store) {
    let workers = [("a", "north"), ("b", "south")];
    let workers = workers.map(|(worker, vantage)| (worker.to_owned(), vantage.to_owned()));
    let seen = on(store, at(100)).seen_workers(&workers.into()).await;
    seen.unwrap();
}

pub async fn another_vantage_point_is_asked_too_if_there_is_one(place: &Place) {
    let store = &*place.store;
    found_open(store).await;
    workers_in_north_and_south(store).await;
    let shards = planned(store, 120).await;
    assert_eq!(shards, [shard(CAMPAIGN, 1), shard(CAMPAIGN, 2)]);
    assert_eq!(work(store, 1).await, (2, 1, "north".to_owned()));
    assert_eq!(work(store, 2).await, (2, 1, "south".to_owned()));
    let south = seen_in(1, "south", 130, ACCEPTED);
    close(
        store,
        shard(CAMPAIGN, 1),
        vec![seen_in(1, "north", 130, LATER)],
    )
    .await;
    close(store, shard(CAMPAIGN, 2), vec![south.clone()]).await;
    record(store, &sighting(&south, 140)).await;
    let confirmed = finding(store).await;
    assert_eq!(confirmed.confirmation.unwrap().vantage, "south");
}

pub async fn whoever_puts_us_off_then_is_asked_in_the_same_round(place: &Place) {
    let store = &*place.store;
    found_open(store).await;
    planned(store, 120).await;
    close(
        store,
        shard(CAMPAIGN, 1),
        vec![seen_in(1, "north", 130, LATER)],
    )
    .await;
    assert_eq!(finding(store).await.verdict, Verdict::Open);
    // As long as after a first visit.
    assert_eq!(planned(store, 159).await, []);
    assert_eq!(planned(store, 160).await, [shard(CAMPAIGN, 2)]);
    assert_eq!(work(store, 2).await, (3, 1, "north".to_owned()));
    let let_in = Observation {
        visit: 3,
        ..seen_in(1, "north", 170, ACCEPTED)
    };
    close(store, shard(CAMPAIGN, 2), vec![let_in.clone()]).await;
    record(store, &sighting(&let_in, 180)).await;
    assert!(finding(store).await.confirmation.is_some());
}

pub async fn a_round_that_another_vantage_point_made_is_over(place: &Place) {
    let store = &*place.store;
    found_open(store).await;
    planned(store, 120).await;
    // The worker in the north is dead: one in the south runs its shard, under its own name.
    let south = seen_in(1, "south", 130, ACCEPTED);
    close(store, shard(CAMPAIGN, 1), vec![south.clone()]).await;
    assert_eq!(planned(store, 5000).await, []);
    record(store, &sighting(&south, 140)).await;
    assert_eq!(planned(store, 5000).await, []);
    let confirmation = finding(store).await.confirmation.unwrap();
    assert_eq!(confirmation.vantage, "south");
    assert_eq!(state(store, 5000).await, State::Finished);
}

pub async fn a_report_from_elsewhere_plans_no_round_twice(place: &Place) {
    let store = &*place.store;
    found_open(store).await;
    workers_in_north_and_south(store).await;
    assert_eq!(planned(store, 120).await.len(), 2);
    let south = vec![seen_in(1, "south", 130, ACCEPTED)];
    close(store, shard(CAMPAIGN, 2), south).await;
    // The shard of the north is still open.
    assert_eq!(planned(store, 5000).await, []);
}

pub async fn a_mail_after_the_end_is_to_be_confirmed_too(place: &Place) {
    let store = &*place.store;
    let (id, first) = took_a_mail(store).await;
    assert_eq!(state(store, 5000).await, State::Finished);
    assert_eq!(store.unconfirmed().await.unwrap(), []);
    record(store, &sighting(&first, 6000)).await;
    assert_eq!(store.unconfirmed().await.unwrap(), [id]);
    // As the coordinator does, if the authorization still holds.
    set_state(store, id, State::Settling).await;
    assert_eq!(state(store, 6001).await, State::Running);
    assert_eq!(planned(store, 6100).await, [shard(CAMPAIGN, 1)]);
    let again = seen_in(1, "north", 6110, ACCEPTED);
    close(store, shard(CAMPAIGN, 1), vec![again.clone()]).await;
    record(store, &sighting(&again, 6120)).await;
    assert!(finding(store).await.confirmation.is_some());
    assert_eq!(state(store, 9000).await, State::Finished);
    assert_eq!(store.unconfirmed().await.unwrap(), []);
    let log = audit_links(store).await;
    let actions: Vec<_> = log.into_iter().map(|link| link.entry.action).collect();
    let by_itself = actions.iter().filter(|action| *action != "campaign.test");
    let expect = ["campaign.end", "campaign.go-on", "campaign.end"];
    assert_eq!(by_itself.collect::<Vec<_>>(), expect);
}

pub async fn a_mail_that_comes_a_month_later_proves_nothing(place: &Place) {
    const MONTH: i64 = 30 * 24 * 3600;
    let store = &*place.store;
    let (_, first) = took_a_mail(store).await;
    record(store, &sighting(&first, MONTH + 11)).await;
    assert_eq!(finding(store).await.verdict, Verdict::Unproven);
    record(store, &sighting(&first, MONTH + 10)).await;
    assert_eq!(finding(store).await.verdict, Verdict::Open);
}
