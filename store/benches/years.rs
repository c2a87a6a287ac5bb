//! `make bench`: what a user waits for in a store that has been filled for more than a year. Prints
//! Markdown.
//!
//! A few campaigns are reported as workers report them; PostgreSQL copies their rows for the
//! others.
#![expect(clippy::print_stdout, reason = "its table is what a benchmark is for")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use ajar_model::{
    Campaign, CampaignId, Observation, ShardId, Sighting, Timestamp, Verdict, campaign::State,
};
use ajar_store::{CampaignQuery, FindingQuery, Grant, GrantRequest, Store};
use support::*;
use ulid::Ulid;

/// Campaigns, and how many findings each has.
const CAMPAIGNS: u32 = 2_000;
const FINDINGS: u32 = 5_000;
/// Campaigns that are reported, each of which is copied so many times.
const COPIES: u32 = 50;
const TENANTS: u32 = 40;
/// Of so many endpoints one accepts a mail, and of twice as many one relays it.
const ACCEPTS: u32 = 50;
/// The last so many campaigns still run.
const RUNNING: u32 = 40;
/// Days between the first campaign and the last.
const DAYS: u64 = 450;
const BATCH: u32 = 250;
const PAGE: u32 = 100;
const ROUNDS: u32 = 500;

/// When the first campaign began.
const BEGAN: &str = "2027-01-01T00:00:00Z";

#[tokio::main]
async fn main() {
    let place = postgres().await;
    let store = &*place.store;
    let started = Instant::now();
    let (campaigns, mut mails) = fill(&place).await;
    println!(
        "## The store after {DAYS} days: {CAMPAIGNS} campaigns of {TENANTS} tenants, {} findings in PostgreSQL\n",
        CAMPAIGNS * FINDINGS
    );
    let rows = place.number("SELECT count(*) FROM findings").await;
    assert_eq!(rows, i64::from(CAMPAIGNS * FINDINGS));
    let bytes = place
        .number("SELECT pg_database_size(current_database())")
        .await;
    println!(
        "It was filled in {:.0} s and takes {:.1} GB. The server has 32 MB of buffers of its own.\n",
        started.elapsed().as_secs_f64(),
        bytes as f64 / 1e9
    );
    println!("| what | ms, median | ms, p99 | ms, most |\n| --- | --- | --- | --- |");
    let mut times = Times::default();
    for round in 0..ROUNDS {
        one_round(store, &campaigns, round, &mut mails, &mut times).await;
    }
    times.print();
}

/// Asks for everything once.
async fn one_round(
    store: &dyn Store,
    campaigns: &[Campaign],
    round: u32,
    mails: &mut Vec<Sighting>,
    times: &mut Times,
) {
    let campaign = |number: u32| &campaigns[number as usize % campaigns.len()];
    // A step that has no divisor in common with their number.
    let any = campaign(round * 787);
    let running = campaign(CAMPAIGNS - 1 - round % RUNNING);

    let mail = mails.pop().expect("enough of them");
    let found = times
        .took("a mail that proves a finding", record(store, &mail))
        .await;
    assert_eq!(found.expect("a finding").verdict, Verdict::Open);

    let shard = ShardId {
        campaign: running.id,
        number: u64::from(round / RUNNING % 16),
    };
    let request = GrantRequest {
        blocks: vec![block("192.0.2.0/24")],
        ..request(shard, after(0))
    };
    let granted = times.took("a grant", store.grant(&request)).await.unwrap();
    let Grant::Granted { token, .. } = granted else {
        panic!("{granted:?}");
    };
    store.release(shard, token, None).await.unwrap();

    let list = CampaignQuery {
        tenants: None,
        after: None,
        limit: PAGE,
    };
    let listed = times
        .took("the first campaigns", store.summaries(&list))
        .await;
    assert_eq!(listed.unwrap().len(), PAGE as usize);
    let of_tenant = CampaignQuery {
        tenants: Some(vec![any.spec.tenant.clone()]),
        ..list
    };
    let listed = times
        .took("those of a tenant", store.summaries(&of_tenant))
        .await;
    assert_eq!(listed.unwrap().len(), (CAMPAIGNS / TENANTS) as usize);

    let first = FindingQuery {
        campaign: Some(any.id),
        limit: PAGE,
        ..FindingQuery::default()
    };
    let page = times
        .took("the first findings of a campaign", store.findings(&first))
        .await;
    assert_eq!(page.unwrap().len(), PAGE as usize);
    let open = FindingQuery {
        verdicts: vec![Verdict::Open],
        ..first
    };
    let page = times.took("its open ones", store.findings(&open)).await;
    assert!(!page.unwrap().is_empty());
    let of_tenant = FindingQuery {
        campaign: None,
        tenants: Some(vec![any.spec.tenant.clone()]),
        ..open
    };
    let page = times
        .took(
            "the first open ones of a tenant",
            store.findings(&of_tenant),
        )
        .await;
    assert_eq!(page.unwrap().len(), PAGE as usize);
    let of_all = FindingQuery {
        tenants: None,
        verdicts: Vec::new(),
        ..of_tenant
    };
    let page = times
        .took("the first of all", store.findings(&of_all))
        .await;
    assert_eq!(page.unwrap().len(), PAGE as usize);
    let active = times
        .took("what campaigns wait for", store.active_campaigns(None))
        .await;
    assert_eq!(active.unwrap().len(), RUNNING as usize);
}

/// What things took, by name, in the order of their first time.
#[derive(Default)]
struct Times(Vec<(&'static str, Vec<Duration>)>);

impl Times {
    async fn took<T>(&mut self, name: &'static str, done: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let done = done.await;
        let took = started.elapsed();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, times)) => times.push(took),
            None => self.0.push((name, vec![took])),
        }
        done
    }

    fn print(self) {
        for (name, mut times) in self.0 {
            times.sort_unstable();
            let at = |percent: usize| {
                let place = (times.len() * percent).div_ceil(100);
                times[place.saturating_sub(1)].as_secs_f64() * 1e3
            };
            println!(
                "| {name} | {:.1} | {:.1} | {:.1} |",
                at(50),
                at(99),
                at(100)
            );
        }
    }
}

/// So many seconds after the first campaign began.
fn after(seconds: u64) -> Timestamp {
    let began: Timestamp = BEGAN.parse().unwrap();
    began.saturating_add(Duration::from_secs(seconds)).unwrap()
}

/// Fills the store. Returns the campaigns, and mails that have not arrived.
async fn fill(place: &Place) -> (Vec<Campaign>, Vec<Sighting>) {
    let store = &*place.store;
    let mut campaigns = Vec::new();
    for number in 0..CAMPAIGNS {
        let new = made_up(number);
        now_is(new.created_at);
        let shards: Vec<_> = (0..16).map(|block| block..block + 1).collect();
        create(store, &new, &shards).await.unwrap();
        campaigns.push(new);
    }
    let mut mails = Vec::new();
    for group in campaigns.chunks(COPIES as usize) {
        mails.extend(report(store, &group[0]).await);
        copy(&place.url, group).await;
    }
    let ended = campaigns.len() - RUNNING as usize;
    for campaign in &campaigns[..ended] {
        set_state(store, campaign.id, State::Finished).await;
    }
    sql(&place.url, "VACUUM ANALYZE").await.unwrap();
    (campaigns, mails)
}

/// A campaign, by its place among all.
fn made_up(number: u32) -> Campaign {
    let step = DAYS * 24 * 3600 / u64::from(CAMPAIGNS);
    let created_at = after(u64::from(number) * step);
    let millis = u64::try_from(created_at.as_millisecond()).unwrap();
    let mut new = Campaign {
        id: CampaignId(Ulid::from_parts(millis, u128::from(number))),
        created_at,
        ..campaign(1)
    };
    new.spec.tenant = format!("tenant-{}", number % TENANTS);
    new
}

/// Reports a campaign's findings, and half of the mails that are relayed. Returns the other half.
async fn report(store: &dyn Store, campaign: &Campaign) -> Vec<Sighting> {
    let shard = ShardId {
        campaign: campaign.id,
        number: 0,
    };
    let granted = store.grant(&request(shard, campaign.created_at)).await;
    let Grant::Granted { token, .. } = granted.unwrap() else {
        panic!("{shard} is not granted");
    };
    let group = campaign.id.0.random() as u32 / COPIES;
    let base = u32::from(Ipv4Addr::new(11, 0, 0, 0)) + (group << 16);
    let seen = |number: u32| {
        let reply = match number.is_multiple_of(ACCEPTS) {
            true => ACCEPTED,
            false => REFUSED,
        };
        let endpoint = SocketAddr::from((Ipv4Addr::from(base + number), 25));
        Observation {
            campaign: campaign.id,
            ..observation(1, &endpoint.to_string(), reply)
        }
    };
    let mut mails = Vec::new();
    for first in (0..FINDINGS).step_by(BATCH as usize) {
        let seen: Vec<Observation> = (first..first + BATCH).map(seen).collect();
        let accepted = seen.iter().step_by(ACCEPTS as usize);
        mails.extend(accepted.map(|seen| sighting(seen, 50)));
        store.ingest(&batch(shard, token, seen)).await.unwrap();
    }
    store.release(shard, token, None).await.unwrap();
    let later = mails.split_off(mails.len() / 2);
    store.record_sightings(&mails).await.unwrap();
    later
}

/// Gives the other campaigns of a group what the first has.
async fn copy(url: &str, group: &[Campaign]) {
    let first = group[0].id;
    let others: Vec<String> = group[1..].iter().map(|one| one.id.to_string()).collect();
    let others = format!("'{{{}}}'::text[]", others.join(","));
    let statements = format!(
        "INSERT INTO ajar.findings (campaign, ip, port, probe, id, verdict, awaits_mail, body, visits) \
         SELECT c.id, ip, port, probe, left(md5(c.id || f.id), length(f.id)), verdict, awaits_mail, \
         replace(body::text, '{first}', c.id)::json, visits \
         FROM unnest({others}) c (id), ajar.findings f WHERE campaign = '{first}' ORDER BY c.id, row; \
         CREATE TEMPORARY TABLE copies AS SELECT f.row AS source, n.row, n.campaign \
         FROM ajar.findings f JOIN ajar.findings n USING (ip, port, probe) \
         WHERE f.campaign = '{first}' AND n.campaign = ANY ({others}); \
         INSERT INTO ajar.observations (campaign, finding, vantage, round, started_at, finished_at, visit, evidence) \
         SELECT n.campaign, n.row, vantage, round, started_at, finished_at, visit, evidence \
         FROM copies n JOIN ajar.observations o ON o.finding = n.source WHERE o.campaign = '{first}'; \
         INSERT INTO ajar.nonces (campaign, nonce, finding) \
         SELECT n.campaign, left(md5(n.campaign || nonce), length(nonce)), n.row \
         FROM copies n JOIN ajar.nonces o ON o.finding = n.source WHERE o.campaign = '{first}'; \
         INSERT INTO ajar.counts SELECT (jsonb_populate_record(o, jsonb_build_object('campaign', c.id))).* \
         FROM unnest({others}) c (id), ajar.counts o WHERE campaign = '{first}'; \
         INSERT INTO ajar.open_endpoints (campaign, ip, port) SELECT c.id, ip, port \
         FROM unnest({others}) c (id), ajar.open_endpoints WHERE campaign = '{first}';"
    );
    sql(url, &statements).await.unwrap();
}
