//! From an open connection to the evidence of every chosen probe.

use ajar_model::{Evidence, ProbeId, Tier, evidence::Service};

use crate::{
    BoxStream, Session,
    recognise::{self, recognise},
    registry::{PROBES, Probe},
    visit::Visit,
};

/// The name of the row of an endpoint that no probe ran on.
pub const RECOGNISE: ProbeId = ProbeId::from_static("recognise");

/// Examines one endpoint over the connection that the sweep opened, and over further ones from `session.dial`:
/// recognises its protocol, then runs those of `probes` that are for it and learn something at the session's tier.
///
/// One row for each probe that ran; where none did, one row named [`RECOGNISE`]. At tier `connect` there is nothing
/// to say and no row. Names of unknown probes are passed over: a worker may be older than its coordinator.
///
/// Ends within `session.limits.session` of being called, whatever the target does. A panic leaves nothing behind
/// that a caller could find half done.
pub async fn examine(
    session: &Session<'_>,
    first: BoxStream,
    probes: &[ProbeId],
) -> Vec<(ProbeId, Evidence)> {
    if session.tier < Tier::Handshake {
        return Vec::new();
    }
    let mut chosen: Vec<&dyn Probe> = PROBES
        .iter()
        .copied()
        .filter(|probe| probes.contains(&probe.id()))
        .collect();
    let mut visit = Visit::new(session);
    let recognised = recognise(&mut visit, first, &chosen).await;
    visit.recognised();
    tracing::debug!(endpoint = %session.endpoint, ?recognised, "recognised");
    // Those first whose first step recognition has made.
    chosen.sort_by_key(|probe| Some(probe.service()) != recognised.service);
    let mut rows = Vec::new();
    for probe in chosen.iter().filter(|probe| probe.tier() <= session.tier) {
        if speaks(&mut visit, recognised.service, *probe).await {
            rows.push((probe.id(), probe.run(&mut visit).await));
        }
    }
    if rows.is_empty() {
        // A protocol that nobody asked about is, for this campaign, none.
        let wanted = |service: &Service| chosen.iter().any(|probe| probe.service() == *service);
        let evidence = visit.evidence(recognised.service.filter(wanted));
        rows.push((
            RECOGNISE,
            Evidence {
                broken: recognised.broken,
                ..evidence
            },
        ));
    }
    rows
}

async fn speaks(visit: &mut Visit<'_>, recognised: Option<Service>, probe: &dyn Probe) -> bool {
    match (recognised, probe.service()) {
        (Some(recognised), service) if recognised == service => true,
        (Some(Service::Socks5), Service::Socks4) => recognise::is_socks4_too(visit).await,
        _ => false,
    }
}
