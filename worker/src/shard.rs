//! One shard: its targets in order, paced, visited side by side, reported in batches.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ajar_model::{Observation, Tally, Targets, Tier};
use ajar_proto::v1;
use ajar_sweep::syn::Syn;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    egress::Unvisited,
    places::Places,
    progress::{Progress, Run},
    report::Reporter,
    sweep::{Sweep, Tools},
    turn::{Starting, Turn},
    visit::{Visited, Visitor},
};

/// Observations of one batch: with their transcripts about 1 MiB; and those that have none.
const BATCH: usize = 64;
const BARE_BATCH: usize = 1024;
/// How long an observation waits for company.
const LINGER: Duration = Duration::from_millis(200);
/// How long the news waits that targets were finished beyond a cursor that stands still.
const STANDSTILL: Duration = Duration::from_secs(1);

/// Targets that were found open and wait for their visit: with more of them, no SYN is sent.
const UNVISITED: usize = 4096;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    /// Every target has its outcome.
    Done,
    /// It was stopped, or the lease ended.
    Stopped,
    Fault(String),
    /// Something broke that another attempt may not mend.
    Broken(String),
}

/// What a run needs beside its targets.
pub struct Context<'a> {
    pub visitor: Arc<Visitor>,
    /// What finds the targets that are worth a visit; none if each one is visited.
    pub syn: Option<Arc<Syn>>,
    /// Shared by all leases.
    pub places: Arc<Places>,
    /// Visits that may wait for their first connection.
    pub turns: usize,
    pub reporter: &'a mut Reporter,
    /// Called once, when the first connection to every target was let go.
    pub all_started: Box<dyn FnOnce() + Send + Sync>,
}

/// Visits the targets from `range.start` to before `range.end` that may be open, until all are done or `stop` is asked for.
/// What was begun is then dropped, and what was observed is reported.
pub async fn run(
    targets: &Targets,
    range: std::ops::Range<u64>,
    context: Context<'_>,
    stop: &CancellationToken,
) -> Ran {
    let Context {
        visitor,
        syn,
        places,
        turns,
        reporter,
        all_started,
    } = context;
    let turns = Arc::new(Semaphore::new(turns));
    let mut starting = Some(Starting::new(all_started));
    // Either each target is visited, or those that the sweep finds open.
    let mut each = range.clone();
    let mut open = VecDeque::new();
    let lost = Arc::new(AtomicU64::new(0));
    let mut sweep = match (syn, targets) {
        (Some(syn), Targets::Space(space)) => {
            each.start = range.end;
            let tools = Tools {
                syn,
                visitor: Arc::clone(&visitor),
                turns: Arc::clone(&turns),
                starting: starting.take(),
                lost: Arc::clone(&lost),
            };
            Some(Sweep::new(space, range.clone(), tools))
        }
        _ => None,
    };
    let batch = match visitor.spec.tier {
        Tier::Connect => BARE_BATCH,
        _ => BATCH,
    };
    let mut results = Results::new(range.clone(), batch, lost, reporter);
    let mut visits: JoinSet<(u64, Result<Visited, Unvisited>)> = JoinSet::new();
    let ran = loop {
        if results.is_whole() {
            // The batch that closes the shard gives its rate to others.
            visitor.egress.end();
        }
        if results.is_done() {
            break Ran::Done;
        }
        if each.is_empty() {
            starting = None;
        }
        // No credit, no probes: what was seen must be stored before more is looked at.
        let credit = results.outbox.is_empty();
        let may_start = credit && !(each.is_empty() && open.is_empty());
        let may_sweep = credit && open.len() < UNVISITED;
        let swept = async {
            match &mut sweep {
                Some(sweep) => sweep.step(&mut results.progress, may_sweep).await,
                None => pending().await,
            }
        };
        let entered = async {
            let turn = Arc::clone(&turns).acquire_owned().await;
            let place = Arc::clone(&places).enter().await;
            (turn.expect("never closed"), place)
        };
        let batch_at = results.batch_at.unwrap_or_else(|| Instant::now() + LINGER);
        tokio::select! {
            biased;
            () = stop.cancelled() => break Ran::Stopped,
            permit = results.reporter.ready(), if !results.outbox.is_empty() => {
                let Some(permit) = permit else { break Ran::Stopped };
                results.send(permit);
            }
            Some(visit) = visits.join_next() => match visit {
                Ok((number, Ok(visited))) => results.finish(number, visited),
                Ok((number, Err(Unvisited::Crowded))) => open.push_back(number),
                Ok((_, Err(Unvisited::Ended))) => break Ran::Stopped,
                Ok((_, Err(Unvisited::Fault(cause)))) => break Ran::Fault(cause),
                Err(error) => break Ran::Broken(format!("a visit was lost: {error}")),
            },
            () = sleep_until(batch_at), if results.batch_at.is_some() => results.pack(),
            (turn, place) = entered, if may_start => {
                let number = open.pop_front().or_else(|| {
                    let number = each.next()?;
                    results.progress.begin(number);
                    Some(number)
                });
                let Some(number) = number else { continue };
                let (visitor, endpoint) = (Arc::clone(&visitor), targets.get(number));
                let turn = Turn::new(turn, starting.clone());
                let visit = async move {
                    let visited = visitor.visit(endpoint, turn).await;
                    drop(place);
                    (number, visited)
                };
                visits.spawn(visit.in_current_span());
            }
            swept = swept => match swept {
                Ok(found) if visitor.spec.tier == Tier::Connect => {
                    for found in found {
                        let visited = visitor.discovered(found.endpoint, found.ours);
                        results.finish(found.number, visited);
                    }
                    results.swept();
                }
                Ok(found) => {
                    open.extend(found.into_iter().map(|found| found.number));
                    results.swept();
                }
                Err(Unvisited::Fault(cause)) => break Ran::Fault(cause),
                Err(Unvisited::Ended | Unvisited::Crowded) => break Ran::Stopped,
            }
        }
    };
    drop(sweep);
    visits.shutdown().await;
    results.deliver().await;
    ran
}

/// Counts targets by their outcome.
fn count(tally: &Tally) {
    for (outcome, targets) in [
        ("answered", tally.answered),
        ("refused", tally.refused),
        ("silent", tally.silent),
        ("unreachable", tally.unreachable),
        ("denied", tally.denied),
        ("failed", tally.failed),
    ] {
        metrics::counter!("ajar_targets_total", "outcome" => outcome).increment(targets);
    }
}

/// What was seen, on its way to the reporter.
struct Results<'a> {
    progress: Progress,
    observations: Vec<Observation>,
    /// How many of them make a batch.
    batch: usize,
    /// When the oldest unreported result has waited long enough.
    batch_at: Option<Instant>,
    /// Batches that wait for credit.
    outbox: VecDeque<v1::ReportRequest>,
    end: u64,
    /// Replies to SYNs that were lost and are not reported.
    lost: Arc<AtomicU64>,
    reporter: &'a mut Reporter,
}

impl<'a> Results<'a> {
    fn new(
        range: std::ops::Range<u64>,
        batch: usize,
        lost: Arc<AtomicU64>,
        reporter: &'a mut Reporter,
    ) -> Self {
        Self {
            progress: Progress::new(range.start),
            observations: Vec::new(),
            batch,
            // A shard that was done when its last worker died still has to be closed.
            batch_at: range.is_empty().then(Instant::now),
            outbox: VecDeque::new(),
            end: range.end,
            lost,
            reporter,
        }
    }

    fn is_done(&self) -> bool {
        self.progress.cursor() == self.end && self.batch_at.is_none() && self.outbox.is_empty()
    }

    /// True if every target has its outcome.
    fn is_whole(&self) -> bool {
        self.progress.ready_to() == self.end
    }

    fn finish(&mut self, number: u64, visited: Visited) {
        self.progress.finish(number, visited.outcome);
        self.observations.extend(visited.observations);
        // Where the cursor stands still, nobody needs to hear more than once a second that targets beyond it are done.
        let moves = self.progress.is_ready() || !self.observations.is_empty();
        self.pack_in(if moves { LINGER } else { STANDSTILL });
        if self.observations.len() >= self.batch {
            self.pack();
        }
    }

    /// Takes note of what the sweep did to the progress.
    fn swept(&mut self) {
        match self.is_whole() {
            true if self.progress.is_ready() => self.pack_in(Duration::ZERO),
            _ if self.progress.has_news() => self.pack_in(STANDSTILL),
            _ => {}
        }
    }

    fn pack_in(&mut self, wait: Duration) {
        let at = Instant::now() + wait;
        self.batch_at = Some(self.batch_at.map_or(at, |due| due.min(at)));
    }

    /// Makes a batch of everything that is not reported.
    fn pack(&mut self) {
        self.batch_at = None;
        let run = self.progress.advance();
        if let Some(run) = &run {
            count(&run.tally);
        }
        let cursor = self.progress.cursor();
        let closes = cursor == self.end;
        let run = run.or_else(|| closes.then(|| Run::none(cursor)));
        let observations = std::mem::take(&mut self.observations);
        let ahead = self.progress.ahead();
        let mut batch = self.reporter.batch(&observations, run, ahead, closes);
        batch.lost_replies = self.lost.swap(0, Ordering::Relaxed);
        self.outbox.push_back(batch);
    }

    fn send(&mut self, permit: mpsc::OwnedPermit<v1::ReportRequest>) {
        if let Some(batch) = self.outbox.pop_front() {
            permit.send(batch);
        }
    }

    /// Hands over what is left.
    async fn deliver(mut self) {
        if self.batch_at.is_some() {
            self.pack();
        }
        while !self.outbox.is_empty() {
            match self.reporter.ready().await {
                Some(permit) => self.send(permit),
                None => return,
            }
        }
    }
}
