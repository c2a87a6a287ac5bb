//! One lease, from its grant to its end: verified, run, renewed, reported, given back.

use std::{sync::Arc, time::Duration};

use ajar_model::{
    Authorization, Lease, NonceKey, Scope, Spec, TargetSpace, Timestamp, authorization,
    lease::Work, shard::ShardSpace,
};
use ajar_proto::{convert, dial::Traced, trace, v1, v1::work_service_client::WorkServiceClient};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    Options, Worker,
    crowd::Crowd,
    egress::Egress,
    fence::{Fence, Now},
    pacer::Pacer,
    report::{Delivery, Reporter},
    shard::{self, Targets},
    visit::Visitor,
};

/// How much earlier than the coordinator the worker considers a lease ended.
const MARGIN: Duration = Duration::from_secs(2);
/// How often a lease is renewed, which is also how soon a stop takes effect.
const RENEWAL: Duration = Duration::from_secs(1);

/// Why a lease was not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The coordinator could not be asked.
    #[error("the coordinator does not answer: {}", .0.message())]
    Coordinator(#[from] tonic::Status),
    /// It sent what this worker cannot take.
    #[error("the coordinator sent a lease that cannot be run: {0}")]
    Message(#[from] convert::Error),
    /// It sent what the authorization does not cover. Nothing was sent to any target.
    #[error("the lease was refused, and nothing was sent: {0}")]
    Unauthorized(String),
}

impl Worker {
    /// Runs a lease that was asked for at `sent`.
    pub(crate) async fn run_lease(&self, lease: Lease, sent: Now) -> Result<(), Error> {
        let request = v1::DescribeRequest {
            campaign: lease.shard.campaign.to_string(),
        };
        let campaign = self.control.clone().describe(request).await?.into_inner();
        let spec: Spec = convert::spec_in(campaign.spec)?;
        let key = convert::nonce_key_in(&campaign.nonce_key)?;
        let span = tracing::info_span!("shard", shard = %lease.shard, token = lease.token);
        if let Some(parent) = &spec.traceparent {
            trace::follow(&span, parent);
        }
        self.run_shard(lease, sent, spec, key)
            .instrument(span)
            .await
    }

    async fn run_shard(
        &self,
        lease: Lease,
        sent: Now,
        spec: Spec,
        key: NonceKey,
    ) -> Result<(), Error> {
        let options = &self.options;
        let authorization = verify(options, &spec)?;
        let (targets, space) = targets(&lease, &spec)?;
        let scope = Scope::new(
            authorization.as_ref(),
            space,
            &spec.exclude,
            &options.control_plane,
        );
        let fence = Arc::new(Fence::new(sent, lease.ttl.saturating_sub(MARGIN)));
        let pacer = Arc::new(Pacer::new(lease.rate, spec.prefix_rate));
        let visitor = Arc::new(Visitor {
            campaign: lease.shard.campaign,
            key,
            vantage: options.vantage.clone(),
            our_name: spec.canary.domain.clone(),
            visit: match &lease.work {
                Work::Sweep(_) => 1,
                Work::Revisit { visit, .. } => *visit,
            },
            egress: Egress::new(scope, Arc::clone(&fence), Arc::clone(&pacer)),
            crowd: Crowd::new(spec.prefix_rate),
            spec: Arc::new(spec),
        });
        let give_up = self.give_up.clone();
        let mut reporter = Reporter::new(&options.coordinator, lease.shard, lease.token, give_up);
        let stop = self.drain.child_token();
        let renewing = renew(
            self.control.clone(),
            lease.clone(),
            fence,
            pacer,
            stop.clone(),
        );
        let renewing = tokio::spawn(renewing);
        let capacity = Arc::clone(&self.capacity);
        let done = shard::run(
            &targets,
            lease.cursor,
            visitor,
            capacity,
            &mut reporter,
            &stop,
        )
        .await;
        // The lease is kept while results are on their way: they move its cursor.
        let delivery = reporter.finish().await;
        renewing.abort();
        if delivery != Delivery::Complete {
            tracing::warn!(shard = %lease.shard, ?delivery, "the lease was lost before its results were stored");
            return Ok(());
        }
        if done {
            return Ok(());
        }
        let release = v1::ReleaseRequest {
            shard: Some(lease.shard.into()),
            token: lease.token,
        };
        self.control.clone().release(release).await?;
        Ok(())
    }
}

fn targets(lease: &Lease, spec: &Spec) -> Result<(Targets, TargetSpace), Error> {
    let unauthorized = |cause: String| Error::Unauthorized(cause);
    let space = TargetSpace::new(&spec.targets, &spec.exclude)
        .map_err(|cause| unauthorized(cause.to_string()))?;
    let targets = match lease.work.clone() {
        Work::Sweep(blocks) if blocks.end <= space.blocks() => Targets::Space(ShardSpace::new(
            &space,
            &spec.ports,
            lease.shard.campaign,
            blocks,
        )),
        Work::Sweep(blocks) => {
            let cause = format!("blocks {blocks:?} of {}", space.blocks());
            return Err(unauthorized(cause));
        }
        Work::Revisit { endpoints, .. } => Targets::List(endpoints),
    };
    Ok((targets, space))
}

/// Checks the signature and what it covers, at every lease: an authorization may have ended since.
fn verify(options: &Options, spec: &Spec) -> Result<Option<Authorization>, Error> {
    let refuse = |cause: String| Err(Error::Unauthorized(cause));
    let Some(signed) = &spec.authorization else {
        if !options.allow_loopback {
            return refuse("it has no authorization".to_owned());
        }
        return match authorization::check_unsigned(spec) {
            Ok(()) => Ok(None),
            Err(cause) => refuse(cause.to_string()),
        };
    };
    let verified = match signed.verify(&options.signers, Timestamp::now()) {
        Ok(verified) => verified,
        Err(cause) => return refuse(cause.to_string()),
    };
    match verified.authorization.covers(spec) {
        Ok(()) => Ok(Some(verified.authorization)),
        Err(cause) => refuse(cause.to_string()),
    }
}

/// Keeps a lease until it is lost; then stops its shard.
async fn renew(
    mut client: WorkServiceClient<Traced>,
    lease: Lease,
    fence: Arc<Fence>,
    pacer: Arc<Pacer>,
    stop: CancellationToken,
) {
    let mut ttl = lease.ttl;
    loop {
        tokio::time::sleep(RENEWAL.min(ttl / 3)).await;
        let sent = Now::read();
        let request = v1::RenewRequest {
            shard: Some(lease.shard.into()),
            token: lease.token,
        };
        match client.renew(request).await.map(tonic::Response::into_inner) {
            Ok(renewed) if renewed.kept => {
                ttl = convert::duration_in("ttl", renewed.ttl).unwrap_or(ttl);
                fence.extend(sent, ttl.saturating_sub(MARGIN));
                pacer.set_rate(renewed.rate).await;
            }
            Ok(_) => {
                fence.close();
                stop.cancel();
                return;
            }
            Err(status) => {
                tracing::warn!(cause = status.message(), "the lease could not be renewed");
                if !fence.is_open(sent) {
                    stop.cancel();
                    return;
                }
            }
        }
    }
}
