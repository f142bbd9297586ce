//! MiningService: gives work to miners and takes their solutions.
//!
//! [`MiningHandler`] holds one short method a call. `work` is what miners get, `solutions` what
//! they hand in, `worker_reports` what the node knows of them.

mod solutions;
mod work;
mod worker_reports;

use pithead_api::v1;
use pithead_api::v1::mining_service_server::MiningService;
use pithead_consensus::Address;
use tonic::{Request, Response, Status};

use self::work::OpenSubscription;
pub(crate) use self::work::has_work;
use self::worker_reports::check_name;
use crate::api::{Api, bad_field};
use crate::outlet::{EVENTS_MAX, ResponseStream, open_stream};
use crate::workers::WorkerId;

/// Answers the calls of MiningService.
#[derive(Clone)]
pub(crate) struct MiningHandler(pub(crate) Api);

impl MiningHandler {
    fn reward_address(&self, text: &str) -> Result<Address, Status> {
        let address = self.0.chain.address("reward_address", text);
        address.map_err(bad_field)
    }
}

#[tonic::async_trait]
impl MiningService for MiningHandler {
    type SubscribeWorkStream = ResponseStream<v1::SubscribeWorkResponse>;

    async fn subscribe_work(
        &self,
        request: Request<v1::SubscribeWorkRequest>,
    ) -> Result<Response<Self::SubscribeWorkStream>, Status> {
        let remote = request
            .remote_addr()
            .map_or_else(String::new, |address| address.to_string());
        let request = request.into_inner();
        let reward_address = self.reward_address(&request.reward_address)?;
        check_name("worker", &request.worker)?;
        check_name("agent", &request.agent)?;
        work::check_has_work(&self.0)?;
        let worker = WorkerId {
            name: request.worker,
            reward_address,
        };
        let miner = OpenSubscription::open(&self.0, worker, request.agent, remote);
        Ok(open_stream(EVENTS_MAX, "subscribe again", |outlet| {
            work::send_work(miner, outlet)
        }))
    }

    async fn get_block_template(
        &self,
        request: Request<v1::GetBlockTemplateRequest>,
    ) -> Result<Response<v1::GetBlockTemplateResponse>, Status> {
        let request = request.into_inner();
        let address = self.reward_address(&request.reward_address)?;
        work::block_template(&self.0, address, request.include_transactions)
            .await
            .map(Response::new)
    }

    async fn submit_solution(
        &self,
        request: Request<v1::SubmitSolutionRequest>,
    ) -> Result<Response<v1::SubmitSolutionResponse>, Status> {
        solutions::submit_solution(&self.0, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn submit_block(
        &self,
        request: Request<v1::SubmitBlockRequest>,
    ) -> Result<Response<v1::SubmitBlockResponse>, Status> {
        solutions::submit_block(&self.0, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn report_telemetry(
        &self,
        request: Request<v1::ReportTelemetryRequest>,
    ) -> Result<Response<v1::ReportTelemetryResponse>, Status> {
        let request = request.into_inner();
        check_name("worker", &request.worker)?;
        let worker = WorkerId {
            reward_address: self.reward_address(&request.reward_address)?,
            name: request.worker,
        };
        let message = request.telemetry.unwrap_or_default();
        worker_reports::report_telemetry(&self.0, &worker, message)?;
        Ok(Response::new(v1::ReportTelemetryResponse {}))
    }

    async fn list_workers(
        &self,
        _request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        Ok(Response::new(worker_reports::list_workers(&self.0)))
    }
}
