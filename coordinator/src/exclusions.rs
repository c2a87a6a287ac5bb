//! The service by which operators exclude addresses while campaigns run.

use std::time::Duration;

use ajar_model::{Target, Timestamp};
use ajar_proto::{convert, v1, v1::exclusion_service_server::ExclusionService};
use ajar_store::{Exclusion, ExclusionQuery};
use tonic::{Request, Response, Status};
use ulid::Ulid;

use crate::{Coordinator, audit::entry, caller, error, tenants::Tenants};

/// Exclusions of one answer.
const PAGE: u32 = 500;
/// Targets of one request.
const MOST: usize = 10_000;

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ExclusionService for Coordinator {
    async fn add(
        &self,
        request: Request<v1::AddExclusionsRequest>,
    ) -> Reply<v1::AddExclusionsResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let request = request.into_inner();
        if request.targets.is_empty() || request.targets.len() > MOST {
            return Err(Status::invalid_argument(format!(
                "expected 1 to {MOST} targets"
            )));
        }
        if request.reason.trim().is_empty() {
            let cause = "an exclusion needs a reason: who asked for it, and where that is written";
            return Err(Status::invalid_argument(cause));
        }
        let tenant = self
            .tenant_to_exclude(&tenants, request.tenant, &caller)
            .await?;
        let targets: Vec<Target> = convert::parse_all("targets", &request.targets)?;
        let now = self.clock.now();
        let lasts = request
            .lasts
            .map(|lasts| convert::duration_in("lasts", Some(lasts)));
        let expires_at = lasts.transpose()?.map(|lasts: Duration| {
            let end = now.saturating_add(lasts);
            end.unwrap_or(Timestamp::MAX)
        });
        let exclusions: Vec<Exclusion> = targets
            .into_iter()
            .map(|target| Exclusion {
                id: Ulid::new().to_string(),
                tenant: tenant.clone(),
                target,
                reason: request.reason.clone(),
                by: caller.clone(),
                created_at: now,
                expires_at,
                removed_at: None,
            })
            .collect();
        let listed: Vec<String> = request.targets.iter().take(8).cloned().collect();
        let more = if request.targets.len() > 8 {
            ", …"
        } else {
            ""
        };
        let detail = format!("{}{more}: {}", listed.join(", "), request.reason);
        let entry = entry(&caller, "exclusion.add", detail);
        let added = self.options.store.exclude(&exclusions, &entry).await;
        added.map_err(error::store)?;
        let ids = exclusions.into_iter().map(|exclusion| exclusion.id);
        Ok(Response::new(v1::AddExclusionsResponse {
            ids: ids.collect(),
        }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveExclusionRequest>,
    ) -> Reply<v1::RemoveExclusionResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let id = request.into_inner().id;
        let entry = entry(&caller, "exclusion.remove", id.clone());
        let names = tenants.names();
        let removed = self
            .options
            .store
            .include(&id, names.as_deref(), &entry)
            .await;
        if removed.map_err(error::store)? {
            Ok(Response::new(v1::RemoveExclusionResponse {}))
        } else {
            Err(Status::not_found(format!(
                "there is no exclusion {id:?} in force; `ajar exclude list` shows those that are"
            )))
        }
    }

    async fn list(
        &self,
        request: Request<v1::ListExclusionsRequest>,
    ) -> Reply<v1::ListExclusionsResponse> {
        let tenants = caller::tenants(&request);
        let request = request.into_inner();
        let query = ExclusionQuery {
            tenants: tenants.names(),
            all: request.all,
            after: Some(request.after).filter(|after| !after.is_empty()),
            limit: PAGE,
        };
        let listed = self.options.store.exclusions(&query).await;
        let exclusions = listed.map_err(error::store)?.into_iter().map(out);
        Ok(Response::new(v1::ListExclusionsResponse {
            exclusions: exclusions.collect(),
        }))
    }
}

impl Coordinator {
    /// Returns whose campaigns an exclusion is to hold for; `None` for everybody's, which needs a
    /// caller who acts for all.
    async fn tenant_to_exclude(
        &self,
        tenants: &Tenants,
        named: String,
        caller: &str,
    ) -> Result<Option<String>, Status> {
        if !named.is_empty() {
            self.check_tenant(tenants, &named, caller).await?;
            return Ok(Some(named));
        }
        match &tenants.named()[..] {
            [one] => Ok(one.map(str::to_owned)),
            _ => Err(Status::invalid_argument(
                "the certificate is for several tenants: name one with --tenant",
            )),
        }
    }
}

fn out(exclusion: Exclusion) -> v1::Exclusion {
    v1::Exclusion {
        id: exclusion.id,
        tenant: exclusion.tenant.unwrap_or_default(),
        target: exclusion.target.to_string(),
        reason: exclusion.reason,
        by: exclusion.by,
        created_at: Some(convert::time_out(exclusion.created_at)),
        expires_at: exclusion.expires_at.map(convert::time_out),
        removed_at: exclusion.removed_at.map(convert::time_out),
    }
}
