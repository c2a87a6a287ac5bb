//! What a client is told when the store or the queue fails.

use ajar_model::CampaignId;
use tonic::Status;

/// A failure of the store as the status of a call: transient ones may be tried again.
pub(crate) fn store(error: ajar_store::Error) -> Status {
    use ajar_store::Error;
    if error.is_transient() {
        tracing::warn!(%error, "the store failed");
        return Status::unavailable(error.to_string());
    }
    match error {
        Error::Conflict { .. } => Status::already_exists(error.to_string()),
        Error::Fenced { .. } => Status::permission_denied(error.to_string()),
        Error::Incomplete { .. } | Error::Stopped(_) => {
            Status::failed_precondition(error.to_string())
        }
        Error::Invalid { .. } => Status::invalid_argument(error.to_string()),
        _ => {
            tracing::error!(%error, "the store failed");
            Status::internal(error.to_string())
        }
    }
}

/// A failure of the queue as the status of a call.
pub(crate) fn queue(error: ajar_queue::Error) -> Status {
    tracing::warn!(%error, "the queue failed");
    Status::unavailable(error.to_string())
}

/// No campaign of this id.
pub(crate) fn no_campaign(id: CampaignId) -> Status {
    Status::not_found(format!(
        "there is no campaign {id}; `ajar campaign list` shows those of a cluster, and `ajar findings list --history` those with findings"
    ))
}
