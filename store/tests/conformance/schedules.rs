use ajar_model::{
    Schedule,
    campaign::State,
    schedule::{ScheduleName, Times},
};
use ajar_store::{Admission, Error, Hold, Outcome, Ran, Registered, Run};

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
async fn run(place: &Place, name: &ScheduleName, second: i64, number: u128) -> Option<Outcome> {
    let admission = Admission {
        campaign: &campaign(number),
        shards: &[0..4, 4..8],
        authorization: None,
        audit: &entry("start"),
    };
    let run = Run {
        schedule: name,
        at: at(second),
        handled: at(second),
        campaign: Ok(&admission),
        skipped: &entry("skip"),
    };
    place.store.run_scheduled(&run).await.unwrap()
}

async fn campaigns(place: &Place) -> usize {
    place.store.campaigns().await.unwrap().len()
}

pub async fn schedules_are_kept_by_name(place: &Place) {
    let store = &place.store;
    let (weekly, daily) = (
        schedule("weekly", "0 3 * * 1"),
        schedule("daily", "0 3 * * *"),
    );
    put(place, &weekly).await;
    put(place, &daily).await;
    let listed = store.schedules().await.unwrap();
    assert_eq!(listed, [(daily, None), (weekly.clone(), None)]);
    // Another one of the name takes its place, and is paused if it was.
    let hold = Hold {
        name: &weekly.name,
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
    assert_eq!(store.schedules().await.unwrap()[1], (expect, None));
    for expect in [true, false] {
        let removed = store.remove_schedule(&weekly.name, &entry("remove")).await;
        assert_eq!(removed.unwrap(), expect);
    }
    assert!(!store.hold_schedule(&hold).await.unwrap());
    assert_eq!(store.schedules().await.unwrap().len(), 1);
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
    let ask = |number| run(place, &schedule.name, 10, number);
    let (a, b, c, d) = tokio::join!(ask(1), ask(2), ask(3), ask(4));
    let started: Vec<_> = [a, b, c, d].into_iter().flatten().collect();
    let [Outcome::Started(id)] = started[..] else {
        panic!("{started:?}");
    };
    assert_eq!(campaigns(place).await, 1);
    let (after, last) = place.store.schedules().await.unwrap().remove(0);
    assert_eq!(after.handled, at(10));
    let outcome = Outcome::Started(id);
    assert_eq!(
        last,
        Some(Ran {
            at: at(10),
            outcome
        })
    );
    assert_eq!(run(place, &schedule.name, 9, 9).await, None, "it is past");
    assert_eq!(audit_log(&*place.store).await.len(), 2);
}

pub async fn a_campaign_does_not_start_while_the_one_before_goes_on(place: &Place) {
    let schedule = schedule("weekly", "0 3 * * 1");
    put(place, &schedule).await;
    let started = |number| Some(Outcome::Started(campaign_id(number)));
    assert_eq!(run(place, &schedule.name, 10, 1).await, started(1));
    for (second, state) in [(20, State::Running), (30, State::Paused)] {
        set_state(&*place.store, campaign_id(1), state).await;
        let Some(Outcome::Skipped(cause)) = run(place, &schedule.name, second, 2).await else {
            panic!("it was started");
        };
        let said = format!(
            "{}, which it started before, is {}",
            campaign_id(1),
            state.as_str()
        );
        assert!(cause.contains(&said), "{cause}");
        assert_eq!(run(place, &schedule.name, second, 3).await, None);
    }
    let log = audit_log(&*place.store).await;
    assert!(log[3].detail.starts_with("skip: campaign "), "{log:?}");
    set_state(&*place.store, campaign_id(1), State::Cancelled).await;
    assert_eq!(run(place, &schedule.name, 40, 2).await, started(2));
    assert_eq!(campaigns(place).await, 2);
}

pub async fn a_time_that_is_left_out_says_why(place: &Place) {
    let schedule = schedule("weekly", "0 3 * * 1");
    put(place, &schedule).await;
    let left_out = Run {
        schedule: &schedule.name,
        at: at(10),
        handled: at(50),
        campaign: Err("the authorization has expired"),
        skipped: &entry("skip"),
    };
    let outcome = Outcome::Skipped("the authorization has expired".to_owned());
    let ran = place.store.run_scheduled(&left_out).await.unwrap();
    assert_eq!(ran, Some(outcome.clone()));
    let (after, last) = place.store.schedules().await.unwrap().remove(0);
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
    assert_eq!(run(place, &schedule.name, 40, 1).await, None);
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
            authorization: Some(&registered(digest)),
            audit: &entry("start"),
        };
        let run = Run {
            schedule: &schedule.name,
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
    assert_eq!(campaigns(place).await, 1);
    let (after, last) = place.store.schedules().await.unwrap().remove(0);
    assert_eq!((after.handled, last), (at(0), None));
}

pub async fn a_schedule_that_is_paused_or_gone_starts_nothing(place: &Place) {
    let store = &place.store;
    let schedule = schedule("weekly", "0 3 * * 1");
    put(place, &schedule).await;
    let mut hold = Hold {
        name: &schedule.name,
        paused: true,
        now: at(5),
        audit: &entry("hold"),
    };
    assert!(store.hold_schedule(&hold).await.unwrap());
    assert_eq!(run(place, &schedule.name, 10, 1).await, None);
    hold = Hold {
        paused: false,
        now: at(20),
        ..hold
    };
    assert!(store.hold_schedule(&hold).await.unwrap());
    assert_eq!(
        run(place, &schedule.name, 15, 1).await,
        None,
        "it was paused then"
    );
    assert!(run(place, &schedule.name, 30, 1).await.is_some());
    assert!(
        store
            .remove_schedule(&schedule.name, &entry("remove"))
            .await
            .unwrap()
    );
    assert_eq!(run(place, &schedule.name, 40, 2).await, None);
    assert_eq!(campaigns(place).await, 1, "its campaigns stay");
}
