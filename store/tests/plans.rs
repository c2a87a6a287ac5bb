//! What a batch and housekeeping cost in PostgreSQL does not grow with the findings that are there, although its plans were made when there
//! were none. PostgreSQL's own counters tell.

mod support;

use std::{net::SocketAddr, time::Duration};

use ajar_model::ShardId;
use ajar_store::Store;
use sqlx::{Connection, PgConnection};
use support::*;

const BATCH: u32 = 64;

/// Stores batch number `number` of refusals.
async fn ingest(store: &dyn Store, shard: ShardId, token: u64, number: u32) {
    let seen = (0..BATCH).map(|n| {
        let ip = std::net::Ipv4Addr::from(0x0b00_0000 + number * BATCH + n);
        observation(1, &SocketAddr::from((ip, 25)).to_string(), REFUSED)
    });
    let report = batch(shard, token, seen.collect());
    store.ingest(&report).await.unwrap();
}

#[tokio::test]
async fn a_batch_reads_no_more_rows_when_there_are_many() {
    let place = postgres().await;
    let store = &*place.store;
    let shard = submit(store, 1, 1).await;
    let token = token(store, shard, at(0)).await;
    for number in 0..100 {
        ingest(store, shard, token, number).await;
    }
    let mut connection = PgConnection::connect(&place.url).await.unwrap();
    let before = rows_read(&mut connection).await;
    for number in 100..110 {
        ingest(store, shard, token, number).await;
    }
    let read = rows_read(&mut connection).await - before;
    // Each of 640 is read a few times, and not the 6,400 before them in each of ten batches.
    assert!(read < 640 * 20, "{read} rows were read");
}

#[tokio::test]
async fn housekeeping_reads_no_findings_that_are_not_due() {
    let place = postgres().await;
    let store = &*place.store;
    let shard = submit(store, 1, 1).await;
    let token = token(store, shard, at(0)).await;
    for number in 0..20 {
        ingest(store, shard, token, number).await;
    }
    let later = batch(shard, token, vec![observation(1, "10.0.0.1:25", LATER)]);
    store.ingest(&later).await.unwrap();
    let mut connection = PgConnection::connect(&place.url).await.unwrap();
    let before = rows_read(&mut connection).await;
    for _ in 0..100 {
        let active = on(store, at(1000)).active_campaigns(None).await.unwrap();
        assert!(active[0].is_due);
    }
    let read = rows_read(&mut connection).await - before;
    assert!(read <= 100, "{read} rows were read");
}

/// Rows of findings that were read so far, once that stands still: sessions report at most once a second.
async fn rows_read(connection: &mut PgConnection) -> i64 {
    let read = "SELECT (seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_all_tables WHERE relname = 'findings'";
    let mut last = -1;
    loop {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let now: i64 = sqlx::query_scalar(read)
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        if now == last {
            return now;
        }
        last = now;
    }
}
