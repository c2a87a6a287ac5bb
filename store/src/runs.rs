//! Running what is due. What becomes of a time is decided once, however many ask, in one transaction with the campaign and the
//! audit entry.

use crate::{
    AuditEntry, Error, audit, campaigns,
    rows::Rows,
    schedules::{Outcome, Ran, Run},
};

/// See [`crate::Schedules::run_scheduled`].
pub(crate) async fn run(mut tx: Box<dyn Rows>, run: &Run<'_>) -> Result<Option<Outcome>, Error> {
    let held = tx.lock_schedule(run.schedule).await?;
    let due = held.is_some_and(|(paused, handled)| !paused && handled < run.at);
    if !due {
        return Ok(None);
    }
    let outcome = outcome(tx.as_mut(), run).await?;
    let ran = Ran {
        at: run.at,
        outcome,
    };
    tx.put_run(run.schedule, &ran, run.handled).await?;
    tx.commit().await?;
    Ok(Some(ran.outcome))
}

/// Starts a campaign, or notes why not.
async fn outcome(tx: &mut dyn Rows, run: &Run<'_>) -> Result<Outcome, Error> {
    let cause = match (run.campaign, tx.last_campaign(run.schedule).await?) {
        (Err(cause), _) => cause.to_owned(),
        (Ok(_), Some((before, state))) if !state.is_final() => {
            format!(
                "campaign {before}, which it started before, is {}",
                state.as_str()
            )
        }
        (Ok(admission), _) => {
            campaigns::insert(tx, admission).await?;
            return Ok(Outcome::Started(admission.campaign.id));
        }
    };
    let entry = AuditEntry {
        detail: format!("{}: {cause}", run.skipped.detail),
        ..run.skipped.clone()
    };
    audit::append(tx, &entry).await?;
    Ok(Outcome::Skipped(cause))
}
