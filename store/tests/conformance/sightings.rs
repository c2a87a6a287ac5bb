use ajar_model::{Finding, Observation, Sighting, Verdict, proof::Signature64};
use ajar_store::Error;
use ed25519_dalek::SigningKey;

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
    let finding = record(&**store, &mail).await.unwrap();
    assert_eq!(finding.verdict, Verdict::Open);
    let proof = finding.proof.as_ref().unwrap();
    assert_eq!((proof.nonce, proof.received_at), (nonce(&seen), at(50)));
    assert_eq!(all_findings(&**store).await, [finding]);
    assert_eq!(record(&**store, &mail).await, None);
    let of_nobody = sighting(&observation(1, "10.0.0.2:25", ACCEPTED), 50);
    assert_eq!(record(&**store, &of_nobody).await, None);
}

pub async fn a_sighting_before_its_observation_opens_it(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let seen = observation(1, "10.0.0.1:25", ACCEPTED);
    let early = record(&**store, &sighting(&seen, 5)).await;
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
        let (ingested, changed) = tokio::join!(store.ingest(&batch), record(&**store, &mail));
        let told = ingested.unwrap().findings.into_iter().chain(changed);
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
        let changed = record(&**store, &sighting(&seen, seconds)).await;
        let proof = changed.map(|finding| finding.proof.unwrap());
        received.push(proof.map(|proof| proof.received_at));
    }
    assert_eq!(received, [Some(at(60)), None, Some(at(50))]);
}

pub async fn a_mail_that_the_campaigns_canary_did_not_sign_proves_nothing(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let unsigned = observation(1, "10.0.0.1:25", ACCEPTED);
    let foreign = observation(1, "10.0.0.2:25", ACCEPTED);
    let altered = observation(1, "10.0.0.3:25", ACCEPTED);
    let seen = vec![unsigned.clone(), foreign.clone(), altered.clone()];
    store.ingest(&batch(shard, token, seen)).await.unwrap();
    let mails = [
        Sighting {
            signature: Signature64::default(),
            ..sighting(&unsigned, 60)
        },
        sighting(&foreign, 60).signed(&SigningKey::from_bytes(&[4; 32])),
        Sighting {
            egress_ip: "198.51.100.10".parse().unwrap(),
            ..sighting(&altered, 60)
        },
    ];
    store.record_sightings(&mails).await.unwrap();
    let findings = all_findings(&**store).await;
    assert_eq!(findings.len(), 3);
    for finding in findings {
        assert_eq!(finding.verdict, Verdict::Unproven, "{}", finding.ip);
    }
}

pub async fn sightings_are_recorded_together(place: &Place) {
    let store = &place.store;
    let mut mails = Vec::new();
    for number in [1, 2] {
        let shard = submit(&**store, number, 1).await;
        let token = token(&**store, shard, at(0)).await;
        let host = |host: u8| observation(number, &format!("10.{number}.0.{host}:25"), ACCEPTED);
        let seen: Vec<_> = (1..4).map(host).collect();
        mails.extend(seen[..2].iter().map(|seen| sighting(seen, 60)));
        store.ingest(&batch(shard, token, seen)).await.unwrap();
    }
    let third = observation(2, "10.2.0.1:25", ACCEPTED);
    let (earlier, later) = (sighting(&third, 50), sighting(&third, 70));
    let of_nobody = sighting(&observation(1, "10.9.0.1:25", ACCEPTED), 60);
    mails.extend([earlier, later, of_nobody]);
    let from_before_the_epoch = Sighting {
        received_at: at(-2_000_000_000),
        ..mails[0].clone()
    };
    let with_a_bad_one = [&mails[..], &[from_before_the_epoch]].concat();
    let refused = store.record_sightings(&with_a_bad_one).await.unwrap_err();
    assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
    let unproven = |finding: &Finding| finding.verdict == Verdict::Unproven;
    assert!(all_findings(&**store).await.iter().all(unproven));

    let recorded = store.record_sightings(&mails).await.unwrap();
    assert_eq!(recorded.strays, [mails.last().unwrap().nonce]);
    let received = |finding: &Finding| {
        let proof = finding.proof.as_ref()?;
        Some((finding.ip.to_string(), proof.received_at))
    };
    let proven: Vec<_> = all_findings(&**store)
        .await
        .iter()
        .filter_map(received)
        .collect();
    let expect = [
        ("10.1.0.1", 60),
        ("10.1.0.2", 60),
        ("10.2.0.1", 50),
        ("10.2.0.2", 60),
    ]
    .map(|(ip, seconds)| (ip.to_owned(), at(seconds)));
    assert_eq!(proven, expect);
    assert_eq!(recorded.changed.len(), expect.len());
    let again = store.record_sightings(&mails).await.unwrap();
    assert_eq!(again.changed, []);
    assert_eq!(store.judge_sightings().await.unwrap(), []);
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
        let progress = on(store, at(1)).progress(shard.campaign).await.unwrap();
        progress.awaiting_mail
    };
    assert_eq!(awaiting().await, 1);
    record(&**store, &sighting(&accepted, 50)).await;
    assert_eq!(awaiting().await, 0);
    // A tunnel's nonce is no mail's: a mail that bears it proves nothing.
    let forged = record(&**store, &sighting(&tunnel, 50)).await;
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
        record(&**store, &sighting(mail, received)).await;
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

pub async fn housekeeping_looks_at_a_stray_once(place: &Place) {
    let store = &*place.store;
    let shard = submit(store, 1, 1).await;
    let token = token(store, shard, at(0)).await;
    let seen = observation(1, "10.0.0.1:25", ACCEPTED);
    record(store, &sighting(&seen, 50)).await;
    let strays = format!(
        "UPDATE {} SET judged = true WHERE NOT stray",
        place.table("sightings")
    );
    sql(&place.url, &strays).await.unwrap();
    assert_eq!(store.judge_sightings().await.unwrap(), []);
    // Its observation finds it all the same.
    let told = store
        .ingest(&batch(shard, token, vec![seen]))
        .await
        .unwrap();
    assert_eq!(told.findings[0].verdict, Verdict::Open);
}

pub async fn what_older_rules_judged_is_judged_again(place: &Place) {
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let seen: Vec<Observation> = (0..700)
        .map(|n| observation(1, &format!("10.0.{}.{}:25", n / 256, n % 256), REFUSED))
        .collect();
    let report = batch(shard, token, seen);
    store.ingest(&report).await.unwrap();
    let judged = all_findings(&**store).await;
    assert_eq!(store.judge_older(None).await.unwrap(), None, "it is new");
    assert!(!store.has_older().await.unwrap());
    // An older version called some of them open.
    let (campaigns, findings) = (place.table("campaigns"), place.table("findings"));
    let text = match place.url.starts_with("postgres") {
        true => "body::text",
        false => "body",
    };
    let replaced = format!("replace({text}, '\"closed\"', '\"open\"')");
    let replaced = match place.url.starts_with("postgres") {
        true => format!("({replaced})::json"),
        false => replaced,
    };
    let older = format!(
        "UPDATE {campaigns} SET judge = 0; UPDATE {findings} SET body = {replaced}, verdict = 'open' \
         WHERE port = 25"
    );
    sql(&place.url, &older).await.unwrap();
    assert_ne!(all_findings(&**store).await, judged);
    assert!(store.has_older().await.unwrap());
    let (mut after, mut turns) = (None, 0);
    loop {
        after = store.judge_older(after).await.unwrap();
        turns += 1;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(turns, 3, "500, 200, and the end");
    assert_eq!(all_findings(&**store).await, judged);
    assert!(!store.has_older().await.unwrap());
}
