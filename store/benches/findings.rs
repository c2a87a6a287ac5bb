//! `make bench`: how fast findings are stored, beside a bare COPY of the same rows, and what the statements of every second
//! cost as they pile up. Prints Markdown.
//!
//! Only ratios travel between machines.
#![expect(clippy::print_stdout, reason = "its table is what a benchmark is for")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use ajar_store::{Renewal, Store};
use support::*;

/// Findings in the store when it is measured.
const SIZES: [u32; 2] = [1_000, 1_000_000];
/// Observations of one batch, as workers send them.
const BATCH: u32 = 64;
/// Batches that are stored side by side.
const LANES: u32 = 4;
/// Rounds; medians are shown.
const ROUNDS: usize = 101;

#[tokio::main]
async fn main() {
    println!(
        "## The store: {} findings in batches of {BATCH} over {LANES} lanes\n",
        SIZES[1]
    );
    for (name, place) in [("SQLite", sqlite().await), ("PostgreSQL", postgres().await)] {
        measure(name, &place).await;
    }
}

async fn measure(name: &str, place: &Place) {
    let store = &*place.store;
    // Lanes report on shards of their own; the last one is granted and renewed over and over.
    submit(store, 1, u64::from(LANES) + 1).await;
    let mut columns: Vec<Vec<(&str, f64)>> = Vec::new();
    let mut stored = 0;
    for size in SIZES {
        let started = Instant::now();
        fill(store, stored, size).await;
        let rate = f64::from(size - stored) / started.elapsed().as_secs_f64();
        stored = size;
        columns.push(statements(store).await);
        if size == SIZES[1] {
            println!("{name}: {rate:.0} observations/s.");
            if place.url.starts_with("postgres") {
                let bare = f64::from(size) / copy(&place.url).await;
                println!(
                    "A bare COPY of the same rows into tables with the same indexes, in one go and one connection: \
                     {bare:.0}/s, of which the store's rate is **{:.2}**.",
                    rate / bare
                );
            }
        }
    }
    println!(
        "\n| statement | us at {} | us at {} | ratio |\n| --- | --- | --- | --- |",
        SIZES[0], SIZES[1]
    );
    for (few, many) in columns[0].iter().zip(&columns[1]) {
        let ratio = many.1 / few.1;
        println!("| {} | {:.0} | {:.0} | {ratio:.2} |", few.0, few.1, many.1);
    }
    println!();
}

/// Stores one closed relay for each number, a different address each.
async fn fill(store: &dyn Store, from: u32, to: u32) {
    let lane = async |lane: u32| {
        let shard = shard(1, lane.into());
        let token = token(store, shard, at(0)).await;
        let mut next = from + lane * BATCH;
        while next < to {
            let numbers = next..(next + BATCH).min(to);
            let seen = numbers.map(|number| {
                let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(11, 0, 0, 0)) + number);
                observation(1, &SocketAddr::from((ip, 25)).to_string(), REFUSED)
            });
            let report = batch(shard, token, seen.collect());
            store.ingest(&report).await.unwrap();
            next += LANES * BATCH;
        }
        store.release(shard, token, None).await.unwrap();
    };
    tokio::join!(lane(0), lane(1), lane(2), lane(3));
}

/// Seconds that PostgreSQL takes to copy what is stored into empty tables of the same shape.
async fn copy(url: &str) -> f64 {
    const TABLES: [&str; 3] = ["findings", "observations", "nonces"];
    // A file that the server itself writes and reads.
    let copy = |table: &str, way: &str| {
        format!(
            "DO $$ BEGIN EXECUTE format('COPY {table} {way} %L', \
             current_setting('data_directory') || '/rows'); END $$"
        )
    };
    let mut seconds = 0.0;
    for table in TABLES {
        let make = format!("CREATE TABLE bare_{table} (LIKE ajar.{table} INCLUDING ALL)");
        sql(url, &make).await.unwrap();
        let out = copy(&format!("ajar.{table}"), "TO");
        sql(url, &out).await.unwrap();
        let started = Instant::now();
        let into = copy(&format!("bare_{table}"), "FROM");
        sql(url, &into).await.unwrap();
        seconds += started.elapsed().as_secs_f64();
    }
    seconds
}

/// Microseconds of each statement that the coordinator asks every second.
async fn statements(store: &dyn Store) -> Vec<(&'static str, f64)> {
    let (id, last) = (campaign_id(1), shard(1, LANES.into()));
    let mut spent: Vec<(&str, Vec<f64>)> = Vec::new();
    let mut took = |name, started: Instant| {
        let micros = started.elapsed().as_secs_f64() * 1e6;
        match spent.iter_mut().find(|(known, _)| *known == name) {
            Some((_, all)) => all.push(micros),
            None => spent.push((name, vec![micros])),
        }
    };
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let token = token(store, last, at(2)).await;
        took("grant", started);
        now_is(at(3));
        let renewal = Renewal {
            shard: last,
            token,
            number: 0,
            rate: WANT,
            want_rate: WANT + 1,
            caps: CAPS,
            ttl: TTL,
            margin: MARGIN,
        };
        let started = Instant::now();
        store.renew(std::slice::from_ref(&renewal)).await.unwrap();
        took("renew", started);
        let started = Instant::now();
        store.release(last, token, None).await.unwrap();
        took("release", started);
        let started = Instant::now();
        on(store, at(4)).progress(id).await.unwrap();
        took("watch", started);
        let started = Instant::now();
        store.unleased_shards(None, MARGIN).await.unwrap();
        store.active_campaigns(None).await.unwrap();
        store.judge_sightings().await.unwrap();
        took("housekeeping", started);
    }
    spent
        .into_iter()
        .map(|(name, mut all)| {
            all.sort_by(f64::total_cmp);
            (name, all[all.len() / 2])
        })
        .collect()
}
