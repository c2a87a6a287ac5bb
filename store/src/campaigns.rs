//! Beginning, steering and ending campaigns. Every change of state is one transaction with its audit entry.
//!
//! Locks are taken in one order: campaign, shard, audit log.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use ajar_model::{CampaignId, Spec, Timestamp, campaign::State};

use crate::{
    Admission, AuditEntry, Error, Registered, Resumption, Transition, audit, excluding, revisits,
    rows::{Repeat, Rows},
    stops, stored,
};

/// See [`crate::Store::create_campaign`].
pub(crate) async fn create(mut tx: Box<dyn Rows>, admission: &Admission<'_>) -> Result<(), Error> {
    insert(tx.as_mut(), admission).await?;
    tx.commit().await
}

/// The same within a transaction that does more.
pub(crate) async fn insert(tx: &mut dyn Rows, admission: &Admission<'_>) -> Result<(), Error> {
    let campaign = admission.campaign;
    stored::name("a tenant", &campaign.spec.tenant)?;
    stops::check(tx, &campaign.spec.tenant).await?;
    if let Some(authorization) = admission.authorization {
        register(tx, authorization).await?;
    }
    if tx.is_retired(campaign.id).await? {
        return Err(Error::Conflict {
            what: format!("campaign {}", campaign.id),
        });
    }
    if tx.insert_campaign(admission).await? {
        tx.add_partitions(campaign.id).await?;
        tx.insert_shards(campaign.id, admission.shards).await?;
        return audit::append(tx, admission.audit).await;
    }
    let stored = tx.campaign(campaign.id).await?;
    if stored.is_some_and(|stored| is_same(&stored.spec, &campaign.spec)) {
        return Ok(());
    }
    Err(Error::Conflict {
        what: format!("campaign {}", campaign.id),
    })
}

/// See [`crate::Store::transition`].
pub(crate) async fn transition(
    mut tx: Box<dyn Rows>,
    transition: &Transition<'_>,
) -> Result<bool, Error> {
    let standing = tx.lock_campaign(transition.id).await?;
    if !standing.is_some_and(|standing| transition.from.contains(&standing.state)) {
        return Ok(false);
    }
    if let Some(not_before) = transition.not_before
        && tx.now().await? < not_before
    {
        return Ok(false);
    }
    tx.put_state(transition.id, transition.to, transition.cause)
        .await?;
    audit::append(tx.as_mut(), transition.audit).await?;
    tx.commit().await?;
    Ok(true)
}

/// See [`crate::Store::remove_campaign`].
pub(crate) async fn remove(
    mut tx: Box<dyn Rows>,
    id: CampaignId,
    entry: &AuditEntry,
) -> Result<Option<State>, Error> {
    let state = tx.lock_campaign(id).await?.map(|standing| standing.state);
    if state.is_some_and(State::is_final) {
        let now = tx.now().await?;
        tx.retire(id, stored::to_micros(now)).await?;
        audit::append(tx.as_mut(), entry).await?;
        tx.commit().await?;
    }
    Ok(state)
}

/// See [`crate::Store::clear_removed`].
pub(crate) async fn clear(mut tx: Box<dyn Rows>) -> Result<bool, Error> {
    let now = tx.now().await?;
    let more = tx.clear(now).await?;
    tx.commit().await?;
    Ok(more)
}

/// See [`crate::Store::resume`].
pub(crate) async fn resume(
    mut tx: Box<dyn Rows>,
    resumption: &Resumption<'_>,
) -> Result<Option<State>, Error> {
    let id = resumption.id;
    let state = tx.lock_campaign(id).await?.map(|standing| standing.state);
    let Some(State::Paused | State::Settling | State::Incomplete) = state else {
        return Ok(state);
    };
    let campaign = tx.campaign(id).await?.ok_or_else(|| unknown(id))?;
    stops::check(tx.as_mut(), &campaign.spec.tenant).await?;
    if let Some((signed, registered)) = resumption.authorization {
        register(tx.as_mut(), registered).await?;
        let spec = Spec {
            authorization: Some(signed.clone()),
            ..campaign.spec.clone()
        };
        tx.put_authorization(id, &spec, &registered.id).await?;
    }
    tx.reopen_quarantined(id).await?;
    let excluded = excluding::addresses(tx.as_mut(), &campaign.spec.tenant).await?;
    let mut unproven = endpoints_to_repeat(tx.as_mut(), id).await?;
    unproven.retain(|endpoint| !excluded.contains(endpoint.ip()));
    // The first visit's mail may have been lost, so this counts as the same visit.
    let repeat = Repeat {
        visit: 1,
        round: 0,
        vantage: None,
    };
    revisits::add(tx.as_mut(), id, unproven, &repeat).await?;
    tx.put_state(id, State::Running, None).await?;
    audit::append(tx.as_mut(), resumption.audit).await?;
    tx.commit().await?;
    Ok(state)
}

/// See [`crate::Store::conclude`].
pub(crate) async fn conclude(
    mut tx: Box<dyn Rows>,
    id: CampaignId,
    settle: Duration,
) -> Result<Option<State>, Error> {
    let Some(standing) = tx.lock_campaign(id).await? else {
        return Ok(None);
    };
    let before = standing.state;
    let is_active = matches!(before, State::Running | State::Settling);
    if !is_active || tx.open_shards(id, 1).await? > 0 {
        return Ok(Some(before));
    }
    let now = tx.now().await?;
    let entry = |action: &str, detail| AuditEntry {
        at: now,
        actor: "coordinator".to_owned(),
        action: action.to_owned(),
        authorization: None,
        campaign: Some(id),
        detail,
    };
    let progress = tx.progress(id, now).await?;
    if progress.next_revisit_at.is_some() {
        if standing.stopped {
            return Ok(Some(before));
        }
        if before == State::Settling {
            // A late report, or a mail that proved a finding which is to be confirmed.
            let detail = "an endpoint is due for another visit".to_owned();
            move_on(
                tx,
                id,
                State::Running,
                None,
                entry("campaign.go-on", detail),
            )
            .await?;
        }
        return Ok(Some(State::Running));
    }
    let may_settle = progress.awaiting_mail > 0
        && progress
            .last_report_at
            .is_some_and(|last| stored::to_micros(now) < end(last, settle));
    let (to, cause) = match (may_settle, progress.quarantined) {
        (true, _) => (State::Settling, None),
        (false, 0) => (State::Finished, None),
        (false, shards) => {
            let cause = match shards {
                1 => "a shard was given up: it never moved".to_owned(),
                _ => format!("{shards} shards were given up: they never moved"),
            };
            (State::Incomplete, Some(cause))
        }
    };
    if to != before {
        let (action, detail) = match (to, &cause) {
            (State::Settling, _) => (
                "campaign.settle",
                format!("{} findings may be proven by mail", progress.awaiting_mail),
            ),
            (_, Some(cause)) => ("campaign.end", cause.clone()),
            (_, None) => ("campaign.end", "every target has its outcome".to_owned()),
        };
        move_on(tx, id, to, cause.as_deref(), entry(action, detail)).await?;
    }
    Ok(Some(to))
}

/// Moves a campaign whose row is locked, and commits.
async fn move_on(
    mut tx: Box<dyn Rows>,
    id: CampaignId,
    to: State,
    cause: Option<&str>,
    entry: AuditEntry,
) -> Result<(), Error> {
    tx.put_state(id, to, cause).await?;
    audit::append(tx.as_mut(), &entry).await?;
    tx.commit().await
}

/// Records an authorization, whose id names one text for ever.
async fn register(tx: &mut dyn Rows, authorization: &Registered) -> Result<(), Error> {
    let Registered { id, digest } = authorization;
    stored::name("an authorization's id", id)?;
    if tx.authorization(id, *digest).await? == *digest {
        return Ok(());
    }
    Err(Error::Conflict {
        what: format!("authorization {id:?}"),
    })
}

/// Unproven endpoints that no open revisit has.
async fn endpoints_to_repeat(
    tx: &mut dyn Rows,
    id: CampaignId,
) -> Result<BTreeSet<SocketAddr>, Error> {
    let mut planned: BTreeSet<SocketAddr> = BTreeSet::new();
    for endpoints in tx.open_revisits(id).await? {
        planned.extend(stored::from_json::<Vec<SocketAddr>>(
            "a shard's endpoints",
            &endpoints,
        )?);
    }
    let unproven = tx.unproven(id).await?.into_iter().map(SocketAddr::from);
    Ok(unproven
        .filter(|endpoint| !planned.contains(endpoint))
        .collect())
}

fn end(from: Timestamp, span: Duration) -> Timestamp {
    from.saturating_add(span).unwrap_or(Timestamp::MAX)
}

fn unknown(id: CampaignId) -> Error {
    Error::Unknown {
        what: format!("campaign {id}"),
    }
}

/// A submission that is sent once more is the same in all but its trace.
fn is_same(stored: &Spec, wanted: &Spec) -> bool {
    let wanted = Spec {
        traceparent: stored.traceparent.clone(),
        ..wanted.clone()
    };
    *stored == wanted
}
