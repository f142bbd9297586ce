//! TransactionService: building, submitting and following transactions.
//!
//! [`TransactionHandler`] holds one short method a call; each file below answers what its name
//! says.

mod build;
mod pending;
mod submit;
mod watch;

use pithead_api::convert;
use pithead_api::v1;
use pithead_api::v1::transaction_service_server::TransactionService;
use tonic::{Request, Response, Status};

use crate::api::{Api, bad_field};
use crate::outlet::{EVENTS_MAX, ResponseStream, open_stream};

/// Answers the calls of TransactionService.
#[derive(Clone)]
pub(crate) struct TransactionHandler(pub(crate) Api);

#[tonic::async_trait]
impl TransactionService for TransactionHandler {
    async fn submit_transaction(
        &self,
        request: Request<v1::SubmitTransactionRequest>,
    ) -> Result<Response<v1::SubmitTransactionResponse>, Status> {
        let response = submit::submit(&self.0, request.into_inner()).await?;
        Ok(Response::new(response))
    }

    async fn build_transaction(
        &self,
        request: Request<v1::BuildTransactionRequest>,
    ) -> Result<Response<v1::BuildTransactionResponse>, Status> {
        build::build(&self.0, &request.into_inner()).map(Response::new)
    }

    async fn get_mempool_info(
        &self,
        _request: Request<v1::GetMempoolInfoRequest>,
    ) -> Result<Response<v1::GetMempoolInfoResponse>, Status> {
        let mempool = self.0.mempool();
        let limits = mempool.limits();
        Ok(Response::new(v1::GetMempoolInfoResponse {
            transaction_count: mempool.len() as u64,
            size_bytes: mempool.bytes() as u64,
            max_size_bytes: limits.bytes_max as u64,
            total_fees: mempool.fees(),
            min_fee_rate: limits.min_fee_rate,
            entry_fee_rate: mempool.entry_rate(build::PAYMENT_BYTES as usize),
            expiry_secs: limits.expiry_secs,
        }))
    }

    async fn list_pending_transactions(
        &self,
        request: Request<v1::ListPendingTransactionsRequest>,
    ) -> Result<Response<v1::ListPendingTransactionsResponse>, Status> {
        let request = request.into_inner();
        self.0
            .query(move |reader| pending::list_pending(reader, &request))
            .await
    }

    async fn estimate_fee(
        &self,
        request: Request<v1::EstimateFeeRequest>,
    ) -> Result<Response<v1::EstimateFeeResponse>, Status> {
        let response = build::estimate_fee(&self.0, &request.into_inner());
        Ok(Response::new(response))
    }

    type WatchTransactionStream = ResponseStream<v1::WatchTransactionResponse>;

    async fn watch_transaction(
        &self,
        request: Request<v1::WatchTransactionRequest>,
    ) -> Result<Response<Self::WatchTransactionStream>, Status> {
        let request = request.into_inner();
        let txid = convert::txid("txid", &request.txid).map_err(bad_field)?;
        let api = self.0.clone();
        Ok(open_stream(EVENTS_MAX, "call again", |outlet| {
            watch::watch(api, txid, request.confirmations, outlet)
        }))
    }

    type SubscribePendingTransactionsStream =
        ResponseStream<v1::SubscribePendingTransactionsResponse>;

    async fn subscribe_pending_transactions(
        &self,
        request: Request<v1::SubscribePendingTransactionsRequest>,
    ) -> Result<Response<Self::SubscribePendingTransactionsStream>, Status> {
        let text = request.into_inner().address;
        let address = if text.is_empty() {
            None
        } else {
            Some(self.0.chain.address("address", &text).map_err(bad_field)?)
        };
        let api = self.0.clone();
        let changes = api.engine.pending_changes();
        Ok(open_stream(EVENTS_MAX, pending::RESUME, |outlet| {
            pending::send_changes(api, changes, address, outlet)
        }))
    }
}
