//! Running what is due. What becomes of a time is decided once, however many ask, in one transaction with the campaign and the
//! audit entry.

use crate::{
    Admission, AuditEntry, Error, audit, campaigns,
    rows::Rows,
    schedules::{Outcome, Ran, Run, ScheduleKey},
    stops,
};

/// See [`crate::Schedules::run_scheduled`].
pub(crate) async fn run(mut tx: Box<dyn Rows>, run: &Run<'_>) -> Result<Option<Outcome>, Error> {
    let held = tx.lock_schedule(run.key).await?;
    let due = held.is_some_and(|(paused, handled)| !paused && handled < run.at);
    if !due {
        return Ok(None);
    }
    let outcome = outcome(tx.as_mut(), run).await?;
    let ran = Ran {
        at: run.at,
        outcome,
    };
    tx.put_run(run.key, &ran, run.handled).await?;
    tx.commit().await?;
    Ok(Some(ran.outcome))
}

/// Starts a campaign, or records why not.
async fn outcome(tx: &mut dyn Rows, run: &Run<'_>) -> Result<Outcome, Error> {
    let cause = match run.campaign {
        Err(cause) => cause.to_owned(),
        Ok(admission) => match obstacle(tx, run.key, admission).await? {
            Some(cause) => cause,
            None => {
                campaigns::insert(tx, admission).await?;
                return Ok(Outcome::Started(admission.campaign.id));
            }
        },
    };
    let entry = AuditEntry {
        detail: format!("{}: {cause}", run.skipped.detail),
        ..run.skipped.clone()
    };
    audit::append(tx, &entry).await?;
    Ok(Outcome::Skipped(cause))
}

/// Returns why a campaign may not start at this time.
async fn obstacle(
    tx: &mut dyn Rows,
    key: &ScheduleKey,
    admission: &Admission<'_>,
) -> Result<Option<String>, Error> {
    if let Some(stop) = stops::in_force(tx, &admission.campaign.spec.tenant).await? {
        return Ok(Some(Error::Stopped(stop).to_string()));
    }
    let before = tx.last_campaign(key).await?;
    let before = before.filter(|(_, state)| !state.is_final());
    Ok(before.map(|(id, state)| {
        format!(
            "campaign {id}, which it started before, is {}",
            state.as_str()
        )
    }))
}
