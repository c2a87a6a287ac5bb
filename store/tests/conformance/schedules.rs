use ajar_model::{Schedule, Spec, campaign::State, schedule::Times};
use ajar_store::{
    Admission, Error, Hold, ListedSchedule, Outcome, Ran, Registered, Run, ScheduleKey,
    ScheduleQuery,
};

use crate::support::*;

fn schedule(name: &str, cron: &str) -> Schedule {
    Schedule {
        name: name.parse().unwrap(),
        times: Times::new(cron, "Europe/Berlin").unwrap(),
        spec: campaign(1).spec,
        created_at: at(0),
        paused: false,
        handled: at(0),
    }
}

async fn put(place: &Place, schedule: &Schedule) {
    let put = place.store.put_schedule(schedule, &entry("put")).await;
    put.unwrap();
}

/// Starts a campaign of this number, at this second.
async fn run(place: &Place, schedule: &Schedule, second: i64, number: u128) -> Option<Outcome> {
    let admission = Admission {
        campaign: &campaign(number),
        shards: &[0..4, 4..8],
        pairs: 0,
        authorization: None,
        audit: &entry("start"),
    };
    let run = Run {
        key: &ScheduleKey::of(schedule),
        at: at(second),
        handled: at(second),
        campaign: Ok(&admission),
        skipped: &entry("skip"),
    };
    place.store.run_scheduled(&run).await.unwrap()
}

/// Every schedule, and what became of its last time.
async fn schedules(place: &Place) -> Vec<(Schedule, Option<Ran>)> {
    let listed = place.store.schedules(&ScheduleQuery::default()).await;
    let listed = listed.unwrap().into_iter();
    listed
        .map(|ListedSchedule { schedule, last, .. }| (schedule.unwrap(), last))
        .collect()
}

async fn count(place: &Place) -> usize {
    campaigns(&*place.store).await.len()
}

pub async fn schedules_are_kept_by_name(place: &Place) {
    let store = &place.store;
    let (weekly, daily) = (
        schedule("weekly", "0 3 * * 1"),
        schedule("daily", "0 3 * * *"),
    );
    put(place, &weekly).await;
    put(place, &daily).await;
    let listed = schedules(place).await;
    assert_eq!(listed, [(daily, None), (weekly.clone(), None)]);
    // Another one of the name takes its place, and is paused if it was.
    let hold = Hold {
        key: &ScheduleKey::of(&weekly),
        paused: true,
        now: at(3),
        audit: &entry("hold"),
    };
    assert!(store.hold_schedule(&hold).await.unwrap());
    let other = Schedule {
        created_at: at(5),
        handled: at(5),
        ..schedule("weekly", "0 4 * * 2")
    };
    put(place, &other).await;
    let expect = Schedule {
        created_at: at(0),
        paused: true,
        ..other.clone()
    };
    assert_eq!(schedules(place).await[1], (expect, None));
    for expect in [true, false] {
        let removed = store
            .remove_schedule(&ScheduleKey::of(&weekly), &entry("remove"))
            .await;
        assert_eq!(removed.unwrap(), expect);
    }
    assert!(!store.hold_schedule(&hold).await.unwrap());
    assert_eq!(schedules(place).await.len(), 1);
    let details: Vec<_> = audit_log(&**store)
        .await
        .into_iter()
        .map(|e| e.detail)
        .collect();
    assert_eq!(details, ["put", "put", "hold", "put", "remove"]);
}

pub async fn a_time_is_run_once_however_many_ask(place: &Place) {
    let schedule = schedule("weekly", "0 3 * * 1");
    put(place, &schedule).await;
    let ask = |number| run(place, &schedule, 10, number);
    let (a, b, c, d) = tokio::join!(ask(1), ask(2), ask(3), ask(4));
    let started: Vec<_> = [a, b, c, d].into_iter().flatten().collect();
    let [Outcome::Started(id)] = started[..] else {
        panic!("{started:?}");
    };
    assert_eq!(count(place).await, 1);
    let (after, last) = schedules(place).await.remove(0);
    assert_eq!(after.handled, at(10));
    let outcome = Outcome::Started(id);
    assert_eq!(
        last,
        Some(Ran {
            at: at(10),
            outcome
        })
    );
    assert_eq!(run(place, &schedule, 9, 9).await, None, "it is past");
    assert_eq!(audit_log(&*place.store).await.len(), 2);
}

pub async fn a_campaign_does_not_start_while_the_one_before_goes_on(place: &Place) {
    let schedule = schedule("weekly", "0 3 * * 1");
    put(place, &schedule).await;
    let started = |number| Some(Outcome::Started(campaign_id(number)));
    assert_eq!(run(place, &schedule, 10, 1).await, started(1));
    for (second, state) in [(20, State::Running), (30, State::Paused)] {
        set_state(&*place.store, campaign_id(1), state).await;
        let Some(Outcome::Skipped(cause)) = run(place, &schedule, second, 2).await else {
            panic!("it was started");
        };
        let said = format!(
            "{}, which it started before, is {}",
            campaign_id(1),
            state.as_str()
        );
        assert!(cause.contains(&said), "{cause}");
        assert_eq!(run(place, &schedule, second, 3).await, None);
    }
    let log = audit_log(&*place.store).await;
    assert!(log[3].detail.starts_with("skip: campaign "), "{log:?}");
    set_state(&*place.store, campaign_id(1), State::Cancelled).await;
    assert_eq!(run(place, &schedule, 40, 2).await, started(2));
    assert_eq!(count(place).await, 2);
}

pub async fn a_time_that_is_left_out_says_why(place: &Place) {
    let schedule = schedule("weekly", "0 3 * * 1");
    put(place, &schedule).await;
    let left_out = Run {
        key: &ScheduleKey::of(&schedule),
        at: at(10),
        handled: at(50),
        campaign: Err("the authorization has expired"),
        skipped: &entry("skip"),
    };
    let outcome = Outcome::Skipped("the authorization has expired".to_owned());
    let ran = place.store.run_scheduled(&left_out).await.unwrap();
    assert_eq!(ran, Some(outcome.clone()));
    let (after, last) = schedules(place).await.remove(0);
    assert_eq!(
        (after.handled, last),
        (
            at(50),
            Some(Ran {
                at: at(10),
                outcome
            })
        )
    );
    assert_eq!(run(place, &schedule, 40, 1).await, None);
}

pub async fn a_campaign_that_cannot_be_recorded_leaves_its_time_open(place: &Place) {
    let schedule = schedule("weekly", "0 3 * * 1");
    put(place, &schedule).await;
    let registered = |digest| Registered {
        id: "A-1".to_owned(),
        digest: [digest; 32],
    };
    for (digest, number) in [(1, 1), (2, 2)] {
        let admission = Admission {
            campaign: &campaign(number),
            shards: &[],
            pairs: 0,
            authorization: Some(&registered(digest)),
            audit: &entry("start"),
        };
        let run = Run {
            key: &ScheduleKey::of(&schedule),
            at: at(10),
            handled: at(10),
            campaign: Ok(&admission),
            skipped: &entry("skip"),
        };
        if number == 1 {
            place.store.create_campaign(&admission).await.unwrap();
            continue;
        }
        let refused = place.store.run_scheduled(&run).await;
        assert!(
            matches!(refused, Err(Error::Conflict { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(count(place).await, 1);
    let (after, last) = schedules(place).await.remove(0);
    assert_eq!((after.handled, last), (at(0), None));
}

pub async fn a_schedule_that_is_paused_or_gone_starts_nothing(place: &Place) {
    let store = &place.store;
    let schedule = schedule("weekly", "0 3 * * 1");
    put(place, &schedule).await;
    let mut hold = Hold {
        key: &ScheduleKey::of(&schedule),
        paused: true,
        now: at(5),
        audit: &entry("hold"),
    };
    assert!(store.hold_schedule(&hold).await.unwrap());
    assert_eq!(run(place, &schedule, 10, 1).await, None);
    hold = Hold {
        paused: false,
        now: at(20),
        ..hold
    };
    assert!(store.hold_schedule(&hold).await.unwrap());
    assert_eq!(
        run(place, &schedule, 15, 1).await,
        None,
        "it was paused then"
    );
    assert!(run(place, &schedule, 30, 1).await.is_some());
    assert!(
        store
            .remove_schedule(&ScheduleKey::of(&schedule), &entry("remove"))
            .await
            .unwrap()
    );
    assert_eq!(run(place, &schedule, 40, 2).await, None);
    assert_eq!(count(place).await, 1, "its campaigns stay");
}

pub async fn each_tenant_has_names_of_its_own(place: &Place) {
    let store = &place.store;
    let ours = schedule("weekly", "0 3 * * 1");
    let theirs = Schedule {
        spec: Spec {
            tenant: "other".to_owned(),
            ..ours.spec.clone()
        },
        ..schedule("weekly", "0 4 * * 2")
    };
    put(place, &ours).await;
    put(place, &theirs).await;
    assert_eq!(schedules(place).await.len(), 2);
    let of_other = ScheduleQuery {
        tenants: Some(vec!["other".to_owned()]),
        ..ScheduleQuery::default()
    };
    let listed = store.schedules(&of_other).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].schedule, Ok(theirs.clone()));
    run(place, &ours, 10, 1).await.unwrap();
    let key = ScheduleKey::of(&ours);
    assert!(store.remove_schedule(&key, &entry("gone")).await.unwrap());
    assert_eq!(schedules(place).await, [(theirs, None)]);
}

pub async fn a_schedule_that_cannot_be_read_hides_no_other(place: &Place) {
    put(place, &schedule("broken", "0 3 * * 1")).await;
    put(place, &schedule("weekly", "0 3 * * 1")).await;
    let table = place.table("schedules");
    let elsewhere = format!("UPDATE {table} SET time_zone = 'Mars/Base' WHERE name = 'broken'");
    sql(&place.url, &elsewhere).await.unwrap();
    let listed = place.store.schedules(&ScheduleQuery::default()).await;
    let [broken, weekly] = &listed.unwrap()[..] else {
        panic!("not two schedules");
    };
    let cause = broken.schedule.as_ref().unwrap_err();
    assert!(cause.contains("Mars/Base"), "{cause}");
    assert!(weekly.schedule.is_ok());
}

pub async fn a_schedule_is_looked_at_when_its_time_has_come(place: &Place) {
    let store = &*place.store;
    let schedule = schedule("weekly", "0 3 * * 1");
    let key = ScheduleKey::of(&schedule);
    put(place, &schedule).await;
    let due = async |seconds| {
        let query = ScheduleQuery {
            due: true,
            ..ScheduleQuery::default()
        };
        let due = on(store, at(seconds)).schedules(&query).await;
        due.unwrap().len()
    };
    assert_eq!(due(0).await, 1, "nobody has looked at it");
    store.look_again(&key, at(0), at(100)).await.unwrap();
    assert_eq!((due(99).await, due(100).await), (0, 1));
    run(place, &schedule, 100, 1).await.unwrap();
    assert_eq!(due(101).await, 1, "it has another next time");
    // Whoever looked at it before that says nothing of it any more.
    store.look_again(&key, at(0), at(500)).await.unwrap();
    assert_eq!(due(101).await, 1);
    store.look_again(&key, at(100), at(500)).await.unwrap();
    assert_eq!(due(101).await, 0);
}
