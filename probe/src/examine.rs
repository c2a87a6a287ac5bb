//! From an open connection to the evidence of every chosen probe.

use ajar_model::{Evidence, ProbeId, Tier, Verdict, judge::judge};

use crate::{
    BoxStream, Brief,
    examination::Examination,
    protocol::{First, Probe, Protocol},
    recognise::{Recognised, recognise, speaks_too},
    registry::{self, PROTOCOLS},
};

/// The name of the row of an endpoint that no probe ran on.
pub const RECOGNISE: ProbeId = ProbeId::from_static("recognise");

/// Examines one endpoint over the connection that the sweep opened, and over further ones from `brief.dial`:
/// recognises its protocol, then runs those of `probes` that are for it and learn something at the brief's tier, and those of
/// further protocols that it speaks.
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
    let chosen: Vec<&dyn Probe> = registry::probes()
        .filter(|probe| probes.contains(&probe.id()) && probe.can_use(brief.canary))
        .collect();
    let mut examination = Examination::new(brief);
    let recognised = recognise(&mut examination, first, &chosen).await;
    examination.recognised();
    tracing::debug!(endpoint = %brief.endpoint, service = ?recognised.service(), "recognised");
    let mut protocols: Vec<&dyn Protocol> = PROTOCOLS.to_vec();
    // That one first whose first step recognition has made, then its companions.
    let tls = examination.is_tls();
    let service = recognised.service();
    protocols.sort_by_key(|protocol| {
        let is_it = Some(protocol.service()) == service;
        (!is_it, !protocol.accompanies(service.as_ref(), tls))
    });
    let mut rows: Vec<(ProbeId, Evidence)> = Vec::new();
    for protocol in protocols {
        let wanted = |probe: &&&dyn Probe| {
            probe.protocol().service() == protocol.service() && probe.tier() <= brief.tier
        };
        let wanted: Vec<&&dyn Probe> = chosen.iter().filter(wanted).collect();
        if wanted.is_empty() || !Box::pin(speaks(&mut examination, &recognised, protocol)).await {
            continue;
        }
        for probe in wanted {
            // Once a door is proven, only how far it leads is of interest.
            if examination.is_open() && !probe.adds_to_open() {
                continue;
            }
            let evidence = probe.run(&mut examination).await;
            if judge(&evidence, &[], &brief.canary.key).verdict == Verdict::Open {
                examination.note_open();
            }
            rows.push((probe.id(), evidence));
        }
    }
    condemn_siblings(&mut rows, brief);
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

/// Marks all rows of a service that leads to the canary whatever it is asked: one probe may notice
/// that, and another may not.
fn condemn_siblings(rows: &mut [(ProbeId, Evidence)], brief: &Brief<'_>) {
    let key = &brief.canary.key;
    let forwards = rows.iter().filter(|(_, row)| row.leads_to_canary(key));
    let forwards: Vec<_> = forwards.map(|(_, row)| row.service.clone()).collect();
    for (_, row) in rows {
        row.leads_to_canary |= forwards.contains(&row.service);
    }
}

/// True if the endpoint speaks the protocol: it was recognised by it, or takes its first words too. Several services may share
/// a port, told apart by a client's first bytes: as long as none is open, all protocols in which clients speak first are offered.
async fn speaks(
    examination: &mut Examination<'_>,
    recognised: &Recognised,
    protocol: &'static dyn Protocol,
) -> bool {
    let is_open = examination.is_open();
    let service = recognised.service();
    if service == Some(protocol.service()) {
        return true;
    }
    let by_client = recognised.protocol.map(Protocol::first);
    let shares = matches!(by_client, Some(First::Client(_))) && protocol.shares_ports();
    let may = protocol.accompanies(service.as_ref(), examination.is_tls());
    // A door outside of TLS is another one than those inside.
    let may = may && (!is_open || protocol.opens_with_tls());
    (may || (shares && !is_open)) && speaks_too(examination, protocol).await
}
