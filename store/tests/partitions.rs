//! What a campaign observed is in tables of its own in PostgreSQL, which are dropped with it.

mod support;

use ajar_model::{Verdict, campaign::State};
use ajar_store::{Options, open};
use sqlx::{Connection, PgConnection};
use support::*;

/// The tables that are part of another one, by name.
async fn partitions(url: &str) -> Vec<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let listed = "SELECT inhrelid::regclass::text FROM pg_inherits \
        JOIN pg_class c ON c.oid = inhparent WHERE c.relkind = 'p' ORDER BY 1";
    let listed = sqlx::query_scalar(listed).fetch_all(&mut connection);
    listed.await.unwrap()
}

fn own(number: u128) -> [String; 2] {
    let id = campaign_id(number).to_string().to_lowercase();
    ["nonces", "observations"].map(|table| format!("ajar.{table}_{id}"))
}

#[tokio::test]
async fn to_remove_a_campaign_drops_its_tables() {
    let place = postgres().await;
    let store = &*place.store;
    for number in [1, 2] {
        let shard = submit(store, number, 1).await;
        let token = token(store, shard, at(0)).await;
        let seen = observation(number, &format!("10.{number}.0.1:25"), ACCEPTED);
        store
            .ingest(&batch(shard, token, vec![seen]))
            .await
            .unwrap();
    }
    let mut both = [own(1), own(2)].concat();
    both.sort();
    assert_eq!(partitions(&place.url).await, both);
    set_state(store, campaign_id(1), State::Finished).await;
    let removed = store.remove_campaign(campaign_id(1), &entry("gone")).await;
    assert_eq!(removed.unwrap(), Some(State::Finished));
    assert_eq!(partitions(&place.url).await, own(2));
}

#[tokio::test]
async fn what_was_observed_before_there_were_partitions_is_kept() {
    let place = postgres().await;
    let store = &*place.store;
    let shard = submit(store, 1, 1).await;
    let token = token(store, shard, at(0)).await;
    let seen = observation(1, "10.1.0.1:25", ACCEPTED);
    store
        .ingest(&batch(shard, token, vec![seen.clone()]))
        .await
        .unwrap();
    let [finding] = &all_findings(store).await[..] else {
        panic!("not one finding");
    };
    let before = store.finding(&finding.id).await.unwrap();
    store.close().await.unwrap();
    // As the tables were.
    let older = "
        CREATE TABLE ajar.o AS SELECT finding, vantage, started_at, finished_at, visit, evidence, round FROM ajar.observations;
        CREATE TABLE ajar.n AS SELECT nonce, finding FROM ajar.nonces;
        DROP TABLE ajar.observations, ajar.nonces;
        ALTER TABLE ajar.o RENAME TO observations;
        ALTER TABLE ajar.n RENAME TO nonces;
        ALTER TABLE ajar.observations ADD PRIMARY KEY (finding, vantage, round);
        ALTER TABLE ajar.nonces ADD PRIMARY KEY (nonce, finding);
        DROP TABLE ajar.readers;
        DROP POLICY readers ON ajar.campaigns;
        DROP POLICY readers ON ajar.findings;
        DROP FUNCTION ajar.reads, ajar.let_read;
        DELETE FROM ajar.migrations WHERE version >= 9";
    sql(&place.url, older).await.unwrap();

    let again = open(&place.url, &Options::default()).await.unwrap();
    assert_eq!(partitions(&place.url).await, own(1));
    assert_eq!(again.finding(&finding.id).await.unwrap(), before);
    let opened = record(&*again, &sighting(&seen, 60)).await.unwrap();
    assert_eq!(opened.verdict, Verdict::Open);
}
