//! The fake node's services: honest where the tests need answers, UNIMPLEMENTED
//! elsewhere.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pithead_api::v1;
use pithead_api::v1::chain_service_server::{ChainService, ChainServiceServer};
use pithead_api::v1::mining_service_server::{MiningService, MiningServiceServer};
use pithead_api::v1::network_service_server::{NetworkService, NetworkServiceServer};
use pithead_api::v1::transaction_service_server::{TransactionService, TransactionServiceServer};
use pithead_consensus::encoding::Decode as _;
use pithead_consensus::{BlockHash, SignedTransaction};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::State;

type Answers<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

#[derive(Clone)]
struct Fake(Arc<Mutex<State>>);

/// Serves until it is aborted.
pub async fn serve(listener: tokio::net::TcpListener, state: Arc<Mutex<State>>) {
    let fake = Fake(state);
    tonic::transport::Server::builder()
        .add_service(
            ChainServiceServer::new(fake.clone())
                .send_compressed(CompressionEncoding::Zstd)
                .send_compressed(CompressionEncoding::Gzip),
        )
        .add_service(TransactionServiceServer::new(fake.clone()))
        .add_service(NetworkServiceServer::new(fake.clone()))
        .add_service(MiningServiceServer::new(fake))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
        .unwrap();
}

fn missing<T>() -> Answer<T> {
    Err(Status::unimplemented("the fake node does not do this"))
}

fn not_found(message: &str) -> Status {
    let details = ErrorDetails::with_error_info("NOT_FOUND", "pithead", HashMap::new());
    Status::with_error_details(Code::NotFound, message, details)
}

fn stream<T: Send + 'static>(items: Vec<T>) -> Answers<T> {
    Box::pin(tokio_stream::iter(items.into_iter().map(Ok)))
}

impl Fake {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What an honest node does with a transaction, as far as these tests go.
    fn judge(&self, raw: &[u8]) -> v1::SubmitTransactionResponse {
        use v1::SubmitTransactionOutcome as Outcome;
        let mut state = self.state();
        let transaction = SignedTransaction::decode(raw).unwrap();
        let genesis_hash: BlockHash = state.info.genesis_hash.parse().unwrap();
        let key = transaction
            .key
            .clone()
            .expect("these tests send first transactions");
        let message = transaction.body.signing_message(&genesis_hash);
        assert!(key.verifies(&message, &transaction.signature));
        assert_eq!(
            transaction.body.sender,
            pithead_consensus::Address::of_key(&key)
        );
        let answer = state.next_answer.take();
        let txid = transaction.txid(&genesis_hash).to_string();
        answer.unwrap_or_else(|| {
            state.submitted.push(transaction);
            v1::SubmitTransactionResponse {
                outcome: Outcome::Accepted.into(),
                txid,
                ..v1::SubmitTransactionResponse::default()
            }
        })
    }
}

#[tonic::async_trait]
impl ChainService for Fake {
    type SubscribeChainStream = Answers<v1::SubscribeChainResponse>;

    async fn get_chain_info(
        &self,
        _: Request<v1::GetChainInfoRequest>,
    ) -> Answer<v1::GetChainInfoResponse> {
        let mut state = self.state();
        if state.refusals > 0 {
            state.refusals -= 1;
            let mut details = ErrorDetails::with_retry_info(Some(Duration::from_millis(5)));
            details.set_error_info("RATE_LIMITED", "pithead", HashMap::new());
            return Err(Status::with_error_details(
                Code::ResourceExhausted,
                "1,000 requests a minute",
                details,
            ));
        }
        Ok(Response::new(state.info.clone()))
    }

    async fn get_block(
        &self,
        request: Request<v1::GetBlockRequest>,
    ) -> Answer<v1::GetBlockResponse> {
        use v1::get_block_request::Block as Selector;
        let state = self.state();
        let found = match request.into_inner().block {
            Some(Selector::Height(height)) => state.blocks.get(usize::try_from(height).unwrap()),
            Some(Selector::Hash(hash)) => state
                .blocks
                .iter()
                .find(|block| block.header.as_ref().unwrap().hash == hash),
            _ => state.blocks.last(),
        };
        let block = found.cloned().ok_or_else(|| not_found("no such block"))?;
        Ok(Response::new(v1::GetBlockResponse {
            block: Some(block),
            next_page_token: String::new(),
        }))
    }

    async fn list_blocks(
        &self,
        request: Request<v1::ListBlocksRequest>,
    ) -> Answer<v1::ListBlocksResponse> {
        // One block a page: the command must ask again.
        let request = request.into_inner();
        let state = self.state();
        let skip: usize = request.page_token.parse().unwrap_or(0);
        let block = state.blocks.iter().rev().nth(skip).cloned();
        let more = skip + 1 < state.blocks.len();
        Ok(Response::new(v1::ListBlocksResponse {
            blocks: block.into_iter().collect(),
            next_page_token: if more {
                (skip + 1).to_string()
            } else {
                String::new()
            },
        }))
    }

    async fn list_headers(
        &self,
        _: Request<v1::ListHeadersRequest>,
    ) -> Answer<v1::ListHeadersResponse> {
        missing()
    }

    async fn get_transaction(
        &self,
        request: Request<v1::GetTransactionRequest>,
    ) -> Answer<v1::GetTransactionResponse> {
        let txid = request.into_inner().txid;
        let found = self.state().transactions.get(&txid).cloned();
        let found =
            found.ok_or_else(|| not_found("no transaction with this txid is pending or mined"));
        Ok(Response::new(found?))
    }

    async fn get_account(
        &self,
        request: Request<v1::GetAccountRequest>,
    ) -> Answer<v1::GetAccountResponse> {
        let address = request.into_inner().address;
        let account = self.state().accounts.get(&address).cloned();
        Ok(Response::new(account.unwrap_or_else(|| {
            v1::GetAccountResponse {
                address,
                ..v1::GetAccountResponse::default()
            }
        })))
    }

    async fn list_account_transactions(
        &self,
        _: Request<v1::ListAccountTransactionsRequest>,
    ) -> Answer<v1::ListAccountTransactionsResponse> {
        Ok(Response::new(v1::ListAccountTransactionsResponse::default()))
    }

    async fn get_account_proof(
        &self,
        _: Request<v1::GetAccountProofRequest>,
    ) -> Answer<v1::GetAccountProofResponse> {
        missing()
    }

    async fn get_transaction_proof(
        &self,
        _: Request<v1::GetTransactionProofRequest>,
    ) -> Answer<v1::GetTransactionProofResponse> {
        missing()
    }

    async fn list_approvals(
        &self,
        request: Request<v1::ListApprovalsRequest>,
    ) -> Answer<v1::ListApprovalsResponse> {
        use v1::list_approvals_request::Checkpoint;
        let Some(Checkpoint::Height(height)) = request.into_inner().checkpoint else {
            return missing();
        };
        let answer = self.state().approvals.get(&height).cloned();
        let answer = answer.ok_or_else(|| not_found("no checkpoint there"))?;
        Ok(Response::new(answer))
    }

    async fn subscribe_chain(
        &self,
        request: Request<v1::SubscribeChainRequest>,
    ) -> Answer<Self::SubscribeChainStream> {
        let mut state = self.state();
        state.resumed_from.push(request.into_inner().known_hashes);
        let events = state
            .subscriptions
            .pop_front()
            .ok_or_else(|| Status::internal("the test has no more events"))?;
        Ok(Response::new(stream(events)))
    }
}

#[tonic::async_trait]
impl TransactionService for Fake {
    type WatchTransactionStream = Answers<v1::WatchTransactionResponse>;
    type SubscribePendingTransactionsStream = Answers<v1::SubscribePendingTransactionsResponse>;

    async fn submit_transaction(
        &self,
        request: Request<v1::SubmitTransactionRequest>,
    ) -> Answer<v1::SubmitTransactionResponse> {
        use v1::submit_transaction_request::Transaction;
        let Some(Transaction::Raw(raw)) = request.into_inner().transaction else {
            return Err(Status::invalid_argument("raw bytes expected"));
        };
        Ok(Response::new(self.judge(&raw)))
    }

    async fn build_transaction(
        &self,
        _: Request<v1::BuildTransactionRequest>,
    ) -> Answer<v1::BuildTransactionResponse> {
        missing()
    }

    async fn get_mempool_info(
        &self,
        _: Request<v1::GetMempoolInfoRequest>,
    ) -> Answer<v1::GetMempoolInfoResponse> {
        let count = self.state().pending.len() as u64;
        Ok(Response::new(v1::GetMempoolInfoResponse {
            transaction_count: count,
            size_bytes: count * 351,
            max_size_bytes: 64 << 20,
            min_fee_rate: 1,
            entry_fee_rate: 1,
            ..v1::GetMempoolInfoResponse::default()
        }))
    }

    async fn list_pending_transactions(
        &self,
        request: Request<v1::ListPendingTransactionsRequest>,
    ) -> Answer<v1::ListPendingTransactionsResponse> {
        let sender = request.into_inner().sender;
        let mut transactions = self.state().pending.clone();
        transactions
            .retain(|one| sender.is_empty() || one.transaction.as_ref().unwrap().sender == sender);
        let total_count = transactions.len() as u64;
        Ok(Response::new(v1::ListPendingTransactionsResponse {
            transactions,
            next_page_token: String::new(),
            total_count,
        }))
    }

    async fn estimate_fee(
        &self,
        request: Request<v1::EstimateFeeRequest>,
    ) -> Answer<v1::EstimateFeeResponse> {
        // Two grains a byte.
        Ok(Response::new(v1::EstimateFeeResponse {
            fee_rate: 2,
            fee: 2 * u64::from(request.into_inner().size_bytes),
        }))
    }

    async fn watch_transaction(
        &self,
        _: Request<v1::WatchTransactionRequest>,
    ) -> Answer<Self::WatchTransactionStream> {
        let statuses = self
            .state()
            .watches
            .pop_front()
            .ok_or_else(|| Status::internal("the test has no more statuses"))?;
        let message = |status| v1::WatchTransactionResponse {
            status: Some(status),
        };
        Ok(Response::new(stream(
            statuses.into_iter().map(message).collect(),
        )))
    }

    async fn subscribe_pending_transactions(
        &self,
        _: Request<v1::SubscribePendingTransactionsRequest>,
    ) -> Answer<Self::SubscribePendingTransactionsStream> {
        missing()
    }
}

#[tonic::async_trait]
impl NetworkService for Fake {
    async fn get_node_info(
        &self,
        _: Request<v1::GetNodeInfoRequest>,
    ) -> Answer<v1::GetNodeInfoResponse> {
        let mut details = ErrorDetails::with_error_info("NODE_STOPPING", "pithead", HashMap::new());
        details.set_request_info("1", "");
        Err(Status::with_error_details(
            Code::Unavailable,
            "the node is stopping",
            details,
        ))
    }

    async fn list_peers(&self, _: Request<v1::ListPeersRequest>) -> Answer<v1::ListPeersResponse> {
        missing()
    }

    async fn list_validators(
        &self,
        _: Request<v1::ListValidatorsRequest>,
    ) -> Answer<v1::ListValidatorsResponse> {
        Ok(Response::new(self.state().validators.clone()))
    }

    async fn list_evidence(
        &self,
        request: Request<v1::ListEvidenceRequest>,
    ) -> Answer<v1::ListEvidenceResponse> {
        // One proof a page: the command must ask again.
        let skip: usize = request.into_inner().page_token.parse().unwrap_or(0);
        let state = self.state();
        let more = skip + 1 < state.evidence.len();
        Ok(Response::new(v1::ListEvidenceResponse {
            evidence: state.evidence.iter().skip(skip).take(1).cloned().collect(),
            next_page_token: if more {
                (skip + 1).to_string()
            } else {
                String::new()
            },
        }))
    }
}

#[tonic::async_trait]
impl MiningService for Fake {
    type SubscribeWorkStream = Answers<v1::SubscribeWorkResponse>;

    async fn subscribe_work(
        &self,
        _: Request<v1::SubscribeWorkRequest>,
    ) -> Answer<Self::SubscribeWorkStream> {
        missing()
    }

    async fn get_block_template(
        &self,
        _: Request<v1::GetBlockTemplateRequest>,
    ) -> Answer<v1::GetBlockTemplateResponse> {
        missing()
    }

    async fn submit_solution(
        &self,
        _: Request<v1::SubmitSolutionRequest>,
    ) -> Answer<v1::SubmitSolutionResponse> {
        missing()
    }

    async fn submit_block(
        &self,
        _: Request<v1::SubmitBlockRequest>,
    ) -> Answer<v1::SubmitBlockResponse> {
        missing()
    }

    async fn report_telemetry(
        &self,
        _: Request<v1::ReportTelemetryRequest>,
    ) -> Answer<v1::ReportTelemetryResponse> {
        Err(Status::unimplemented("not used by clients"))
    }

    async fn list_workers(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Answer<v1::ListWorkersResponse> {
        let token = request.metadata().get("authorization").cloned();
        let token = token.map(|token| token.to_str().unwrap().to_owned());
        self.state().tokens.push(token.clone());
        if token.as_deref() != Some("Bearer right") {
            return Err(Status::unauthenticated("this method needs the mine token"));
        }
        Ok(Response::new(v1::ListWorkersResponse {
            workers: vec![v1::Worker {
                name: "shed".to_owned(),
                connected: true,
                accepted_blocks: 4,
                hash_rate: 2_000_000.0,
                stale: 2,
                stale_rate: 0.005,
                telemetry: Some(v1::MinerTelemetry {
                    kernel: "avx2".to_owned(),
                    threads: 4,
                    hash_rate: 2_100_000.0,
                    first_hash_p99_ms: Some(1.25),
                    temperature_celsius: Some(61.4),
                    power_watts: Some(65.0),
                    ..v1::MinerTelemetry::default()
                }),
                ..v1::Worker::default()
            }],
            total_hash_rate: 2_000_000.0,
        }))
    }
}
