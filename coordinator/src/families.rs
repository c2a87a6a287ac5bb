//! What was found at the other addresses of a host: a door that is open by one of them only is open by accident.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use ajar_model::{Campaign, Finding, Host, Plan, Verdict, finding::Difference};
use ajar_store::Store;
use tonic::Status;

use crate::newest::findings_at;

/// Notes at every open finding of a campaign at which addresses of the same host it is decidedly not open; or, once the campaign is over,
/// not to be reached at all.
pub(crate) async fn compare(
    store: &dyn Store,
    campaign: &Campaign,
    findings: &mut [Finding],
) -> Result<(), Status> {
    let of_this = |f: &&mut Finding| f.campaign == campaign.id && f.verdict == Verdict::Open;
    let open = findings.iter_mut().filter(of_this);
    let open: BTreeSet<IpAddr> = open.map(|finding| finding.ip).collect();
    let is_open = |host: &&Host| {
        let has_others = host.addresses.len() > 1;
        has_others && host.addresses.iter().any(|ip| open.contains(ip))
    };
    let hosts: Vec<&Host> = campaign.spec.hosts.iter().filter(is_open).collect();
    if hosts.is_empty() {
        return Ok(());
    }
    // What cannot be laid out any more, by rules of today, is still read.
    let Ok(plan) = Plan::of(campaign.id, &campaign.spec) else {
        return Ok(());
    };
    for finding in findings.iter_mut().filter(of_this) {
        let mine = hosts
            .iter()
            .filter(|host| host.addresses.contains(&finding.ip));
        let others = mine.flat_map(|host| &host.addresses).copied();
        for ip in others.filter(|ip| *ip != finding.ip) {
            if !plan.contains(SocketAddr::new(ip, finding.port)) {
                continue;
            }
            let verdict = verdict_at(store, campaign, ip, finding.port).await?;
            let differs = match verdict {
                None => campaign.state.is_final(),
                Some(verdict) => verdict.is_shut(),
            };
            if differs {
                finding.differs.push(Difference {
                    vantage: None,
                    ip: Some(ip),
                    verdict,
                });
            }
        }
        finding.differs.sort();
        finding.differs.dedup();
    }
    Ok(())
}

/// The gravest verdict on an endpoint; none if nothing answered there.
async fn verdict_at(
    store: &dyn Store,
    campaign: &Campaign,
    ip: IpAddr,
    port: u16,
) -> Result<Option<Verdict>, Status> {
    let here = findings_at(store, campaign.id, SocketAddr::new(ip, port)).await?;
    Ok(here.iter().map(|finding| finding.verdict).max())
}
