//! The machines of a simulated cluster: two coordinators over one store and one queue, three workers, and an operator, who talk real gRPC over
//! turmoil's network.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use ajar_coordinator::Drives;
use ajar_model::{CampaignId, ProbeId, Spec, Target, shares::Weights, signers::AllowedSigners};
use ajar_proto::{convert, dial::Coordinator, local, v1};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::server::Connected};
use turmoil::net::{TcpListener, TcpStream};

use crate::{PEACE, boundary, log::Log, queue::FlakyQueue, store::FlakyStore};

pub const COORDINATORS: [&str; 2] = ["coordinator-1", "coordinator-2"];
pub const WORKERS: [&str; 3] = ["worker-1", "worker-2", "worker-3"];
const OPERATOR: &str = "operator";
const PORT: u16 = 7400;
/// Nothing was heard on a connection for so long: its other end is gone. A coordinator pings every five seconds.
const DEAD: Duration = Duration::from_secs(10);

/// The number of a host in the oracle's notes: workers count from 1, coordinators follow.
pub fn number_of(host: &str) -> usize {
    let mut hosts = WORKERS.iter().chain(&COORDINATORS);
    let index = hosts.position(|known| *known == host);
    index.map_or(0, |index| index + 1)
}

/// What the machines share.
#[derive(Clone)]
pub struct Site {
    pub store: Arc<FlakyStore>,
    pub queue: Arc<FlakyQueue>,
    pub signers: AllowedSigners,
    /// The file of each coordinator, which may say something else.
    pub files: Arc<[watch::Sender<AllowedSigners>; COORDINATORS.len()]>,
    /// The operator pauses, stops and excludes by chance.
    pub orders_by_chance: bool,
    /// Connections a second of all campaigns together.
    pub rate: u32,
    pub weights: Weights,
    pub orders: Arc<Mutex<Vec<Order>>>,
    pub log: Log,
}

/// What the operator ordered, as far as they know.
#[derive(Debug, Clone)]
pub struct Order {
    pub silences: Silences,
    /// When they were told that it is so.
    pub from: Duration,
    /// When they took it back; none if they never do.
    pub until: Option<Duration>,
}

/// What an order silences.
#[derive(Debug, Clone)]
pub enum Silences {
    Campaign(CampaignId),
    Site,
    Addresses(Target),
}

/// One end of a connection, as tonic takes it.
struct Wire(TcpStream);

impl Connected for Wire {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// A campaign, and when its operator submits it.
pub struct Submission {
    pub id: CampaignId,
    pub spec: Spec,
    pub at: Duration,
}

/// Adds every machine. The operator's ends once the campaigns are over.
pub fn populate(sim: &mut turmoil::Sim<'static>, site: &Site, campaigns: Vec<Submission>) {
    for (number, name) in COORDINATORS.into_iter().enumerate() {
        let site = site.clone();
        sim.host(name, move || {
            let signers = site.files[number].subscribe();
            coordinate(site.clone(), signers)
        });
    }
    for name in WORKERS {
        let site = site.clone();
        // New at each start, as a worker's identity is.
        let starts = Arc::new(AtomicU32::new(0));
        sim.host(name, move || {
            let start = starts.fetch_add(1, Ordering::Relaxed);
            work(site.clone(), format!("{name}.{start}"))
        });
    }
    sim.client(OPERATOR, operate(site.clone(), campaigns));
}

async fn coordinate(site: Site, signers: watch::Receiver<AllowedSigners>) -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let incoming = futures::stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await;
        Some((accepted.map(|(stream, _)| Wire(stream)), listener))
    });
    let options = ajar_coordinator::Options {
        connections: ajar_store::Options::default().connections,
        store: site.store,
        queue: site.queue,
        signers,
        drives: Drives::Shared,
        site_rate: Some(site.rate),
        tenant_weights: site.weights,
        keep_evidence: None,
        allow_loopback: false,
        probes: vec![ProbeId::from_static("smtp-relay")],
    };
    ajar_coordinator::serve(options, incoming, CancellationToken::new()).await?;
    Ok(())
}

async fn work(site: Site, name: String) -> turmoil::Result {
    site.log.add(format_args!("{name} starts"));
    let options = ajar_worker::Options {
        coordinator: by_any_name(),
        name,
        vantage: "here".to_owned(),
        signers: watch::channel(site.signers).1,
        allow_loopback: false,
        public_address: None,
        helo: None,
        capacity: 200,
        limits: ajar_probe::Limits::default(),
        control_plane: Vec::new(),
        connected: watch::channel(false).0,
    };
    ajar_worker::run(options, CancellationToken::new()).await;
    Ok(())
}

/// Submits the campaigns and asks about them until they are over, whatever goes wrong meanwhile.
async fn operate(site: Site, campaigns: Vec<Submission>) -> turmoil::Result {
    let coordinator = by_any_name();
    let mut left = Vec::new();
    for Submission { id, spec, at } in campaigns {
        sleep(at.saturating_sub(boundary::elapsed())).await;
        loop {
            let request = v1::SubmitRequest {
                id: id.to_string(),
                spec: Some((&spec).into()),
            };
            let mut client = coordinator.campaigns();
            match timeout(DEAD, client.submit(request)).await {
                Ok(Ok(_)) => break,
                Ok(Err(status)) => site.log.add(format_args!("submit: {}", status.message())),
                Err(_) => site.log.add(format_args!("submit: no answer")),
            }
            sleep(Duration::from_secs(1)).await;
        }
        site.log.add(format_args!("submitted {id}"));
        left.push(id);
    }
    let mut excludes = true;
    while let Some(&id) = left.last() {
        sleep(Duration::from_secs(1)).await;
        if site.orders_by_chance && boundary::elapsed() < PEACE {
            match fastrand::u32(..24) {
                0 | 1 => pause(&site, &coordinator, id).await,
                2 => stop(&site, &coordinator).await,
                3 | 4 if std::mem::take(&mut excludes) => exclude(&site, &coordinator).await,
                _ => {}
            }
        }
        let request = v1::GetRequest { id: id.to_string() };
        let mut client = coordinator.campaigns();
        let Ok(Ok(answer)) = timeout(DEAD, client.get(request)).await else {
            continue;
        };
        let campaign = answer.into_inner().campaign.unwrap_or_default();
        let state = convert::state_in(campaign.state)?;
        if state.is_final() {
            site.log.add(format_args!("{id} is {}", state.as_str()));
            left.pop();
        }
    }
    Ok(())
}

/// Pauses a campaign for a while, unless it is over.
async fn pause(site: &Site, coordinator: &Coordinator, id: CampaignId) {
    let request = v1::PauseRequest { id: id.to_string() };
    loop {
        let mut client = coordinator.campaigns();
        match timeout(DEAD, client.pause(request.clone())).await {
            Ok(Ok(_)) => break,
            Ok(Err(status)) if status.code() == Code::FailedPrecondition => return,
            _ => sleep(Duration::from_secs(1)).await,
        }
    }
    let from = boundary::elapsed();
    site.log.add(format_args!("{id} is paused"));
    sleep(Duration::from_millis(fastrand::u64(5_000..25_000))).await;
    let until = boundary::elapsed();
    site.log.add(format_args!("{id} is to go on"));
    site.orders.lock().unwrap().push(Order {
        silences: Silences::Campaign(id),
        from,
        until: Some(until),
    });
    let request = v1::ResumeRequest {
        id: id.to_string(),
        authorization: None,
    };
    loop {
        let mut client = coordinator.campaigns();
        match timeout(DEAD, client.resume(request.clone())).await {
            Ok(Ok(_)) => return,
            _ => sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Stops the site for a while.
async fn stop(site: &Site, coordinator: &Coordinator) {
    loop {
        let mut client = coordinator.campaigns();
        match timeout(DEAD, client.stop_all(v1::StopAllRequest {})).await {
            Ok(Ok(_)) => break,
            _ => sleep(Duration::from_secs(1)).await,
        }
    }
    let from = boundary::elapsed();
    site.log.add(format_args!("the site is stopped"));
    sleep(Duration::from_millis(fastrand::u64(5_000..25_000))).await;
    let until = boundary::elapsed();
    site.log.add(format_args!("the site is to start again"));
    site.orders.lock().unwrap().push(Order {
        silences: Silences::Site,
        from,
        until: Some(until),
    });
    loop {
        let mut client = coordinator.campaigns();
        match timeout(DEAD, client.start_again(v1::StartAgainRequest {})).await {
            Ok(Ok(_)) => return,
            // It was done, and the answer lost.
            Ok(Err(status)) if status.code() == Code::FailedPrecondition => return,
            _ => sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Excludes a part of one network for good.
async fn exclude(site: &Site, coordinator: &Coordinator) {
    let excluded = format!("10.1.{}.16/28", fastrand::u32(..8));
    let request = v1::AddExclusionsRequest {
        targets: vec![excluded.clone()],
        reason: "its owner asked".to_owned(),
        tenant: String::new(),
        lasts: None,
    };
    loop {
        let mut client = coordinator.exclusions();
        match timeout(DEAD, client.add(request.clone())).await {
            Ok(Ok(_)) => break,
            _ => sleep(Duration::from_secs(1)).await,
        }
    }
    site.log.add(format_args!("{excluded} is excluded"));
    site.orders.lock().unwrap().push(Order {
        silences: Silences::Addresses(excluded.parse().expect("a prefix")),
        from: boundary::elapsed(),
        until: None,
    });
}

/// A coordinator behind the name of all: each connection goes to one that takes it.
fn by_any_name() -> Coordinator {
    let (mut listener, dialer) = local::pair();
    tokio::spawn(async move {
        while let Some(Ok(ours)) = listener.next().await {
            tokio::spawn(async move {
                let first = usize::from(fastrand::bool());
                for name in [COORDINATORS[first], COORDINATORS[1 - first]] {
                    let opening = TcpStream::connect((name, PORT));
                    if let Ok(Ok(theirs)) = timeout(Duration::from_secs(2), opening).await {
                        return pass(ours, theirs).await;
                    }
                }
            });
        }
    });
    Coordinator::Local(dialer)
}

/// Passes bytes on in both directions, until one end closes, or nothing comes from the coordinator for too long.
async fn pass(ours: tokio::io::DuplexStream, theirs: TcpStream) {
    let (mut from_us, mut to_us) = tokio::io::split(ours);
    let (mut from_them, mut to_them) = theirs.into_split();
    let out = tokio::io::copy(&mut from_us, &mut to_them);
    let back = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(Ok(length @ 1..)) = timeout(DEAD, from_them.read(&mut buffer)).await {
            if to_us.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        _ = out => {}
        () = back => {}
    }
}
