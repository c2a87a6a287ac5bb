//! One campaign from its submission to its results, at whatever coordinator. `scan`, `demo`, `sweep` and `campaign` are made
//! of it.

use std::time::{Duration, Instant};

use ajar_model::{CampaignId, Finding, SignedAuthorization, Spec, campaign::State};
use ajar_proto::{convert, dial, v1};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::{
    exit::{self, from_status},
    progress::Display,
    progress::Of,
    results,
    results::Which,
    say,
};

/// How long a coordinator that went away is waited for.
const AWAY: Duration = Duration::from_secs(300);
/// Between two attempts to reach it.
const AGAIN: Duration = Duration::from_secs(1);

/// A name that no other campaign has.
pub fn new_id() -> CampaignId {
    CampaignId(Ulid::new())
}

/// A campaign at its coordinator.
pub struct Run {
    coordinator: dial::Coordinator,
    id: CampaignId,
    of: Of,
}

impl Run {
    /// The campaign of this id, which need not exist yet.
    pub fn new(coordinator: &dial::Coordinator, id: CampaignId) -> Self {
        Self {
            coordinator: coordinator.clone(),
            id,
            of: Of::Scan,
        }
    }

    /// Shows progress of this kind.
    pub fn showing(self, of: Of) -> Self {
        Self { of, ..self }
    }

    /// Which campaign it is.
    pub fn id(&self) -> CampaignId {
        self.id
    }

    /// Starts it; says how many targets it has.
    pub async fn submit(&self, spec: &Spec) -> anyhow::Result<u64> {
        let request = v1::SubmitRequest {
            id: self.id.to_string(),
            spec: Some(spec.into()),
        };
        let submitted = self.coordinator.campaigns().submit(request).await;
        Ok(submitted.map_err(from_status)?.into_inner().targets)
    }

    /// Lets it go on, under another authorization if one is given.
    pub async fn resume(&self, authorization: Option<&SignedAuthorization>) -> anyhow::Result<()> {
        let request = v1::ResumeRequest {
            id: self.id.to_string(),
            authorization: authorization.map(Into::into),
        };
        let resumed = self.coordinator.campaigns().resume(request).await;
        resumed.map(drop).map_err(from_status)
    }

    /// Hands out nothing more of it until it is resumed; one that is over stays as it is.
    pub async fn pause(&self) -> anyhow::Result<()> {
        let request = v1::PauseRequest {
            id: self.id.to_string(),
        };
        match self.coordinator.campaigns().pause(request).await {
            Err(status) if status.code() != tonic::Code::FailedPrecondition => {
                Err(from_status(status))
            }
            _ => Ok(()),
        }
    }

    /// What the coordinator knows of it.
    pub async fn describe(&self) -> anyhow::Result<v1::Campaign> {
        let campaign = self.get().await?.campaign;
        campaign.ok_or_else(|| anyhow::anyhow!("the coordinator sent no campaign"))
    }

    /// Tells the user of addresses that take every connection and never say a word, if there are any.
    pub async fn tell_mute(&self) -> anyhow::Result<()> {
        if let Some(mute) = mute(&self.get().await?) {
            say::line(mute);
        }
        Ok(())
    }

    async fn get(&self) -> anyhow::Result<v1::GetResponse> {
        let request = v1::GetRequest {
            id: self.id.to_string(),
        };
        let got = self.coordinator.campaigns().get(request).await;
        Ok(got.map_err(from_status)?.into_inner())
    }

    /// Shows a campaign's progress until it is over, or `stop` is asked for, and says the state that it has then. A coordinator
    /// that goes away is waited for.
    pub async fn follow(&self, stop: &CancellationToken) -> anyhow::Result<State> {
        let mut display: Option<Display> = None;
        let mut away: Option<Instant> = None;
        let ended = loop {
            let cause = tokio::select! {
                watched = self.watch(&mut display, &mut away) => match watched {
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
        &self,
        display: &mut Option<Display>,
        away: &mut Option<Instant>,
    ) -> Result<State, tonic::Status> {
        let request = v1::WatchRequest {
            id: self.id.to_string(),
        };
        let mut stream = self
            .coordinator
            .campaigns()
            .watch(request)
            .await?
            .into_inner();
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
                .get_or_insert_with(|| Display::new(targets, self.of))
                .show(&seen);
            let state = convert::state_in(seen.state)?;
            if state.is_final() {
                return Ok(state);
            }
        }
        Err(tonic::Status::unavailable("the stream ended"))
    }

    /// Calls `each` with the finding of every endpoint that answered.
    pub async fn results(
        &self,
        each: impl FnMut(Finding) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        results::each_endpoint(&self.coordinator, Which::Of(self.id), &[], each).await
    }
}

/// What to say of addresses that take every connection and never say a word.
pub fn mute(got: &v1::GetResponse) -> Option<String> {
    let more = match got.mute_addresses.len() as u64 {
        0 => return None,
        listed if listed < got.mute => ", ...",
        _ => "",
    };
    Some(format!(
        "mute addresses: {} ({}{more}); connections are taken on every port and nothing is said on any: something else may answer \
         for them, such as a firewall",
        got.mute,
        got.mute_addresses.join(", ")
    ))
}
