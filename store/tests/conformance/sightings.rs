use ajar_model::Verdict;

use crate::support::*;

pub async fn a_sighting_after_its_observation_opens_it(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let seen = observation(1, "10.0.0.1:25", ACCEPTED);
    let mail = sighting(&seen, 50);
    store
        .ingest(&batch(shard, token, vec![seen.clone()]))
        .await
        .unwrap();
    let finding = store.record_sighting(&mail).await.unwrap().unwrap();
    assert_eq!(finding.verdict, Verdict::Open);
    let proof = finding.proof.as_ref().unwrap();
    assert_eq!((proof.nonce, proof.received_at), (nonce(&seen), at(50)));
    assert_eq!(all_findings(&**store).await, [finding]);
    assert_eq!(store.record_sighting(&mail).await.unwrap(), None);
    let of_nobody = sighting(&observation(1, "10.0.0.2:25", ACCEPTED), 50);
    assert_eq!(store.record_sighting(&of_nobody).await.unwrap(), None);
}

pub async fn a_sighting_before_its_observation_opens_it(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let seen = observation(1, "10.0.0.1:25", ACCEPTED);
    let early = store.record_sighting(&sighting(&seen, 5)).await.unwrap();
    assert_eq!(early, None);
    let ingested = store
        .ingest(&batch(shard, token, vec![seen]))
        .await
        .unwrap();
    assert_eq!(ingested.findings[0].verdict, Verdict::Open);
    assert_eq!(all_findings(&**store).await, ingested.findings);
    let rejudged = store.judge_sightings().await.unwrap();
    assert_eq!(rejudged, []);
}

pub async fn a_sighting_beside_its_observation_opens_it(place: &Place) {
    const ROUNDS: usize = 25;
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    for round in 0..ROUNDS {
        let seen = observation(1, &format!("10.0.0.{round}:25"), ACCEPTED);
        let mail = sighting(&seen, 50);
        let batch = batch(shard, token, vec![seen]);
        let (ingested, changed) = tokio::join!(store.ingest(&batch), store.record_sighting(&mail));
        let told = ingested
            .unwrap()
            .findings
            .into_iter()
            .chain(changed.unwrap());
        let open = |verdict| verdict == Verdict::Open;
        assert!(told.into_iter().any(|finding| open(finding.verdict)));
    }
    let findings = all_findings(&**store).await;
    let open = findings.iter().filter(|f| f.verdict == Verdict::Open);
    assert_eq!((findings.len(), open.count()), (ROUNDS, ROUNDS));
}

pub async fn the_earliest_sighting_is_kept(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let seen = observation(1, "10.0.0.1:25", ACCEPTED);
    store
        .ingest(&batch(shard, token, vec![seen.clone()]))
        .await
        .unwrap();
    let mut received = Vec::new();
    for seconds in [60, 70, 50] {
        let changed = store.record_sighting(&sighting(&seen, seconds)).await;
        let proof = changed.unwrap().map(|finding| finding.proof.unwrap());
        received.push(proof.map(|proof| proof.received_at));
    }
    assert_eq!(received, [Some(at(60)), None, Some(at(50))]);
}

pub async fn only_an_accepted_mail_is_awaited(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let mut tunnel = observation(1, "10.0.0.4:25", ACCEPTED);
    tunnel.evidence.attempts[0].kind = ajar_model::proof::Kind::Tunnel;
    let accepted = observation(1, "10.0.0.1:25", ACCEPTED);
    let seen = vec![
        accepted.clone(),
        observation(1, "10.0.0.2:25", REFUSED),
        observation(1, "10.0.0.3:25", LATER),
        tunnel.clone(),
    ];
    store.ingest(&batch(shard, token, seen)).await.unwrap();
    let awaiting = async || {
        let progress = store.progress(shard.campaign, at(1)).await.unwrap();
        progress.awaiting_mail
    };
    assert_eq!(awaiting().await, 1);
    store
        .record_sighting(&sighting(&accepted, 50))
        .await
        .unwrap();
    assert_eq!(awaiting().await, 0);
    // A tunnel's nonce is no mail's: a mail that bears it proves nothing.
    let forged = store.record_sighting(&sighting(&tunnel, 50)).await.unwrap();
    assert_eq!(forged, None);
}

pub async fn sightings_of_no_finding_are_forgotten(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let seen: Vec<_> = (1..6)
        .map(|host| observation(1, &format!("10.0.0.{host}:25"), ACCEPTED))
        .collect();
    for (mail, received) in seen.iter().zip(0..) {
        store
            .record_sighting(&sighting(mail, received))
            .await
            .unwrap();
    }
    let known = vec![seen[0].clone()];
    store.ingest(&batch(shard, token, known)).await.unwrap();
    // The first is of a finding, the second too old, and of the other three two are kept.
    store.forget_sightings(at(2), 2).await.unwrap();
    store.ingest(&batch(shard, token, seen)).await.unwrap();
    let verdicts = all_findings(&**store).await.into_iter().map(|f| f.verdict);
    let (open, unproven) = (Verdict::Open, Verdict::Unproven);
    let expect = [open, unproven, unproven, open, open];
    assert_eq!(verdicts.collect::<Vec<_>>(), expect);
}
