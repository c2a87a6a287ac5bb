//! Whatever the order, whatever is delivered twice: the same table. And whatever is asked for: exclusive leases.

mod support;

use std::{collections::HashMap, future::Future};

use ajar_model::{Observation, ShardId, Sighting};
use ajar_store::{Grant, GrantRequest, Renewal, Renewed, Store};
use ipnet::IpNet;
use proptest::{collection::vec, prelude::*, sample::Index};
use support::*;

fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// Something that reaches the store.
#[derive(Debug, Clone)]
enum Event {
    Batch(Vec<Observation>),
    Mail(Sighting),
}

fn any_observation() -> impl Strategy<Value = Observation> {
    (1..4_u8, 0..3_u8, 10..14_i64, 0..4_u8, 1..3_u32, 0..2_u32).prop_map(
        |(host, from, end, reply, visit, round)| {
            let reply = match reply {
                0 => ACCEPTED,
                1 => REFUSED,
                2 => ajar_model::Reply::Temporary { code: 451 },
                _ => ajar_model::Reply::AuthRequired { code: 530 },
            };
            let endpoint = format!("10.0.0.{host}:25");
            let vantage = format!("vantage-{from}");
            Observation {
                started_at: at(end - i64::from(host) - i64::from(visit)),
                visit,
                round,
                ..seen(1, &endpoint, &vantage, end, reply)
            }
        },
    )
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => vec(any_observation(), 1..5).prop_map(Event::Batch),
        1 => (any_observation(), 40..44_i64).prop_map(|(o, at)| Event::Mail(sighting(&o, at))),
    ]
}

async fn outcome(events: &[Event]) -> Vec<(ajar_model::Finding, Vec<Observation>)> {
    let place = sqlite().await;
    let store = &place.store;
    let shard = submit(&**store, 1, 1).await;
    let token = token(&**store, shard, at(0)).await;
    for event in events {
        match event {
            Event::Batch(seen) => drop(
                store
                    .ingest(&batch(shard, token, seen.clone()))
                    .await
                    .unwrap(),
            ),
            Event::Mail(mail) => drop(record(&**store, mail).await),
        }
    }
    table(&**store).await
}

#[derive(Debug, Clone)]
enum Step {
    Grant { shard: u64, blocks: u8, want: u32 },
    Renew { lease: Index, want: u32 },
    Release { lease: Index },
    Wait { seconds: i64 },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u64, 1..8_u8, 0..80_u32)
            .prop_map(|(shard, blocks, want)| Step::Grant { shard, blocks, want }),
        3 => (any::<Index>(), 0..80_u32).prop_map(|(lease, want)| Step::Renew { lease, want }),
        1 => any::<Index>().prop_map(|lease| Step::Release { lease }),
        3 => (0..25_i64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// A lease as its worker sees it.
#[derive(Debug, Clone)]
struct Lease {
    shard: ShardId,
    token: u64,
    blocks: Vec<IpNet>,
    rate: u32,
    until: i64,
}

/// Leases by what their workers were told, and the clock.
#[derive(Default)]
struct Workers {
    now: i64,
    last_token: u64,
    leases: Vec<Lease>,
}

impl Workers {
    async fn take(&mut self, store: &dyn Store, step: Step) {
        match step {
            Step::Wait { seconds } => self.now += seconds,
            Step::Grant {
                shard,
                blocks,
                want,
            } => self.grant(store, shard, blocks, want).await,
            Step::Renew { lease, want } => self.renew(store, &lease, want).await,
            Step::Release { lease } => {
                if !self.leases.is_empty() {
                    let lease = self.leases.remove(lease.index(self.leases.len()));
                    store.release(lease.shard, lease.token, None).await.unwrap();
                }
            }
        }
        self.check();
    }

    async fn grant(&mut self, store: &dyn Store, number: u64, blocks: u8, want_rate: u32) {
        let shard = shard(u128::from(number % 2), number / 2);
        let blocks = (0..3).filter(|bit| blocks >> bit & 1 == 1);
        let request = GrantRequest {
            blocks: blocks.map(|n| block(&format!("10.0.{n}.0/24"))).collect(),
            want_rate,
            ..request(shard, at(self.now))
        };
        let answer = store.grant(&request).await.unwrap();
        let Grant::Granted { token, rate, .. } = answer else {
            return assert_ne!(answer, Grant::NotOpen);
        };
        assert!(token > self.last_token && rate >= 1 && rate <= want_rate.max(1));
        self.last_token = token;
        self.leases.push(Lease {
            shard,
            token,
            blocks: request.blocks,
            rate,
            until: self.now + TTL.as_secs() as i64,
        });
    }

    async fn renew(&mut self, store: &dyn Store, which: &Index, want_rate: u32) {
        if self.leases.is_empty() {
            return;
        }
        let at_index = which.index(self.leases.len());
        let lease = &mut self.leases[at_index];
        now_is(at(self.now));
        let renewal = Renewal {
            shard: lease.shard,
            token: lease.token,
            number: 0,
            rate: lease.rate,
            want_rate,
            caps: CAPS,
            ttl: TTL,
            margin: MARGIN,
        };
        match renewed(store, &renewal).await {
            Renewed::Kept { rate, .. } => {
                assert!(rate >= lease.rate.min(want_rate.max(1)));
                assert!(rate <= lease.rate.max(want_rate.max(1)));
                lease.rate = rate;
                lease.until = self.now + TTL.as_secs() as i64;
            }
            Renewed::Fenced => {
                assert!(
                    lease.until + MARGIN.as_secs() as i64 <= self.now,
                    "{lease:?}"
                );
                self.leases.remove(at_index);
            }
            Renewed::Stopped => panic!("the campaign is running"),
        }
    }

    fn check(&self) {
        let live = |lease: &&Lease| lease.until + MARGIN.as_secs() as i64 > self.now;
        let mut rates: HashMap<_, u32> = HashMap::new();
        let mut holders: HashMap<IpNet, &Lease> = HashMap::new();
        for lease in self.leases.iter().filter(live) {
            *rates.entry(lease.shard.campaign).or_default() += lease.rate;
            for block in &lease.blocks {
                let other = holders.insert(*block, lease);
                assert!(other.is_none(), "{block} in {lease:?} and {other:?}");
            }
        }
        assert!(rates.values().all(|rate| *rate <= CAP), "{rates:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_order_and_number_of_deliveries_make_no_difference(
        events in vec(any_event(), 1..8),
        shuffled in any::<prop::sample::Selector>(),
        repeated in vec(any::<Index>(), 0..4),
    ) {
        let mut others = events.clone();
        others.extend(repeated.iter().map(|index| index.get(&events).clone()));
        let mut left = others;
        let mut order = Vec::new();
        while !left.is_empty() {
            let at = shuffled.select(0..left.len());
            order.push(left.swap_remove(at));
        }
        let (expect, found) = run(async { (outcome(&events).await, outcome(&order).await) });
        prop_assert_eq!(expect, found);
    }

    #[test]
    fn live_leases_share_no_block_and_no_more_than_the_cap(steps in vec(any_step(), 1..40)) {
        run(async {
            let place = sqlite().await;
            for number in 0..2 {
                submit(&*place.store, number, 3).await;
            }
            let mut workers = Workers::default();
            for step in steps {
                workers.take(&*place.store, step).await;
            }
            assert_eq!(place.wrong_sums().await, 0);
        });
    }
}
