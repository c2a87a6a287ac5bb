//! What canaries report: that they are there, and which mail arrived.

use ajar_model::Sighting;
use ajar_proto::{convert, v1, v1::canary_service_server::CanaryService};
use tonic::{Request, Response, Status};

use crate::{Coordinator, error};

#[tonic::async_trait]
impl CanaryService for Coordinator {
    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let canary = convert::canary_in(request.into_inner().canary)?;
        self.options
            .store
            .put_canary(&canary)
            .await
            .map_err(error::store)?;
        tracing::info!(domain = canary.domain, "a canary is ready");
        Ok(Response::new(v1::RegisterResponse {}))
    }

    async fn record(
        &self,
        request: Request<v1::RecordRequest>,
    ) -> Result<Response<v1::RecordResponse>, Status> {
        let sighting = request.into_inner().sighting;
        let sighting =
            sighting.ok_or_else(|| Status::invalid_argument("field sighting: is missing"))?;
        self.receipts.record(Sighting::try_from(sighting)?).await?;
        Ok(Response::new(v1::RecordResponse {}))
    }
}
