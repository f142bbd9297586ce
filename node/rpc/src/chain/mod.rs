//! ChainService: queries over the best chain and the accounts.
//!
//! [`ChainHandler`] holds one short method a call. `info`, `accounts` and `proof` answer the
//! longer ones, `follow` feeds the stream of blocks.

mod accounts;
mod follow;
mod info;
mod proof;

use pithead_api::convert;
use pithead_api::v1;
use pithead_api::v1::chain_service_server::ChainService;
use pithead_consensus::Height;
use tonic::{Request, Response, Status};

use crate::api::{Api, bad_field};
use crate::blocks::{
    TransactionPage, block_page, block_view, entry_by_hash, entry_by_tag, known_entries,
};
use crate::finality::{approvals_of, list_approvals};
use crate::outlet::ResponseStream;
use crate::page::{page_size, read_token, token};
use crate::reader::{ChainReader, MinedTransactions};
use crate::status;
use crate::transaction_status::pending_status;

/// Transactions of a page of a block, unless the caller says otherwise, and at most.
const BLOCK_PAGE: usize = 1_000;
const BLOCK_PAGE_MAX: usize = 10_000;
/// Blocks of a page, unless the caller says otherwise, and at most.
const BLOCKS_PAGE: usize = 50;
const BLOCKS_PAGE_MAX: usize = 500;
/// Most headers of a page (node policy).
const HEADERS_MAX: usize = 2_000;

/// Answers the calls of ChainService.
#[derive(Clone)]
pub(crate) struct ChainHandler(pub(crate) Api);

#[tonic::async_trait]
impl ChainService for ChainHandler {
    async fn get_chain_info(
        &self,
        _request: Request<v1::GetChainInfoRequest>,
    ) -> Result<Response<v1::GetChainInfoResponse>, Status> {
        info::chain_info(&ChainReader::new(&self.0)?).map(Response::new)
    }

    async fn get_block(
        &self,
        request: Request<v1::GetBlockRequest>,
    ) -> Result<Response<v1::GetBlockResponse>, Status> {
        let request = request.into_inner();
        self.0
            .query(move |reader| get_block(reader, &request))
            .await
    }

    async fn list_blocks(
        &self,
        request: Request<v1::ListBlocksRequest>,
    ) -> Result<Response<v1::ListBlocksResponse>, Status> {
        let request = request.into_inner();
        self.0
            .query(move |reader| list_blocks(reader, &request))
            .await
    }

    async fn list_headers(
        &self,
        request: Request<v1::ListHeadersRequest>,
    ) -> Result<Response<v1::ListHeadersResponse>, Status> {
        let request = request.into_inner();
        self.0
            .query(move |reader| list_headers(reader, &request))
            .await
    }

    async fn get_transaction(
        &self,
        request: Request<v1::GetTransactionRequest>,
    ) -> Result<Response<v1::GetTransactionResponse>, Status> {
        let text = request.into_inner().txid;
        let txid = convert::txid("txid", &text).map_err(bad_field)?;
        // The mempool first: see `transaction_status`.
        let pending = self.0.mempool().get(&txid).cloned();
        self.0
            .query(move |reader| {
                let chain = &reader.api().chain;
                match (reader.place(&txid)?, pending) {
                    (Some(place), _) => {
                        let mut mined = MinedTransactions::new(reader);
                        let (transaction, entry) = mined.at(place)?;
                        Ok(v1::GetTransactionResponse {
                            transaction: Some(chain.transaction(transaction, &txid)),
                            status: Some(reader.mined_status(place, entry)),
                        })
                    }
                    (None, Some(pending)) => Ok(v1::GetTransactionResponse {
                        transaction: Some(chain.transaction(pending.transaction(), &txid)),
                        status: Some(pending_status(&pending)),
                    }),
                    (None, None) => Err(transaction_not_found(&text)),
                }
            })
            .await
    }

    async fn get_account(
        &self,
        request: Request<v1::GetAccountRequest>,
    ) -> Result<Response<v1::GetAccountResponse>, Status> {
        let address = self
            .0
            .chain
            .address("address", &request.into_inner().address)
            .map_err(bad_field)?;
        accounts::account(&ChainReader::new(&self.0)?, &address).map(Response::new)
    }

    async fn list_account_transactions(
        &self,
        request: Request<v1::ListAccountTransactionsRequest>,
    ) -> Result<Response<v1::ListAccountTransactionsResponse>, Status> {
        let request = request.into_inner();
        self.0
            .query(move |reader| accounts::list_transactions(reader, &request))
            .await
    }

    async fn get_account_proof(
        &self,
        _request: Request<v1::GetAccountProofRequest>,
    ) -> Result<Response<v1::GetAccountProofResponse>, Status> {
        Err(status::unimplemented(
            "GetAccountProof is not served by this version; GetAccount answers without a proof",
        ))
    }

    async fn get_transaction_proof(
        &self,
        request: Request<v1::GetTransactionProofRequest>,
    ) -> Result<Response<v1::GetTransactionProofResponse>, Status> {
        let text = request.into_inner().txid;
        let txid = convert::txid("txid", &text).map_err(bad_field)?;
        self.0
            .query(move |reader| {
                let place = reader.place(&txid)?.ok_or_else(|| {
                    status::not_found(
                        "TRANSACTION_NOT_FOUND",
                        format!("transaction {text} is not mined: a proof needs its block"),
                    )
                })?;
                proof::transaction_proof(reader, place)
            })
            .await
    }

    async fn list_approvals(
        &self,
        request: Request<v1::ListApprovalsRequest>,
    ) -> Result<Response<v1::ListApprovalsResponse>, Status> {
        let request = request.into_inner();
        self.0
            .query(move |reader| list_approvals(reader, &request))
            .await
    }

    type SubscribeChainStream = ResponseStream<v1::SubscribeChainResponse>;

    async fn subscribe_chain(
        &self,
        request: Request<v1::SubscribeChainRequest>,
    ) -> Result<Response<Self::SubscribeChainStream>, Status> {
        follow::subscribe_chain(self.0.clone(), &request.into_inner())
    }
}

fn transaction_not_found(txid: &str) -> Status {
    status::not_found(
        "TRANSACTION_NOT_FOUND",
        format!(
            "no transaction {txid}, neither mined nor pending; check the txid, and whether it was submitted to this network"
        ),
    )
}

fn get_block(
    reader: &ChainReader<'_>,
    request: &v1::GetBlockRequest,
) -> Result<v1::GetBlockResponse, Status> {
    use v1::get_block_request::Block;
    let entry = match &request.block {
        None => reader.tip().clone(),
        Some(Block::Height(height)) => reader.entry_at(Height(*height))?,
        Some(Block::Hash(text)) => entry_by_hash(reader, "hash", text)?,
        Some(Block::Tag(tag)) => entry_by_tag(reader, *tag, || Ok(reader.tip().clone()))?,
    };
    let view = block_view(request.view)?;
    let first = read_token::<4>(&request.page_token)?.map_or(0, u32::from_be_bytes);
    let page = TransactionPage {
        first: first as usize,
        size: page_size(request.page_size, BLOCK_PAGE, BLOCK_PAGE_MAX),
    };
    let (mut block, next) = block_page(reader, &entry, view, page)?;
    if reader.finality().active && entry.height > Height::GENESIS {
        block.approvals = approvals_of(reader, &entry)?;
    }
    Ok(v1::GetBlockResponse {
        block: Some(block),
        next_page_token: next.map_or_else(String::new, |next| token(&next.to_be_bytes())),
    })
}

fn list_blocks(
    reader: &ChainReader<'_>,
    request: &v1::ListBlocksRequest,
) -> Result<v1::ListBlocksResponse, Status> {
    let top = reader.tip().height.0;
    let start = match read_token::<8>(&request.page_token)? {
        Some(bytes) => u64::from_be_bytes(bytes).min(top),
        None => request.start_height.unwrap_or(top).min(top),
    };
    let size = page_size(request.page_size, BLOCKS_PAGE, BLOCKS_PAGE_MAX) as u64;
    let last = (start + 1).saturating_sub(size);
    let blocks = (last..=start)
        .rev()
        .map(|height| reader.block(&reader.entry_at(Height(height))?))
        .collect::<Result<_, _>>()?;
    Ok(v1::ListBlocksResponse {
        blocks,
        next_page_token: last
            .checked_sub(1)
            .map_or_else(String::new, |next| token(&next.to_be_bytes())),
    })
}

fn list_headers(
    reader: &ChainReader<'_>,
    request: &v1::ListHeadersRequest,
) -> Result<v1::ListHeadersResponse, Status> {
    let mut first = 0;
    for entry in known_entries(reader, &request.known_hashes)? {
        if reader.is_best(&entry.hash(), entry.height)? {
            first = entry.height.0 + 1;
            break;
        }
    }
    let size = page_size(request.page_size, HEADERS_MAX, HEADERS_MAX) as u64;
    let end = (reader.tip().height.0 + 1).min(first.saturating_add(size));
    let headers = (first..end)
        .map(|height| Ok(reader.header(&reader.entry_at(Height(height))?)))
        .collect::<Result<_, Status>>()?;
    Ok(v1::ListHeadersResponse { headers })
}
