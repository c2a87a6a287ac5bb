//! A sighting and its observation that pass each other by.

mod support;

use std::time::Duration;

use ajar_model::{Nonce, Verdict};
use sqlx::{Connection, Executor, PgConnection};
use support::*;

/// Whoever writes what a finding says waits for the advisory lock 42.
const PAUSE: &str = "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$ \
    BEGIN PERFORM pg_advisory_xact_lock(42); RETURN new; END $$; \
    CREATE TRIGGER pause BEFORE INSERT OR UPDATE ON ajar.findings FOR EACH ROW \
    WHEN (new.body IS NOT NULL) EXECUTE FUNCTION pause()";
const IS_PAUSED: &str = "SELECT EXISTS (SELECT 1 FROM pg_locks \
    WHERE locktype = 'advisory' AND objid = 42 AND NOT granted)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sighting_stored_while_its_observation_is_judged_opens_it() {
    let place = postgres().await;
    let store = place.store.clone();
    let shard = submit(&*store, 1, 1).await;
    let token = token(&*store, shard, at(0)).await;
    let seen = observation(1, "10.0.0.1:25", ACCEPTED);
    let mail = sighting(&seen, 50);
    sql(&place.url, PAUSE).await.unwrap();
    let mut outsider = PgConnection::connect(&place.url).await.unwrap();
    outsider
        .execute("SELECT pg_advisory_lock(42)")
        .await
        .unwrap();
    let report = batch(shard, token, vec![seen]);
    let ingesting = tokio::spawn({
        let store = store.clone();
        async move { store.ingest(&report).await }
    });
    for _ in 0..1000 {
        let paused: bool = sqlx::query_scalar(IS_PAUSED)
            .fetch_one(&mut outsider)
            .await
            .unwrap();
        if paused {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(record(&*store, &mail).await, None);
    outsider.close().await.unwrap();
    let told = ingesting.await.unwrap().unwrap().findings;
    let verdicts: Vec<_> = told.iter().map(|finding| finding.verdict).collect();
    assert_eq!(verdicts, [Verdict::Open]);
    assert_eq!(all_findings(&*store).await, told);
}

#[tokio::test]
async fn a_sighting_that_its_observation_missed_is_found_by_judging_again() {
    for (place, schema, ip) in [
        (sqlite().await, "", "x'04c0000201'"),
        (postgres().await, "ajar.", "'192.0.2.1'"),
    ] {
        let store = &place.store;
        let shard = submit(&**store, 1, 1).await;
        let token = token(&**store, shard, at(0)).await;
        let seen: Vec<_> = (1..4)
            .map(|host| observation(1, &format!("10.0.0.{host}:25"), ACCEPTED))
            .collect();
        let mail = sighting(&seen[1], 50);
        store.ingest(&batch(shard, token, seen)).await.unwrap();
        let nonce: Nonce = mail.nonce;
        let received = if schema.is_empty() {
            at(50).as_microsecond().to_string()
        } else {
            format!("'{}'", at(50))
        };
        let body = serde_json::to_string(&mail).unwrap().replace('\'', "''");
        let insert = format!(
            "INSERT INTO {schema}sightings (nonce, received_at, egress_ip, body) \
             VALUES ('{nonce}', {received}, {ip}, '{body}')"
        );
        sql(&place.url, &insert).await.unwrap();
        let judged = store.judge_sightings().await.unwrap();
        assert_eq!(judged.len(), 1);
        assert_eq!(judged[0].verdict, Verdict::Open);
        assert_eq!(judged[0].ip.to_string(), "10.0.0.2");
        let again = store.judge_sightings().await.unwrap();
        assert_eq!(again, []);
    }
}
