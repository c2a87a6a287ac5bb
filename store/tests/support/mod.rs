//! Stores to test against, and small things to put into them.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod postgres;

use std::{cell::Cell, net::SocketAddr, ops::Range, sync::Arc, time::Duration};

use ajar_model::{
    Ahead, Attempt, Campaign, CampaignId, Canary, Evidence, Finding, Nonce, NonceKey, Observation,
    ProbeId, Reply, Revisits, Service, ShardId, Sighting, Spec, Tally, Tier, Timestamp, Untrusted,
    campaign::{State, Sweep},
    lease::Work,
    nonce::{Occasion, Role},
    proof::{CanaryKey, Kind, Signature64},
};
use ajar_store::{
    Admission, Advance, AuditChain, AuditEntry, AuditLink, Batch, CampaignQuery, Caps, Error,
    FindingQuery, Grant, GrantRequest, Options, Renewal, Renewed, Store, Summary, Transition,
    Unleased, open,
};
use ed25519_dalek::SigningKey;
use ipnet::IpNet;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

pub const TTL: Duration = Duration::from_secs(30);
/// How long ago a worker may have been seen.
pub const LATELY: Duration = Duration::from_secs(300);
pub const MARGIN: Duration = Duration::from_secs(5);
/// The rate that [`request`] wants, and the cap that it names.
pub const WANT: u32 = 10;
pub const CAP: u32 = 100;
pub const CAPS: Caps = Caps {
    campaign: CAP,
    authorization: None,
    site: None,
};
/// How campaigns visit again.
pub const REVISITS: Revisits = Revisits {
    most: 2,
    after_secs: 30,
    confirm_after_secs: None,
};
/// How many targets a shard of [`request`] has.
pub const TARGETS: u64 = 20_000;

/// An open store, and where it is.
pub struct Place {
    pub store: Arc<dyn Store>,
    pub url: String,
    _directory: Option<tempfile::TempDir>,
}

impl Place {
    /// The name of a table in statements of [`sql`].
    pub fn table(&self, name: &str) -> String {
        match self.url.starts_with("postgres") {
            true => format!("ajar.{name}"),
            false => name.to_owned(),
        }
    }
}

impl Place {
    /// The number that a statement reads. It names tables as they are.
    pub async fn number(&self, statement: &str) -> i64 {
        let statement = AssertSqlSafe(statement.to_owned());
        if self.url.starts_with("postgres") {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            connection.execute("SET search_path = ajar").await.unwrap();
            let number = sqlx::query_scalar(statement).fetch_one(&mut connection);
            return number.await.unwrap();
        }
        let url = format!("sqlite:{}", self.url);
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        let number = sqlx::query_scalar(statement).fetch_one(&mut connection);
        number.await.unwrap()
    }

    /// How many campaigns have other sums of their leases than these say.
    pub async fn wrong_sums(&self) -> i64 {
        self.number(
            "SELECT count(*) FROM rates r WHERE r.leases <> (SELECT count(*) FROM leases l \
             WHERE l.campaign = r.campaign) OR r.rate <> (SELECT coalesce(sum(l.rate), 0) \
             FROM leases l WHERE l.campaign = r.campaign)",
        )
        .await
    }
}

thread_local! {
    static NOW: Cell<Timestamp> = Cell::new(at(0));
}

/// Sets the clock of the stores that this thread asks, which shows the fixed moment at first.
pub fn now_is(now: Timestamp) {
    NOW.set(now);
}

/// How stores are opened whose clock [`now_is`] sets.
pub fn options() -> Options {
    Options {
        clock: Some(|| NOW.get()),
        ..Options::default()
    }
}

/// The store at a time, which its clock shows from now on.
pub fn on<S: ?Sized>(store: &S, now: Timestamp) -> &S {
    now_is(now);
    store
}

/// A store in a fresh SQLite file.
pub async fn sqlite() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let url = directory.path().join("ajar.db").display().to_string();
    Place {
        store: open(&url, &options()).await.unwrap(),
        url,
        _directory: Some(directory),
    }
}

/// A store in a fresh PostgreSQL database.
pub async fn postgres() -> Place {
    let url = postgres::fresh_database().await;
    Place {
        store: open(&url, &options()).await.unwrap(),
        url,
        _directory: None,
    }
}

/// Runs statements past the store.
pub async fn sql(url: &str, statements: &str) -> Result<(), sqlx::Error> {
    let statements = AssertSqlSafe(statements.to_owned());
    if url.starts_with("postgres") {
        let mut connection = PgConnection::connect(url).await?;
        return connection.execute(statements).await.map(drop);
    }
    let mut connection = SqliteConnection::connect(&format!("sqlite:{url}?mode=rwc")).await?;
    connection.execute(statements).await.map(drop)
}

/// So many seconds after a fixed moment.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

pub fn campaign_id(number: u128) -> CampaignId {
    CampaignId((1 << 100 | number).into())
}

/// A campaign; each number gives another id.
pub fn campaign(number: u128) -> Campaign {
    Campaign {
        id: campaign_id(number),
        spec: Spec {
            tenant: "acme".to_owned(),
            targets: vec!["10.0.0.0/8".parse().unwrap()],
            exclude: vec!["10.9.0.1-10.9.0.7".parse().unwrap()],
            hosts: Vec::new(),
            ports: "25,3128".parse().unwrap(),
            probes: vec![ProbeId::from_static("smtp-relay")],
            rate: CAP,
            prefix_rate: 5,
            tier: Tier::Deliver,
            effort: ajar_model::Effort::Normal,
            sweep: Sweep::Auto,
            retries: 1,
            settle_secs: 60,
            revisits: REVISITS,
            canary: canary("192.0.2.1"),
            authorization: None,
            traceparent: None,
        },
        key: NonceKey([7; 32]),
        created_at: at(number as i64),
        state: State::Running,
        local: false,
        revision: 0,
    }
}

/// An entry of the audit log.
pub fn entry(detail: &str) -> AuditEntry {
    AuditEntry {
        at: at(0),
        actor: "alice".to_owned(),
        action: "campaign.test".to_owned(),
        authorization: None,
        campaign: None,
        detail: detail.to_owned(),
    }
}

/// The audit log as it is stored, in pages of three.
pub async fn audit_links(store: &dyn Store) -> Vec<AuditLink> {
    let mut links: Vec<AuditLink> = Vec::new();
    loop {
        let after = links.last().map_or(0, |link| link.number);
        match store.audit_log(after, 3).await.unwrap() {
            page if page.is_empty() => return links,
            page => links.extend(page),
        }
    }
}

/// The audit log, whose chain must be whole.
pub async fn audit_log(store: &dyn Store) -> Vec<AuditEntry> {
    let links = audit_links(store).await;
    let mut chain = AuditChain::new();
    links.iter().for_each(|link| chain.check(link).unwrap());
    links.into_iter().map(|link| link.entry).collect()
}

/// Stores a campaign with these shards.
pub async fn create(
    store: &dyn Store,
    campaign: &Campaign,
    shards: &[Range<u64>],
) -> Result<(), Error> {
    let admission = Admission {
        campaign,
        shards,
        pairs: 0,
        authorization: None,
        audit: &entry("create"),
    };
    store.create_campaign(&admission).await
}

/// Moves a campaign, whatever state it is in.
pub async fn set_state(store: &dyn Store, id: CampaignId, to: State) {
    let transition = Transition {
        id,
        from: &State::ALL,
        to,
        cause: None,
        not_before: None,
        audit: &entry("set"),
    };
    assert!(store.transition(&transition).await.unwrap());
}

pub fn canary(address: &str) -> Canary {
    Canary {
        domain: "canary.example".to_owned(),
        other_domain: None,
        address: address.parse().unwrap(),
        smtp: 25,
        http: 80,
        https: 443,
        raw: 9999,
        key: CanaryKey::from(&canary_key()),
    }
}

/// Stores campaign `number` with so many shards of one block each, and names its first one.
pub async fn submit(store: &dyn Store, number: u128, shards: u64) -> ShardId {
    let ranges: Vec<Range<u64>> = (0..shards).map(|block| block..block + 1).collect();
    create(store, &campaign(number), &ranges).await.unwrap();
    shard(number, 0)
}

pub fn shard(campaign: u128, number: u64) -> ShardId {
    ShardId {
        campaign: campaign_id(campaign),
        number,
    }
}

/// A shard of a sweep, without a lease.
pub fn unleased(shard: ShardId) -> Unleased {
    Unleased {
        shard,
        is_revisit: false,
    }
}

pub fn block(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A request for a shard that touches one block, its own. Sets the clock to the time at which it is
/// made.
pub fn request(shard: ShardId, now: Timestamp) -> GrantRequest {
    now_is(now);
    let own = format!("10.{}.{}.0/24", shard.campaign.0.0 as u8, shard.number);
    GrantRequest {
        shard,
        revision: 0,
        owner: "worker-1".to_owned(),
        vantage: "local".to_owned(),
        blocks: vec![block(&own)],
        targets: TARGETS,
        want_rate: WANT,
        caps: CAPS,
        ttl: TTL,
        margin: MARGIN,
    }
}

/// A renewal that asks for what was granted. Sets the clock to the time at which it is made.
pub fn renewal(shard: ShardId, token: u64, now: Timestamp) -> Renewal {
    now_is(now);
    Renewal {
        shard,
        token,
        number: 0,
        rate: WANT,
        want_rate: WANT,
        caps: CAPS,
        ttl: TTL,
        margin: MARGIN,
    }
}

/// Renews one lease.
pub async fn renewed(store: &dyn Store, renewal: &Renewal) -> Renewed {
    let renewed = store.renew(std::slice::from_ref(renewal)).await.unwrap();
    let [renewed] = renewed[..] else {
        panic!("{renewed:?}");
    };
    renewed
}

/// The token of a grant that must succeed.
pub async fn token(store: &dyn Store, shard: ShardId, now: Timestamp) -> u64 {
    token_of(store, shard, now, TARGETS).await
}

/// The same for a shard of so many targets.
pub async fn token_of(store: &dyn Store, shard: ShardId, now: Timestamp, targets: u64) -> u64 {
    let request = GrantRequest {
        targets,
        ..request(shard, now)
    };
    match store.grant(&request).await.unwrap() {
        Grant::Granted { token, .. } => token,
        other => panic!("{shard}: {other:?}"),
    }
}

pub fn batch(shard: ShardId, token: u64, observations: Vec<Observation>) -> Batch {
    Batch {
        shard,
        token,
        observations,
        progress: None,
        ahead: Ahead::default(),
        lost_replies: 0,
    }
}

/// Closes a shard with these observations: a revisit, or a sweep of three targets.
pub async fn close(store: &dyn Store, shard: ShardId, observations: Vec<Observation>) {
    let targets = match store.work(shard).await.unwrap() {
        Some(Work::Revisit { endpoints, .. }) => endpoints.len() as u64,
        _ => 3,
    };
    let token = token_of(store, shard, at(0), targets).await;
    let last = Batch {
        progress: Some(advance(0, targets, true)),
        ..batch(shard, token, observations)
    };
    store.ingest(&last).await.unwrap();
}

/// A move whose every slot was silent.
pub fn advance(from: u64, to: u64, closes: bool) -> Advance {
    Advance {
        from,
        to,
        tally: Tally {
            silent: to - from,
            ..Tally::default()
        },
        closes,
    }
}

pub const ACCEPTED: Reply = Reply::Accepted { code: 250 };
pub const REFUSED: Reply = Reply::Refused { code: 550 };
pub const LATER: Reply = Reply::Temporary { code: 451 };

/// What `smtp-relay` saw from vantage `local`: one mail, answered like this.
pub fn observation(campaign: u128, endpoint: &str, reply: Reply) -> Observation {
    seen(campaign, endpoint, "local", 10, reply)
}

/// The same from another vantage point, `finished` seconds after the fixed moment.
pub fn seen(
    campaign: u128,
    endpoint: &str,
    vantage: &str,
    finished: i64,
    reply: Reply,
) -> Observation {
    let endpoint: SocketAddr = endpoint.parse().unwrap();
    let campaign = campaign_id(campaign);
    let probe = ProbeId::from_static("smtp-relay");
    let occasion = Occasion {
        campaign,
        endpoint,
        vantage,
        round: 0,
    };
    let nonce = NonceKey([7; 32]).nonce(&occasion, &probe, "plain", Role::Destination);
    Observation {
        campaign,
        endpoint,
        probe,
        vantage: vantage.to_owned(),
        started_at: at(finished - 2),
        finished_at: at(finished),
        visit: 1,
        round: 0,
        evidence: Evidence {
            service: Some(Service::from_static("smtp")),
            banner: Some(Untrusted::from("220 mail.example ESMTP".to_owned())),
            attempts: vec![Attempt {
                variant: "plain".to_owned(),
                kind: Kind::Mail,
                nonce,
                port: None,
                reply,
                sent: None,
                returns: false,
                turned_away: false,
                is_ignored: false,
                answer: None,
                at: at(finished - 1),
            }],
            ..Evidence::default()
        },
    }
}

pub fn nonce(observation: &Observation) -> Nonce {
    observation.evidence.attempts[0].nonce
}

/// The mail of an observation's first attempt, received `seconds` after the fixed moment.
pub fn sighting(observation: &Observation, seconds: i64) -> Sighting {
    Sighting {
        nonce: nonce(observation),
        egress_ip: "198.51.100.9".parse().unwrap(),
        received_at: at(seconds),
        helo: Untrusted::from("relay.example".to_owned()),
        mail_from: Untrusted::from("a@example.org".to_owned()),
        rcpt_to: Untrusted::from("n@canary.example".to_owned()),
        header: Untrusted::from("Received: from \0 somewhere".to_owned()),
        signature: Signature64::default(),
    }
    .signed(&canary_key())
}

fn canary_key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

/// Records one mail, and says what it changed.
pub async fn record(store: &dyn Store, mail: &Sighting) -> Option<Finding> {
    let recorded = store.record_sightings(std::slice::from_ref(mail)).await;
    recorded.unwrap().changed.pop()
}

/// Every campaign, as lists show it.
pub async fn campaigns(store: &dyn Store) -> Vec<Summary> {
    let query = CampaignQuery {
        limit: 10_000,
        ..CampaignQuery::default()
    };
    store.summaries(&query).await.unwrap()
}

/// Every finding of every campaign.
pub async fn all_findings(store: &dyn Store) -> Vec<Finding> {
    let query = FindingQuery {
        limit: 10_000,
        ..FindingQuery::default()
    };
    store.findings(&query).await.unwrap()
}

/// Everything that is known of each finding, in the order of results.
pub async fn table(store: &dyn Store) -> Vec<(Finding, Vec<Observation>)> {
    let mut table = Vec::new();
    for finding in all_findings(store).await {
        table.push(store.finding(&finding.id).await.unwrap().unwrap());
    }
    table
}
