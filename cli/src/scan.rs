//! `ajar scan`: one audit, in this process or on a cluster, from its request to its results.

use std::{
    io::Write,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ajar_canary::Handle;
use ajar_model::{
    CampaignId, Canary, Finding, SignedAuthorization, Spec, Verdict, campaign::State,
};
use ajar_probe::Limits;
use ajar_proto::{convert, dial, v1};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::{
    args,
    cluster::{self, Cluster},
    connect,
    exit::{self, Ended, OrRefuse, from_status, refuse, unless_stopped},
    output::Sink,
    progress::Display,
    request::Request,
    resume, signers,
};

/// How long a coordinator that went away is waited for.
const AWAY: Duration = Duration::from_secs(300);
/// Between two attempts to reach it.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs it.
pub async fn run(options: args::Scan) -> anyhow::Result<Ended> {
    let sink = Sink::open(&options.output)?;
    match &options.cluster.coordinator {
        Some(url) => {
            let coordinator = connect::dial(url, &options.cluster.tls)?;
            on_cluster(&options, coordinator, sink).await
        }
        None => here(&options, sink).await,
    }
}

async fn here(options: &args::Scan, sink: Sink) -> anyhow::Result<Ended> {
    let signers = signers::follow(options.request.authorization.allowed_signers.as_deref())?;
    let stop = stop_on_signal();
    match &options.resume {
        Some(id) => {
            let id = exit::campaign_id(id)?;
            let starting = Cluster::start(&options.store, signers.clone(), id);
            let mut cluster = unless_stopped(&stop, starting).await?;
            let campaign = cluster.store().campaign(id).await?;
            let Some(campaign) = campaign else {
                return refuse(format_args!("{} has no campaign {id}", options.store));
            };
            // It serves for as long as it is held.
            let mut canary = None;
            if !matches!(campaign.state, State::Finished | State::Cancelled) {
                let started = start_canary(
                    &options.canary_service,
                    Some(&campaign.spec.canary),
                    campaign.spec.canary.address,
                    &campaign.spec.canary.domain,
                    contact(campaign.spec.authorization.as_ref()).as_deref(),
                    &cluster,
                )
                .await?;
                if campaign.local && campaign.state == State::Running {
                    // The process that ran it died without a word.
                    pause(&cluster.coordinator, id).await?;
                }
                let authorization = &options.request.authorization;
                resume::ask(&cluster.coordinator, id, authorization).await?;
                let never = own_addresses(started.canary());
                cluster.work(signers, never, Limits::default());
                canary = Some(started);
            }
            let ended = finish(cluster, id, options, sink, stop).await;
            drop(canary);
            ended
        }
        None => {
            let accepted = signers.borrow().clone();
            let reading = Request::read(&options.request, &accepted);
            let request = unless_stopped(&stop, reading).await?;
            let address = request.canary_address(options.request.canary)?;
            let domain = request.canary_domain(options.request.canary_domain.as_deref());
            let contact = request
                .authorization
                .as_ref()
                .map(|(_, a)| a.contact.clone());
            let id = CampaignId(Ulid::new());
            let starting = Cluster::start(&options.store, signers.clone(), id);
            let mut cluster = unless_stopped(&stop, starting).await?;
            let canary = start_canary(
                &options.canary_service,
                None,
                address,
                &domain,
                contact.as_deref(),
                &cluster,
            )
            .await?;
            let spec = request.with_canary(canary.canary().clone());
            let targets = submit(&cluster.coordinator, id, &spec).await?;
            announce(id, targets, &spec);
            let never = own_addresses(canary.canary());
            cluster.work(signers, never, Limits::default());
            finish(cluster, id, options, sink, stop).await
        }
    }
}

/// Follows a campaign of this process to its end, and writes its results.
async fn finish(
    cluster: Cluster,
    id: CampaignId,
    options: &args::Scan,
    sink: Sink,
    stop: CancellationToken,
) -> anyhow::Result<Ended> {
    let ended = follow_and_write(&cluster.coordinator, id, options, sink, &stop).await;
    cluster.stop().await?;
    ended
}

async fn on_cluster(
    options: &args::Scan,
    coordinator: dial::Coordinator,
    sink: Sink,
) -> anyhow::Result<Ended> {
    let stop = stop_on_signal();
    let id = match &options.resume {
        Some(id) => {
            let id = exit::campaign_id(id)?;
            resume::ask(&coordinator, id, &options.request.authorization).await?;
            id
        }
        None => {
            let submitting = submit_to(&coordinator, &options.request);
            let (id, targets, spec) = unless_stopped(&stop, submitting).await?;
            announce(id, targets, &spec);
            id
        }
    };
    follow_and_write(&coordinator, id, options, sink, &stop).await
}

async fn follow_and_write(
    coordinator: &dial::Coordinator,
    id: CampaignId,
    options: &args::Scan,
    sink: Sink,
    stop: &CancellationToken,
) -> anyhow::Result<Ended> {
    let state = follow(coordinator, id, stop).await;
    if stop.is_cancelled() {
        pause(coordinator, id).await?;
        let _ = writeln!(
            std::io::stderr(),
            "interrupted; everything so far is kept. go on with:\n  {}",
            resume::command(id, options)
        );
        return Ok(Ended::Interrupted);
    }
    let state = state?;
    if state == State::Cancelled {
        anyhow::bail!("campaign {id} was cancelled");
    }
    let ended = write_findings(coordinator, id, sink, &options.fail_on).await?;
    if state == State::Incomplete {
        let progress = progress_of(coordinator, id).await?;
        anyhow::bail!(
            "campaign {id} is incomplete, {} of {} targets were visited: {}; go on with\n  {}",
            progress.finished,
            progress.targets,
            progress.cause,
            resume::command(id, options)
        );
    }
    Ok(ended)
}

async fn progress_of(
    coordinator: &dial::Coordinator,
    id: CampaignId,
) -> anyhow::Result<v1::Progress> {
    let request = v1::GetRequest { id: id.to_string() };
    let got = coordinator.campaigns().get(request).await;
    let campaign = got.map_err(from_status)?.into_inner().campaign;
    Ok(campaign.unwrap_or_default().progress.unwrap_or_default())
}

/// Submits a request to a cluster, whose canary it uses.
pub async fn submit_to(
    coordinator: &dial::Coordinator,
    options: &args::Request,
) -> anyhow::Result<(CampaignId, u64, Spec)> {
    let signers = signers::follow(options.authorization.allowed_signers.as_deref())?;
    let accepted = signers.borrow().clone();
    let request = Request::read(options, &accepted).await?;
    let canary = registered_canary(coordinator, options).await?;
    let spec = request.with_canary(canary);
    let id = CampaignId(Ulid::new());
    let targets = submit(coordinator, id, &spec).await?;
    Ok((id, targets, spec))
}

async fn registered_canary(
    coordinator: &dial::Coordinator,
    options: &args::Request,
) -> anyhow::Result<Canary> {
    let listed = coordinator
        .campaigns()
        .list_canaries(v1::ListCanariesRequest {})
        .await;
    let canaries = listed.map_err(from_status)?.into_inner().canaries;
    for canary in canaries {
        let canary = Canary::try_from(canary)?;
        let address_fits = options
            .canary
            .is_none_or(|address| address == canary.address);
        let domain_fits = options
            .canary_domain
            .as_ref()
            .is_none_or(|domain| *domain == canary.domain);
        if address_fits && domain_fits {
            return Ok(canary);
        }
    }
    refuse("the cluster has no such canary: start one with `ajar canary --coordinator URL`")
}

async fn start_canary(
    options: &args::CanaryPorts,
    before: Option<&Canary>,
    address: std::net::IpAddr,
    domain: &str,
    contact: Option<&str>,
    cluster: &Cluster,
) -> anyhow::Result<Handle> {
    let options = connect::canary_options(options, before, address, domain, contact)?;
    let recorder = Arc::new(cluster::Reporting::new(&cluster.coordinator));
    let handle = ajar_canary::serve(options, recorder, CancellationToken::new())
        .await
        .or_refuse()?;
    for note in handle.notes() {
        tracing::warn!("{note}");
    }
    if let Some(before) = before.filter(|before| before.key != handle.canary().key) {
        return refuse(format_args!(
            "the campaign was begun with the canary key {}, and this one is {}: give the old one with --canary-key",
            before.key,
            handle.canary().key
        ));
    }
    Ok(handle)
}

/// Whom the owner of an open door can write to.
fn contact(signed: Option<&SignedAuthorization>) -> Option<String> {
    let authentic = signed?.authenticate().ok()?;
    Some(authentic.authorization.contact)
}

/// The canary's own doors are not to be audited: they would prove themselves.
fn own_addresses(canary: &Canary) -> Vec<SocketAddr> {
    canary.destinations().to_vec()
}

/// Sends a campaign to a coordinator; says how many targets it has.
pub async fn submit(
    coordinator: &dial::Coordinator,
    id: CampaignId,
    spec: &Spec,
) -> anyhow::Result<u64> {
    let request = v1::SubmitRequest {
        id: id.to_string(),
        spec: Some(spec.into()),
    };
    let submitted = coordinator.campaigns().submit(request).await;
    Ok(submitted.map_err(from_status)?.into_inner().targets)
}

async fn pause(coordinator: &dial::Coordinator, id: CampaignId) -> anyhow::Result<()> {
    let request = v1::PauseRequest { id: id.to_string() };
    match coordinator.campaigns().pause(request).await {
        Err(status) if status.code() != tonic::Code::FailedPrecondition => Err(from_status(status)),
        _ => Ok(()),
    }
}

/// Shows a campaign's progress until it is over, or `stop` is asked for, and says the state that it has then. A coordinator
/// that goes away is waited for.
pub async fn follow(
    coordinator: &dial::Coordinator,
    id: CampaignId,
    stop: &CancellationToken,
) -> anyhow::Result<State> {
    let mut display: Option<Display> = None;
    let mut away: Option<Instant> = None;
    let ended = loop {
        let cause = tokio::select! {
            watched = watch(coordinator, id, &mut display, &mut away) => match watched {
                Ok(state) => break Ok(state),
                Err(cause) => cause,
            },
            () = stop.cancelled() => break Ok(State::Paused),
        };
        if !exit::is_away(&cause) {
            break Err(from_status(cause));
        }
        let since = *away.get_or_insert_with(|| {
            tracing::warn!(
                cause = cause.message(),
                "the coordinator is away; waiting for it"
            );
            Instant::now()
        });
        if since.elapsed() > AWAY {
            break Err(from_status(cause));
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = stop.cancelled() => break Ok(State::Paused),
        }
    };
    if let Some(display) = display {
        display.end();
    }
    ended
}

/// Shows what one stream says; the state that a campaign ended in, or why the stream ended earlier.
async fn watch(
    coordinator: &dial::Coordinator,
    id: CampaignId,
    display: &mut Option<Display>,
    away: &mut Option<Instant>,
) -> Result<State, tonic::Status> {
    let request = v1::WatchRequest { id: id.to_string() };
    let mut stream = coordinator.campaigns().watch(request).await?.into_inner();
    while let Some(seen) = stream.next().await {
        let seen = seen?;
        if away.take().is_some() {
            tracing::info!("the coordinator is back");
        }
        let targets = seen
            .progress
            .as_ref()
            .map_or(0, |progress| progress.targets);
        display
            .get_or_insert_with(|| Display::new(targets))
            .show(&seen);
        let state = convert::state_in(seen.state)?;
        if state.is_final() {
            return Ok(state);
        }
    }
    Err(tonic::Status::unavailable("the stream ended"))
}

/// Writes a campaign's results, one line for each endpoint that answered.
async fn write_findings(
    coordinator: &dial::Coordinator,
    id: CampaignId,
    sink: Sink,
    fail_on: &[Verdict],
) -> anyhow::Result<Ended> {
    let mut writer = sink.begin()?;
    let mut found = false;
    each_endpoint(coordinator, Some(id), &[], |finding| {
        found |= fail_on.contains(&finding.verdict);
        writer.write(&finding)
    })
    .await?;
    writer.finish()?;
    Ok(if found { Ended::Found } else { Ended::Finished })
}

/// Calls `each` with the merged finding of every endpoint, in the order of results.
pub async fn each_endpoint(
    coordinator: &dial::Coordinator,
    campaign: Option<CampaignId>,
    verdicts: &[Verdict],
    mut each: impl FnMut(Finding) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let request = v1::ListFindingsRequest {
        campaign: campaign.map(|id| id.to_string()).unwrap_or_default(),
        verdicts: Vec::new(),
    };
    let mut pages = coordinator
        .findings()
        .list(request)
        .await
        .map_err(from_status)?
        .into_inner();
    let mut last: Option<Finding> = None;
    let mut pass =
        |finding: Finding| match verdicts.is_empty() || verdicts.contains(&finding.verdict) {
            true => each(finding),
            false => Ok(()),
        };
    while let Some(page) = pages.next().await {
        for finding in page.map_err(from_status)?.findings {
            let finding = Finding::try_from(finding)?;
            last = Some(match last.take() {
                Some(before) if same_endpoint(&before, &finding) => before.merge(finding),
                Some(before) => {
                    pass(before)?;
                    finding
                }
                None => finding,
            });
        }
    }
    last.map_or(Ok(()), pass)
}

fn same_endpoint(one: &Finding, other: &Finding) -> bool {
    (one.campaign, one.ip, one.port) == (other.campaign, other.ip, other.port)
}

/// What is about to happen, and how fast, before the first packet.
fn announce(id: CampaignId, targets: u64, spec: &Spec) {
    let authorization = match &spec.authorization {
        Some(_) => "signed authorization",
        None => "loopback, no authorization needed",
    };
    let _ = writeln!(
        std::io::stderr(),
        "campaign {id}: {targets} targets at {}/s, {}/s to each /24 or /64; {authorization}; canary {} for {}",
        spec.rate,
        spec.prefix_rate,
        spec.canary.address,
        spec.canary.domain,
    );
    let chosen = ajar_probe::probes().filter(|probe| spec.probes.contains(&probe.id()));
    for probe in chosen.filter(|probe| !probe.can_use(&spec.canary)) {
        let needs = probe.needs().unwrap_or("another canary");
        let _ = writeln!(
            std::io::stderr(),
            "{} is not tried: it needs {needs}",
            probe.id()
        );
    }
}

/// Cancelled by the first SIGINT or SIGTERM; a second one ends the process at once.
pub fn stop_on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        signal().await;
        asked.cancel();
        signal().await;
        std::process::exit(130);
    });
    stop
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}
