//! From an open connection to the evidence of every chosen probe.

use ajar_model::{Evidence, ProbeId, Tier};

use crate::{
    BoxStream, Brief,
    examination::Examination,
    protocol::Probe,
    recognise::{Recognised, recognise, speaks_too},
    registry,
};

/// The name of the row of an endpoint that no probe ran on.
pub const RECOGNISE: ProbeId = ProbeId::from_static("recognise");

/// Examines one endpoint over the connection that the sweep opened, and over further ones from `brief.dial`:
/// recognises its protocol, then runs those of `probes` that are for it and learn something at the brief's tier.
///
/// One row for each probe that ran; if none did, one row named [`RECOGNISE`]. At tier `connect` there is nothing
/// to say and no row. Names of unknown probes are passed over: a worker may be older than its coordinator.
///
/// Ends within `brief.limits.examination` of being called, whatever the target does. A panic leaves nothing behind
/// that a caller could find half done.
pub async fn examine(
    brief: &Brief<'_>,
    first: BoxStream,
    probes: &[ProbeId],
) -> Vec<(ProbeId, Evidence)> {
    if brief.tier < Tier::Handshake {
        return Vec::new();
    }
    let mut chosen: Vec<&dyn Probe> = registry::probes()
        .filter(|probe| probes.contains(&probe.id()) && probe.can_use(brief.canary))
        .collect();
    let mut examination = Examination::new(brief);
    let recognised = recognise(&mut examination, first, &chosen).await;
    examination.recognised();
    tracing::debug!(endpoint = %brief.endpoint, service = ?recognised.service(), "recognised");
    // Those first whose first step recognition has made.
    chosen.sort_by_key(|probe| Some(probe.protocol().service()) != recognised.service());
    let mut rows = Vec::new();
    for probe in chosen.iter().filter(|probe| probe.tier() <= brief.tier) {
        if speaks(&mut examination, &recognised, *probe).await {
            rows.push((probe.id(), probe.run(&mut examination).await));
        }
    }
    if rows.is_empty() {
        // A protocol that nobody asked about is, for this campaign, none.
        let wanted = recognised.protocol.filter(|protocol| {
            let mut chosen = chosen.iter();
            chosen.any(|probe| probe.protocol().service() == protocol.service())
        });
        let evidence = match wanted {
            Some(protocol) => examination.evidence_of(protocol),
            None => examination.evidence(),
        };
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

async fn speaks(
    examination: &mut Examination<'_>,
    recognised: &Recognised,
    probe: &dyn Probe,
) -> bool {
    let (protocol, service) = (probe.protocol(), recognised.service());
    if service == Some(protocol.service()) {
        return true;
    }
    let may = protocol.accompanies(service.as_ref(), examination.is_tls());
    may && speaks_too(examination, protocol).await
}
