//! What campaigns observed is in tables by month in PostgreSQL, which are dropped with the last of
//! them.

mod support;

use ajar_model::{
    Campaign, CampaignId, Observation, ShardId, Sighting, Timestamp, Verdict, campaign::State,
};
use ajar_store::{Grant, GrantRequest, Options, Store, open};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use support::*;

/// The tables that are part of another one, by name.
async fn partitions(url: &str) -> Vec<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let listed = "SELECT inhrelid::regclass::text FROM pg_inherits \
        JOIN pg_class c ON c.oid = inhparent WHERE c.relkind = 'p' ORDER BY 1";
    let listed = sqlx::query_scalar(listed).fetch_all(&mut connection);
    listed.await.unwrap()
}

/// A campaign with one finding, whose id is of this time.
async fn began(store: &dyn Store, at: &str) -> (CampaignId, Sighting) {
    let at: Timestamp = at.parse().unwrap();
    let millis = u64::try_from(at.as_millisecond()).unwrap();
    let id = CampaignId(ulid::Ulid::from_parts(millis, 1));
    now_is(at);
    let new = Campaign {
        id,
        created_at: at,
        ..campaign(1)
    };
    create(store, &new, &[0..1, 1..2]).await.unwrap();
    let first = ShardId {
        campaign: id,
        number: 0,
    };
    let alone = GrantRequest {
        blocks: Vec::new(),
        ..request(first, at)
    };
    let token = match store.grant(&alone).await.unwrap() {
        Grant::Granted { token, .. } => token,
        other => panic!("{other:?}"),
    };
    // Each has a target and so a nonce of its own.
    let [.., b, c, d] = (at.as_second() / 60).to_be_bytes();
    let seen = Observation {
        campaign: id,
        ..observation(1, &format!("10.{b}.{c}.{d}:25"), ACCEPTED)
    };
    let mail = sighting(&seen, 50);
    store
        .ingest(&batch(first, token, vec![seen]))
        .await
        .unwrap();
    (id, mail)
}

async fn remove(store: &dyn Store, id: CampaignId) {
    set_state(store, id, State::Finished).await;
    let removed = store.remove_campaign(id, &entry("gone")).await;
    assert_eq!(removed.unwrap(), Some(State::Finished));
}

const FIRST: [&str; 2] = ["ajar.nonces_first", "ajar.observations_first"];

/// The tables of a month, after the first ones.
fn and(months: &[&str]) -> Vec<String> {
    let of = |month: &&str| ["nonces", "observations"].map(|table| format!("ajar.{table}_{month}"));
    let months = months.iter().flat_map(of);
    let mut all: Vec<String> = FIRST.map(str::to_owned).into_iter().chain(months).collect();
    all.sort();
    all
}

#[tokio::test]
async fn campaigns_of_a_month_share_tables_that_go_with_the_last_of_them() {
    let place = postgres().await;
    let store = &*place.store;
    submit(store, 1, 1).await;
    assert_eq!(partitions(&place.url).await, and(&[]));
    let (first, _) = began(store, "2027-01-31T23:59:59Z").await;
    let (second, _) = began(store, "2027-02-01T00:00:00Z").await;
    let (third, mail) = began(store, "2027-02-28T12:00:00Z").await;
    let both = and(&["2027_01", "2027_02"]);
    assert_eq!(partitions(&place.url).await, both);
    assert_eq!(record(store, &mail).await.unwrap().campaign, third);

    remove(store, second).await;
    assert_eq!(store.campaign(second).await.unwrap(), None);
    assert_eq!(all_findings(store).await.len(), 2);
    now_is("2027-03-01T00:00:00Z".parse().unwrap());
    store.drop_unused().await.unwrap();
    assert_eq!(
        partitions(&place.url).await,
        both,
        "one of its campaigns is left"
    );
    remove(store, first).await;
    remove(store, third).await;
    store.drop_unused().await.unwrap();
    assert_eq!(
        partitions(&place.url).await,
        and(&["2027_02"]),
        "it ended a moment ago"
    );
    now_is("2027-03-02T00:00:00Z".parse().unwrap());
    store.drop_unused().await.unwrap();
    assert_eq!(partitions(&place.url).await, and(&[]));
    // What is left is deleted a few at a time, also of months whose tables are gone.
    while store.clear_removed().await.unwrap() {}
    for table in ["findings", "removed", "open_endpoints", "counts"] {
        let left = format!("SELECT count(*) FROM {table}");
        assert_eq!(place.number(&left).await, 0, "{table}");
    }
    assert_eq!(place.number("SELECT count(*) FROM shards").await, 1);
}

#[tokio::test]
async fn a_removed_campaigns_rows_are_deleted_and_no_others() {
    let place = postgres().await;
    let store = &*place.store;
    let (gone, mail) = began(store, "2027-02-01T00:00:00Z").await;
    let (stays, other) = began(store, "2027-02-02T00:00:00Z").await;
    record(store, &mail).await.unwrap();
    record(store, &other).await.unwrap();
    let rows = async || {
        let mut rows = Vec::new();
        for table in ["observations", "nonces", "findings", "shards", "sightings"] {
            rows.push(place.number(&format!("SELECT count(*) FROM {table}")).await);
        }
        rows
    };
    assert_eq!(rows().await, [2, 2, 2, 4, 2]);
    remove(store, gone).await;
    assert_eq!(rows().await, [2, 2, 2, 4, 2]);
    assert_eq!(record(store, &mail).await, None);
    // A batch that was on its way may still bring rows for a while.
    while store.clear_removed().await.unwrap() {}
    assert_eq!(rows().await, [1, 1, 1, 2, 1]);
    assert_eq!(place.number("SELECT count(*) FROM removed").await, 1);
    now_is("2027-02-02T00:10:00Z".parse().unwrap());
    while store.clear_removed().await.unwrap() {}
    assert_eq!(place.number("SELECT count(*) FROM removed").await, 0);
    assert_eq!(all_findings(store).await[0].campaign, stays);
}

/// Locks that a look-up of a mail's nonce holds while somebody makes it wait.
async fn locks_of_a_look_up(place: &Place, mail: &Sighting) -> i64 {
    let mut outsider = PgConnection::connect(&place.url).await.unwrap();
    outsider
        .execute("BEGIN; LOCK TABLE ajar.findings IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let (store, mail) = (place.store.clone(), mail.clone());
    let recording = tokio::spawn(async move { record(&*store, &mail).await });
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND pid = \
        (SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'ajar.findings'::regclass)";
    let mut locks = 0;
    for _ in 0..500 {
        locks = sqlx::query_scalar(held)
            .fetch_one(&mut outsider)
            .await
            .unwrap();
        if locks > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    outsider.execute("ROLLBACK").await.unwrap();
    recording.await.unwrap();
    locks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mails_look_up_locks_as_much_for_a_hundred_campaigns_as_for_one() {
    let place = postgres().await;
    let store = &*place.store;
    let (_, mail) = began(store, "2027-02-01T00:00:00Z").await;
    let before = locks_of_a_look_up(&place, &mail).await;
    for minute in 0..100 {
        let at = format!("2027-02-02T{:02}:{:02}:00Z", minute / 60, minute % 60);
        began(store, &at).await;
    }
    let after = locks_of_a_look_up(&place, &mail).await;
    assert!(before > 0);
    assert_eq!(after, before);
}

#[tokio::test]
async fn nobody_waits_for_a_removal_beside_a_long_report() {
    let place = postgres().await;
    let store = &*place.store;
    let (gone, _) = began(store, "2027-01-01T00:00:00Z").await;
    let (_, mail) = began(store, "2027-02-01T00:00:00Z").await;
    let mut reader = PgConnection::connect(&place.url).await.unwrap();
    let reading = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM ajar.observations, ajar.nonces";
    reader.execute(reading).await.unwrap();
    remove(store, gone).await;
    while store.clear_removed().await.unwrap() {}
    // To drop the month's tables is to wait for the reader, and is tried again later.
    now_is("2027-03-03T00:00:00Z".parse().unwrap());
    let is_over = std::cell::Cell::new(false);
    let dropping = async {
        let dropped = store.drop_unused().await;
        is_over.set(true);
        dropped
    };
    let others = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        record(store, &mail).await.unwrap();
        began(store, "2027-03-03T00:00:00Z").await;
        assert!(!is_over.get(), "they waited for it");
    };
    let (waits, ()) = tokio::join!(dropping, others);
    assert!(waits.is_err());
    reader.execute("ROLLBACK").await.unwrap();
    store.drop_unused().await.unwrap();
    assert_eq!(partitions(&place.url).await, and(&["2027_02", "2027_03"]));
}

#[tokio::test]
async fn an_id_of_a_month_to_come_makes_no_table() {
    let place = postgres().await;
    let store = &*place.store;
    now_is("2027-02-01T00:00:00Z".parse().unwrap());
    let far = Campaign {
        id: CampaignId(ulid::Ulid::from_parts(4_000_000_000_000, 1)),
        ..campaign(1)
    };
    let refused = create(store, &far, &[0..1, 1..2]).await.unwrap_err();
    let expect = "it names a time in October 2096";
    assert!(refused.to_string().contains(expect), "{refused}");
    assert_eq!(partitions(&place.url).await, and(&[]));
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
    assert_eq!(partitions(&older).await, and(&[]));
    assert_eq!(leases(&older).await, leases(&place.url).await);
    assert_eq!(again.finding(&finding.id).await.unwrap(), before);
    let opened = record(&*again, &sighting(&seen, 60)).await.unwrap();
    assert_eq!(opened.verdict, Verdict::Open);
}
