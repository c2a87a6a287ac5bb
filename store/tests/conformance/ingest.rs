use ajar_model::{Observation, Untrusted, Verdict, evidence::Entry};
use ajar_store::{Advance, Batch, Error, Grant};

use crate::support::*;

pub async fn a_batch_stores_observations_findings_and_progress(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let seen = observation(1, "10.0.0.1:25", REFUSED);
    let report = Batch {
        progress: Some(advance(0, 5, false)),
        ..batch(shard, token, vec![seen.clone()])
    };
    let ingested = store.ingest(&report).await.unwrap();
    assert!(!ingested.stale);
    let [finding] = &ingested.findings[..] else {
        panic!("{ingested:?}");
    };
    assert_eq!(finding.verdict, Verdict::Closed);
    assert_eq!(
        (finding.first_seen, finding.last_seen),
        (seen.started_at, seen.finished_at)
    );
    assert_eq!(table(&**store).await, [(finding.clone(), vec![seen])]);
    let again = store.grant(&request(shard, at(60))).await.unwrap();
    assert!(matches!(again, Grant::Granted { cursor: 5, .. }));
}

pub async fn a_batch_delivered_twice_changes_nothing(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let report = Batch {
        progress: Some(advance(0, 5, false)),
        ..batch(shard, token, vec![observation(1, "10.0.0.1:25", REFUSED)])
    };
    on(store, at(1)).ingest(&report).await.unwrap();
    let before = (
        table(&**store).await,
        on(store, at(1)).progress(shard.campaign).await.unwrap(),
    );
    let again = store.ingest(&report).await.unwrap();
    assert_eq!((again.stale, again.findings.len()), (false, 0));
    let after = (
        table(&**store).await,
        on(store, at(1)).progress(shard.campaign).await.unwrap(),
    );
    assert_eq!(before, after);
}

pub async fn a_stale_token_keeps_observations_but_not_the_cursor(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let stale = token(&**store, shard, at(0)).await;
    let current = token(&**store, shard, at(40)).await;
    let late = observation(1, "10.0.0.1:25", REFUSED);
    let report = Batch {
        progress: Some(advance(0, 5, false)),
        ..batch(shard, stale, vec![late])
    };
    let ingested = store.ingest(&report).await.unwrap();
    assert_eq!((ingested.stale, ingested.findings.len()), (true, 1));
    let wrong_cursor = Batch {
        progress: Some(advance(3, 5, false)),
        ..batch(shard, current, vec![])
    };
    assert!(store.ingest(&wrong_cursor).await.unwrap().stale);
    let progress = on(store, at(41)).progress(shard.campaign).await.unwrap();
    assert_eq!((progress.tally.total(), progress.leased), (0, 1));
}

pub async fn a_token_that_was_never_issued_is_fenced(place: &Place) {
    let store = &place.store;
    submit(&**store, 1, 2).await;
    token(&**store, shard(1, 0), at(0)).await;
    let others = token(&**store, shard(1, 1), at(0)).await;
    for (shard, token) in [
        (shard(1, 0), others),
        (shard(1, 0), others + 1),
        (shard(1, 0), u64::MAX),
        (shard(1, 9), others),
        (shard(9, 0), others),
    ] {
        let seen = observation(shard.campaign.0.0 as u8 as u128, "10.0.0.1:25", REFUSED);
        let refused = store.ingest(&batch(shard, token, vec![seen])).await;
        assert!(
            matches!(refused, Err(Error::Fenced { .. })),
            "{shard} {token}: {refused:?}"
        );
    }
    assert_eq!(all_findings(&**store).await, []);
}

pub async fn a_shard_closes_only_when_its_outcomes_add_up(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token_of(&**store, shard, at(0), 6).await;
    let report = |from, to, closes| Batch {
        progress: Some(advance(from, to, closes)),
        ..batch(shard, token, vec![observation(1, "10.0.0.1:25", REFUSED)])
    };
    let refused = store.ingest(&report(0, 5, true)).await;
    assert!(matches!(
        refused,
        Err(Error::Incomplete {
            counted: 5,
            expected: 6,
            ..
        })
    ));
    assert_eq!(all_findings(&**store).await, [], "nothing is stored");
    store.ingest(&report(0, 5, false)).await.unwrap();
    let beyond = store.ingest(&report(5, 7, false)).await;
    assert!(matches!(beyond, Err(Error::Invalid { .. })));
    assert!(!store.ingest(&report(5, 6, true)).await.unwrap().stale);
    let progress = on(store, at(1)).progress(shard.campaign).await.unwrap();
    assert_eq!((progress.closed, progress.leased), (1, 0));
    assert_eq!(progress.tally.total(), 6);
}

pub async fn a_lost_answer_is_no_lost_lease(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let first = token_of(&**store, shard, at(0), 9).await;
    let deliver = async |token, from, to, closes| {
        let report = Batch {
            progress: Some(advance(from, to, closes)),
            ..batch(shard, token, vec![])
        };
        store.ingest(&report).await.unwrap().stale
    };
    for _ in 0..2 {
        assert!(!deliver(first, 0, 5, false).await);
    }
    assert!(!deliver(first, 5, 8, false).await);
    assert!(!deliver(first, 0, 5, false).await);
    let second = token_of(&**store, shard, at(40), 9).await;
    assert!(deliver(first, 0, 5, false).await, "another holds the shard");
    for _ in 0..2 {
        assert!(!deliver(second, 8, 9, true).await);
    }
    assert!(deliver(first, 8, 9, true).await);
    let progress = on(store, at(41)).progress(shard.campaign).await.unwrap();
    assert_eq!(progress.tally.total(), 9);
}

pub async fn an_earlier_observation_never_replaces_a_later_one(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let report = async |observation: &Observation| {
        let batch = batch(shard, token, vec![observation.clone()]);
        store.ingest(&batch).await.unwrap();
        let (finding, mut observations) = table(&**store).await.pop().unwrap();
        assert_eq!(observations.len(), 1);
        (finding.verdict, observations.pop().unwrap())
    };
    let endpoint = "10.0.0.1:25";
    let second = seen(1, endpoint, "local", 20, REFUSED);
    assert_eq!(report(&second).await, (Verdict::Closed, second.clone()));
    let first = seen(1, endpoint, "local", 10, ACCEPTED);
    let merged = Observation {
        started_at: first.started_at,
        ..second
    };
    assert_eq!(report(&first).await, (Verdict::Closed, merged.clone()));
    let third = seen(1, endpoint, "local", 30, ACCEPTED);
    let merged = Observation {
        started_at: merged.started_at,
        ..third.clone()
    };
    assert_eq!(report(&third).await, (Verdict::Unproven, merged));
}

pub async fn a_visit_that_breaks_early_forgets_nothing(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let first = seen(1, "10.0.0.1:25", "local", 10, ACCEPTED);
    let mut second = seen(1, "10.0.0.1:25", "local", 20, REFUSED);
    second.visit = 2;
    second.evidence.attempts.clear();
    second.evidence.broken = Some(ajar_model::evidence::Broken::Closed);
    for observation in [&first, &second] {
        let batch = batch(shard, token, vec![observation.clone()]);
        store.ingest(&batch).await.unwrap();
    }
    let (finding, observations) = table(&**store).await.pop().unwrap();
    assert_eq!(
        (finding.verdict, finding.attempts),
        (Verdict::Unproven, second.visit)
    );
    assert_eq!(
        observations[0].evidence.attempts, first.evidence.attempts,
        "the first visit's mail is still waited for"
    );
    let proven = record(&**store, &sighting(&first, 30)).await;
    assert_eq!(proven.unwrap().verdict, Verdict::Open);
}

pub async fn vantage_points_are_merged(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let inside = seen(1, "10.0.0.1:25", "inside", 10, ACCEPTED);
    let outside = seen(1, "10.0.0.1:25", "outside", 20, REFUSED);
    for observation in [&outside, &inside] {
        let batch = batch(shard, token, vec![observation.clone()]);
        store.ingest(&batch).await.unwrap();
    }
    let (finding, observations) = table(&**store).await.pop().unwrap();
    assert_eq!(finding.verdict, Verdict::Unproven);
    assert_eq!(finding.vantage, "inside");
    assert_eq!(finding.last_seen, outside.finished_at);
    assert_eq!(observations, [inside, outside]);
}

pub async fn concurrent_vantage_points_are_merged(place: &Place) {
    const VANTAGES: u64 = 4;
    const ROUNDS: i64 = 5;
    const HOSTS: usize = 12;
    let store = &place.store;
    submit(&**store, 1, VANTAGES).await;
    let mut tokens = Vec::new();
    for number in 0..VANTAGES {
        tokens.push(token(&**store, shard(1, number), at(0)).await);
    }
    // Each round another vantage point is the one that is let through, and the verdict rests on it.
    for round in 0..ROUNDS {
        let tasks: Vec<_> = (0..VANTAGES)
            .zip(&tokens)
            .map(|(number, token)| {
                let reply = if number == round as u64 % VANTAGES {
                    ACCEPTED
                } else {
                    REFUSED
                };
                let vantage = format!("vantage-{number}");
                let seen =
                    |host| seen(1, &format!("10.0.0.{host}:25"), &vantage, 10 + round, reply);
                let batch = batch(shard(1, number), *token, (0..HOSTS).map(seen).collect());
                let store = store.clone();
                tokio::spawn(async move { store.ingest(&batch).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        let table = table(&**store).await;
        assert_eq!(table.len(), HOSTS);
        let through = format!("vantage-{}", round as u64 % VANTAGES);
        for (finding, observations) in table {
            assert_eq!(observations.len() as u64, VANTAGES);
            assert_eq!(
                (finding.verdict, &finding.vantage),
                (Verdict::Unproven, &through)
            );
        }
    }
}

pub async fn overlapping_batches_do_not_deadlock(place: &Place) {
    const SHARDS: u64 = 6;
    let store = &place.store;
    submit(&**store, 1, SHARDS).await;
    let mut tasks = Vec::new();
    for number in 0..SHARDS {
        let shard = shard(1, number);
        let token = token(&**store, shard, at(0)).await;
        let mut seen: Vec<_> = (1..60)
            .map(|host| observation(1, &format!("10.0.0.{host}:25"), ACCEPTED))
            .collect();
        if number % 2 == 1 {
            seen.reverse();
        }
        let mails: Vec<_> = seen.iter().step_by(9).map(|o| sighting(o, 50)).collect();
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..3 {
                store
                    .ingest(&batch(shard, token, seen.clone()))
                    .await
                    .unwrap();
                for mail in &mails {
                    record(&*store, mail).await;
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(all_findings(&**store).await.len(), 59);
}

pub async fn hostile_text_is_kept_as_it_came(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let hostile =
        Untrusted::from("\0 \u{1b}]0;x\u{7} \u{202e} ' \" \\u0000 \u{10ffff} ☃".to_owned());
    let mut seen = observation(1, "10.0.0.1:25", REFUSED);
    seen.evidence.banner = Some(hostile.clone());
    seen.evidence.transcript.push(Entry {
        at_ms: 1,
        direction: ajar_model::evidence::Direction::Received,
        text: hostile.clone(),
    });
    let batch = batch(shard, token, vec![seen.clone()]);
    store.ingest(&batch).await.unwrap();
    let (finding, observations) = table(&**store).await.pop().unwrap();
    assert_eq!(finding.banner, Some(hostile));
    assert_eq!(observations, [seen]);
}

pub async fn what_no_honest_worker_sends_is_refused(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    submit(&**store, 2, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let good = observation(1, "10.0.0.1:25", REFUSED);
    let changed = |change: fn(&mut Observation)| {
        let mut bad = good.clone();
        change(&mut bad);
        batch(shard, token, vec![good.clone(), bad])
    };
    let moved = |from, to, silent| {
        let mut progress = Advance {
            from,
            to,
            ..advance(0, 0, false)
        };
        progress.tally.silent = silent;
        Batch {
            progress: Some(progress),
            ..batch(shard, token, vec![good.clone()])
        }
    };
    for bad in [
        changed(|o| o.campaign = campaign_id(2)),
        changed(|o| o.vantage.push('\0')),
        changed(|o| o.vantage = "v".repeat(256)),
        changed(|o| o.probe = "a\0b".to_owned().into()),
        changed(|o| o.evidence.service = Some("SMTP\u{1b}[31m".to_owned().into())),
        changed(|o| o.evidence.exposure = Some(String::new().into())),
        changed(|o| o.started_at = ajar_model::Timestamp::MIN),
        moved(5, 4, 0),
        moved(0, 0, 1),
        moved(0, 5, 6),
        moved(0, 5, u64::MAX),
        moved(0, u64::MAX, 0),
    ] {
        let refused = store.ingest(&bad).await;
        let Err(error) = refused else {
            panic!("{bad:?}");
        };
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        assert!(!error.is_transient());
    }
    assert_eq!(all_findings(&**store).await, []);
}

pub async fn a_protocol_of_a_later_version_is_stored_and_shown(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let mut seen = observation(1, "10.0.0.1:70", ACCEPTED);
    let mut evidence = serde_json::to_value(&seen.evidence).unwrap();
    evidence["service"] = "gopher".into();
    evidence["exposure"] = "open_burrow".into();
    seen.evidence = serde_json::from_value(evidence).unwrap();
    let report = batch(shard, token, vec![seen.clone()]);
    store.ingest(&report).await.unwrap();
    let mail = sighting(&seen, 50);
    let found = record(&**store, &mail).await.unwrap();
    assert_eq!(found.verdict, Verdict::Open);
    let line = serde_json::to_value(&all_findings(&**store).await[0]).unwrap();
    assert_eq!(
        (&line["service"], &line["exposure"]),
        (&"gopher".into(), &"open_burrow".into())
    );
}

pub async fn a_large_batch_is_stored_whole(place: &Place) {
    const OBSERVATIONS: usize = 1200;
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let seen: Vec<_> = (0..OBSERVATIONS)
        .map(|n| observation(1, &format!("10.1.{}.{}:25", n >> 8, n & 255), ACCEPTED))
        .rev()
        .collect();
    let mail = sighting(&seen[7], 90);
    record(&**store, &mail).await;
    let ingested = store.ingest(&batch(shard, token, seen)).await.unwrap();
    let open = |verdict| verdict == Verdict::Open;
    let opened = ingested.findings.iter().filter(|f| open(f.verdict)).count();
    assert_eq!((ingested.findings.len(), opened), (OBSERVATIONS, 1));
    assert_eq!(table(&**store).await.len(), OBSERVATIONS);
}

pub async fn a_token_that_is_not_current_counts_for_a_week(place: &Place) {
    const WEEK: i64 = 7 * 24 * 3600;
    let store = &*place.store;
    let shard = submit(store, 1, 1).await;
    let stale = token(store, shard, at(0)).await;
    let current = token(store, shard, at(40)).await;
    let late = |token, host: u8| {
        let endpoint = format!("10.0.0.{host}:25");
        batch(shard, token, vec![observation(1, &endpoint, REFUSED)])
    };
    now_is(at(WEEK - 1));
    store.ingest(&late(stale, 1)).await.unwrap();
    now_is(at(WEEK));
    let refused = store.ingest(&late(stale, 2)).await;
    assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    now_is(at(2 * WEEK));
    store.ingest(&late(current, 3)).await.unwrap();
    store.forget_tokens().await.unwrap();
    assert_eq!(store.holder(shard, stale).await.unwrap(), None);
    assert!(store.holder(shard, current).await.unwrap().is_some());
}
