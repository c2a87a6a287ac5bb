//! Removing what is old, and the rows of what was removed.

use std::time::{Duration, Instant};

use ajar_model::Timestamp;
use jiff::tz::TimeZone;
use tonic::Status;

use crate::{Coordinator, audit, error};

/// How long rows are deleted at a time, so that other housekeeping goes on.
const AT_ONCE: Duration = Duration::from_millis(200);
/// Campaigns that are removed at a time.
const CAMPAIGNS: u32 = 100;

impl Coordinator {
    /// Deletes rows of removed campaigns for a while.
    pub(crate) async fn clear_removed(&self) -> Result<(), Status> {
        let started = Instant::now();
        let store = &self.options.store;
        while store.clear_removed().await.map_err(error::store)? && started.elapsed() < AT_ONCE {}
        Ok(())
    }

    /// Removes campaigns that are older than evidence is kept, whole months of them: their tables can
    /// then be dropped.
    pub(crate) async fn remove_old(&self) -> Result<(), Status> {
        let store = &self.options.store;
        if let Some(keep) = self.options.keep_evidence {
            let before = month_before(self.clock.now(), keep);
            let old = store.old_campaigns(before, CAMPAIGNS).await;
            for id in old.map_err(error::store)? {
                let days = keep.as_secs() / (24 * 3600);
                let detail = format!("evidence is kept for {days} days");
                let entry = audit::of(id, "coordinator", "campaign.remove", detail);
                let removed = store.remove_campaign(id, &entry).await;
                removed.map_err(error::store)?;
                tracing::info!(campaign = %id, days, "an old campaign was removed");
            }
        }
        store.drop_unused().await.map_err(error::store)
    }
}

/// Returns the beginning of the month (UTC) of so long ago. All months before it are older.
fn month_before(now: Timestamp, ago: Duration) -> Timestamp {
    let then = now.saturating_sub(ago).unwrap_or(Timestamp::MIN);
    let month = TimeZone::UTC.to_datetime(then).date().first_of_month();
    let begin = TimeZone::UTC.to_timestamp(month.at(0, 0, 0, 0));
    begin.unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_months_are_old() {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        let now: Timestamp = "2027-08-15T12:00:00Z".parse().unwrap();
        let check = |keep, expect: &str| {
            assert_eq!(month_before(now, keep), expect.parse().unwrap());
        };
        check(days(31), "2027-07-01T00:00:00Z");
        check(days(46), "2027-06-01T00:00:00Z");
        check(days(180), "2027-02-01T00:00:00Z");
        check(days(0), "2027-08-01T00:00:00Z");
        assert_eq!(month_before(now, Duration::MAX), Timestamp::MIN);
    }
}
