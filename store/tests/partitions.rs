//! What a campaign observed is in tables of its own in PostgreSQL, which are dropped with it.

mod support;

use ajar_model::{Verdict, campaign::State};
use ajar_store::{Options, open};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
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

/// The one lease with its block and its campaign's sum.
async fn leases(url: &str) -> Vec<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let listed = "SELECT concat_ws(' ', to_json(l), b.block, r.rate, r.leases) \
        FROM ajar.leases l JOIN ajar.lease_blocks b USING (campaign, number) \
        JOIN ajar.rates r USING (campaign)";
    let listed = sqlx::query_scalar(listed).fetch_all(&mut connection);
    let listed: Vec<String> = listed.await.unwrap();
    assert_eq!(listed.len(), 1);
    listed
}

/// The scripts that made the tables before there were partitions.
const OLDER: [&str; 8] = [
    include_str!("../migrations/postgres/0001_first.sql"),
    include_str!("../migrations/postgres/0002_campaign_ends.sql"),
    include_str!("../migrations/postgres/0003_shard_ends.sql"),
    include_str!("../migrations/postgres/0004_revisits.sql"),
    include_str!("../migrations/postgres/0005_confirmation.sql"),
    include_str!("../migrations/postgres/0006_unchecked.sql"),
    include_str!("../migrations/postgres/0007_schedules.sql"),
    include_str!("../migrations/postgres/0008_failovers.sql"),
];

/// A database with the tables of [`OLDER`], and in them what a store holds.
async fn older(url: &str) -> String {
    let older = postgres::fresh_database().await;
    let table = "CREATE SCHEMA ajar; CREATE TABLE ajar.migrations (version bigint PRIMARY KEY, description text NOT NULL, \
        installed_on timestamptz NOT NULL DEFAULT now(), success boolean NOT NULL, checksum bytea NOT NULL, execution_time bigint NOT NULL)";
    sql(&older, table).await.unwrap();
    for script in OLDER {
        sql(&older, script).await.unwrap();
    }
    let mut from = PgConnection::connect(url).await.unwrap();
    let mut to = PgConnection::connect(&older).await.unwrap();
    for (table, of) in [
        ("migrations", "ajar.migrations t WHERE version <= 8"),
        ("campaigns", "ajar.campaigns t"),
        // A shard's lease was in its row.
        (
            "shards",
            "(SELECT s.*, coalesce(l.rate, 0) AS rate, l.owner, l.until AS lease_until \
             FROM ajar.shards s LEFT JOIN ajar.leases l USING (campaign, number)) t",
        ),
        ("lease_blocks", "ajar.lease_blocks t"),
        ("findings", "ajar.findings t"),
        ("observations", "ajar.observations t"),
        ("nonces", "ajar.nonces t"),
    ] {
        let read = format!("SELECT row_to_json(t)::text FROM {of}");
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(read))
            .fetch_all(&mut from)
            .await
            .unwrap();
        assert!(!rows.is_empty(), "{table}");
        // Columns that the older table does not have are left out.
        let write = format!(
            "INSERT INTO ajar.{table} OVERRIDING SYSTEM VALUE \
             SELECT * FROM json_populate_record(NULL::ajar.{table}, $1::json)"
        );
        for row in rows {
            let written = sqlx::query(AssertSqlSafe(write.clone())).bind(row);
            written.execute(&mut to).await.unwrap();
        }
    }
    older
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
    let older = older(&place.url).await;

    let again = open(&older, &Options::default()).await.unwrap();
    assert_eq!(partitions(&older).await, own(1));
    assert_eq!(leases(&older).await, leases(&place.url).await);
    assert_eq!(again.finding(&finding.id).await.unwrap(), before);
    let opened = record(&*again, &sighting(&seen, 60)).await.unwrap();
    assert_eq!(opened.verdict, Verdict::Open);
}
