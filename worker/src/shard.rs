//! One shard: its targets in order, paced, visited side by side, reported in batches.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ajar_model::{Observation, shard::ShardSpace};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    progress::Progress,
    report::Reporter,
    visit::{Visited, Visitor},
};

/// Visits that may wait for the pace at the same time. Further connections of running conversations wait in
/// the same order, and must not wait long.
const TURNS: usize = 32;
/// Finished targets that may lie ahead of the slowest one.
const SPREAD: usize = 1 << 16;
/// Observations of one batch: with their transcripts about 1 MiB.
const BATCH: usize = 64;
/// How long an observation waits for company.
const LINGER: Duration = Duration::from_millis(200);

/// The targets of a lease.
pub enum Targets {
    /// Those of a range of blocks.
    Space(ShardSpace),
    /// Endpoints that are visited once more.
    List(Vec<SocketAddr>),
}

impl Targets {
    /// How many there are.
    pub fn len(&self) -> u64 {
        match self {
            Targets::Space(space) => space.targets(),
            Targets::List(list) => list.len() as u64,
        }
    }

    fn get(&self, number: u64) -> SocketAddr {
        match self {
            Targets::Space(space) => space.target(number),
            Targets::List(list) => list[number as usize],
        }
    }
}

/// Runs a shard from `cursor` on, until it is done or `stop` is asked for. What was begun is then dropped, and what was
/// observed is reported. True where every target has its outcome.
pub async fn run(
    targets: &Targets,
    cursor: u64,
    visitor: Arc<Visitor>,
    capacity: Arc<Semaphore>,
    reporter: &mut Reporter,
    stop: &CancellationToken,
) -> bool {
    let mut run = Run {
        progress: Progress::new(cursor),
        observations: Vec::new(),
        flush_at: None,
        total: targets.len(),
        reporter,
    };
    let turns = Arc::new(Semaphore::new(TURNS));
    let mut visits: JoinSet<(u64, Option<Visited>)> = JoinSet::new();
    let mut next = cursor;
    loop {
        let may_start = next < run.total && run.progress.spread() < SPREAD;
        let places = async {
            let turn = Arc::clone(&turns).acquire_owned().await;
            let place = Arc::clone(&capacity).acquire_owned().await;
            (turn.expect("never closed"), place.expect("never closed"))
        };
        let flush_at = run.flush_at.unwrap_or_else(|| Instant::now() + LINGER);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(visit) = visits.join_next() => {
                // A lost visit leaves its shard open; it is granted again.
                let Ok((number, visited)) = visit else { break };
                let Some(visited) = visited else { break };
                if !run.finish(number, visited).await {
                    break;
                }
            }
            () = sleep_until(flush_at), if run.flush_at.is_some() => {
                if !run.flush().await {
                    break;
                }
            }
            (turn, place) = places, if may_start => {
                let (visitor, number, endpoint) = (Arc::clone(&visitor), next, targets.get(next));
                let visit = async move {
                    let visited = visitor.visit(endpoint, turn).await;
                    drop(place);
                    (number, visited)
                };
                visits.spawn(visit.in_current_span());
                next += 1;
            }
        }
        if run.progress.cursor() == run.total {
            break;
        }
    }
    visits.shutdown().await;
    run.flush().await && run.progress.cursor() == run.total
}

struct Run<'a> {
    progress: Progress,
    observations: Vec<Observation>,
    /// When the oldest unreported result has waited long enough.
    flush_at: Option<Instant>,
    total: u64,
    reporter: &'a mut Reporter,
}

impl Run<'_> {
    /// False once nothing more can be reported.
    async fn finish(&mut self, number: u64, visited: Visited) -> bool {
        self.progress.finish(number, visited.outcome);
        self.observations.extend(visited.observations);
        self.flush_at.get_or_insert_with(|| Instant::now() + LINGER);
        self.observations.len() < BATCH || self.flush().await
    }

    async fn flush(&mut self) -> bool {
        self.flush_at = None;
        let run = self.progress.advance();
        let closes = self.progress.cursor() == self.total;
        if run.is_none() && self.observations.is_empty() {
            return true;
        }
        let observations = std::mem::take(&mut self.observations);
        self.reporter.send(&observations, run, closes).await
    }
}
