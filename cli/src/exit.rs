//! What a run ends with: the exit statuses that scripts rely on.

use std::{process::ExitCode, sync::OnceLock};

use ajar_model::CampaignId;

use crate::stop::Interrupted;

/// How a run that was not refused ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything that was asked for is done.
    Finished,
    /// `--fail-on` found what it was looking for.
    Found,
    /// Stopped before its end.
    Interrupted,
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        ExitCode::from(match ended {
            Ended::Finished => 0,
            Ended::Found => 3,
            Ended::Interrupted => 130,
        })
    }
}

/// The request was wrong or not allowed, and nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

pub fn refuse<T>(cause: impl std::fmt::Display) -> anyhow::Result<T> {
    Err(Refused(cause.to_string()).into())
}

/// Makes an error a refusal of the request.
pub trait OrRefuse<T> {
    /// The value, or a refusal with the error's text.
    fn or_refuse(self) -> anyhow::Result<T>;
}

impl<T, E: std::fmt::Display> OrRefuse<T> for Result<T, E> {
    fn or_refuse(self) -> anyhow::Result<T> {
        self.or_else(refuse)
    }
}

/// The status of a program whose reader has gone, as shells report SIGPIPE.
const NOBODY_READS: u8 = 128 + 13;

/// Returns whether standard output was closed by its reader, such as `head`.
pub fn is_unread(error: &anyhow::Error) -> bool {
    let mut causes = error.chain();
    causes.any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// The exit status of an error.
pub fn status(error: &anyhow::Error) -> ExitCode {
    if is_unread(error) {
        return ExitCode::from(NOBODY_READS);
    }
    if error.is::<Interrupted>() {
        return Ended::Interrupted.into();
    }
    ExitCode::from(match error.is::<Refused>() {
        true => 2,
        false => 1,
    })
}

/// The only coordinator that this process talks to, for errors; unset if it is in this process.
pub static COORDINATOR: OnceLock<String> = OnceLock::new();

/// True if a call failed on its way: a broken connection has a cause of its own, an answer has none.
pub fn is_away(status: &tonic::Status) -> bool {
    status.code() == tonic::Code::Unavailable || std::error::Error::source(status).is_some()
}

/// What a coordinator's refusal or failure is for the person who reads it.
pub fn from_status(status: tonic::Status) -> anyhow::Error {
    use tonic::Code;
    let text = status.message().to_owned();
    if is_away(&status) {
        let named = COORDINATOR
            .get()
            .map_or_else(String::new, |url| format!(" at {url}"));
        // An answer of its own has no cause below it.
        let answered = std::error::Error::source(&status).is_none();
        let fault = if answered {
            "cannot answer"
        } else {
            "does not answer"
        };
        return anyhow::anyhow!("the coordinator{named} {fault}: {text}");
    }
    match status.code() {
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition => Refused(text).into(),
        _ => anyhow::anyhow!("the coordinator failed: {text}"),
    }
}

/// A campaign's id from the command line.
pub fn campaign_id(text: &str) -> anyhow::Result<CampaignId> {
    text.parse().or_refuse()
}
