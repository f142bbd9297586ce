//! ChainService: queries over the best chain and the accounts.

use std::pin::Pin;

use pithead_api::convert::{self, ConversionError};
use pithead_api::v1;
use pithead_api::v1::chain_service_server::ChainService;
use pithead_consensus::{Encode as _, Hash256, Height, SignedTransaction, merkle};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::finality::{approvals_of, list_approvals};
use super::page::{page_size, read_token, token};
use super::reader::{History, Reader, internal, pending_status};
use super::{Api, status};
use pithead_core::store::Table;
use pithead_core::store::schema::{self, ChainEntry, Place};

/// Most hashes of a locator (protocol §12).
pub(super) const LOCATOR_MAX: usize = 101;
/// Most headers of a page (protocol §12).
const HEADERS_MAX: usize = 2_000;
/// Bytes of transactions after which a page ends.
pub(super) const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of blocks read for one page of an account's history: each of its
/// transactions may lie in another block.
const HISTORY_READ_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The service.
#[derive(Clone)]
pub(super) struct Chain(pub(super) Api);

/// A stream of answers.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(super) fn bad_field(error: ConversionError) -> Status {
    status::invalid(&error.field, error.reason)
}

impl Api {
    /// Runs a query that may read much, off the threads that serve sockets.
    pub(super) async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Reader<'_>) -> Result<T, Status> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let api = self.clone();
        tokio::task::spawn_blocking(move || query(&Reader::new(&api)?))
            .await
            .map_err(|error| {
                tracing::error!(%error, "a query ended early");
                status::internal("the query ended early; the node's log says more")
            })?
            .map(Response::new)
    }
}

#[tonic::async_trait]
impl ChainService for Chain {
    async fn get_chain_info(
        &self,
        _request: Request<v1::GetChainInfoRequest>,
    ) -> Result<Response<v1::GetChainInfoResponse>, Status> {
        Reader::new(&self.0)?.chain_info().map(Response::new)
    }

    async fn get_block(
        &self,
        request: Request<v1::GetBlockRequest>,
    ) -> Result<Response<v1::GetBlockResponse>, Status> {
        let request = request.into_inner();
        let api = self.0.clone();
        self.0
            .query(move |reader| get_block(&api, reader, &request))
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
        let api = self.0.clone();
        let text = request.into_inner().txid;
        let txid = convert::txid("txid", &text).map_err(bad_field)?;
        // The mempool first: see `read::transaction_status`.
        let pending = api.mempool().get(&txid).cloned();
        self.0
            .query(move |reader| match (reader.place(&txid)?, pending) {
                (Some(place), _) => {
                    let (transaction, entry) = reader.mined(place)?;
                    Ok(v1::GetTransactionResponse {
                        transaction: Some(api.chain.transaction(&transaction, &txid)),
                        status: Some(reader.mined_status(place, &entry)),
                    })
                }
                (None, Some(pending)) => Ok(v1::GetTransactionResponse {
                    transaction: Some(api.chain.transaction(pending.transaction(), &txid)),
                    status: Some(pending_status(&pending)),
                }),
                (None, None) => Err(transaction_not_found(&text)),
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
        Reader::new(&self.0)?.account(&address).map(Response::new)
    }

    async fn list_account_transactions(
        &self,
        request: Request<v1::ListAccountTransactionsRequest>,
    ) -> Result<Response<v1::ListAccountTransactionsResponse>, Status> {
        let request = request.into_inner();
        let api = self.0.clone();
        self.0
            .query(move |reader| list_account_transactions(&api, reader, &request))
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
        let api = self.0.clone();
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
                transaction_proof(&api, reader, place)
            })
            .await
    }

    async fn list_approvals(
        &self,
        request: Request<v1::ListApprovalsRequest>,
    ) -> Result<Response<v1::ListApprovalsResponse>, Status> {
        let request = request.into_inner();
        let api = self.0.clone();
        self.0
            .query(move |reader| list_approvals(&api, reader, &request))
            .await
    }

    type SubscribeChainStream = Answers<v1::SubscribeChainResponse>;

    async fn subscribe_chain(
        &self,
        request: Request<v1::SubscribeChainRequest>,
    ) -> Result<Response<Self::SubscribeChainStream>, Status> {
        super::follow::subscribe_chain(self.0.clone(), request.into_inner()).await
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
    api: &Api,
    reader: &Reader<'_>,
    request: &v1::GetBlockRequest,
) -> Result<v1::GetBlockResponse, Status> {
    use v1::get_block_request::Block;
    let entry = match &request.block {
        None => reader.tip().clone(),
        Some(Block::Height(height)) => reader.entry_at(Height(*height))?,
        Some(Block::Hash(text)) => {
            let hash = convert::block_hash("hash", text).map_err(bad_field)?;
            reader
                .entry(&hash)?
                .filter(|entry| entry.status != schema::BlockStatus::Invalid)
                .ok_or_else(|| {
                    status::not_found("BLOCK_NOT_FOUND", format!("no block with hash {text}"))
                })?
        }
        Some(Block::Tag(tag)) => match v1::BlockTag::try_from(*tag) {
            Ok(v1::BlockTag::Head | v1::BlockTag::Unspecified) => reader.tip().clone(),
            Ok(v1::BlockTag::Approved) => reader.approved()?,
            Ok(v1::BlockTag::Final) => reader.last_final()?,
            Err(_) => return Err(no_tag(*tag)),
        },
    };
    let view = block_view(request.view)?;
    let first = read_token::<4>(&request.page_token)?.map_or(0, u32::from_be_bytes);
    let size = page_size(request.page_size, 1_000, 10_000);
    let (mut block, next) = block_page(api, reader, &entry, view, first as usize, size)?;
    if reader.secured().active && entry.height > Height::GENESIS {
        block.approvals = approvals_of(api, reader, &entry)?;
    }
    Ok(v1::GetBlockResponse {
        block: Some(block),
        next_page_token: next.map_or_else(String::new, |next| token(&next.to_be_bytes())),
    })
}

/// The status of a request for a block by a tag that is none.
pub(super) fn no_tag(tag: i32) -> Status {
    status::invalid(
        "tag",
        format!("{tag} is no tag: use BLOCK_TAG_HEAD, _APPROVED or _FINAL"),
    )
}

/// Reads how much of a block to return; unspecified means the txids.
pub(super) fn block_view(view: i32) -> Result<v1::BlockView, Status> {
    match v1::BlockView::try_from(view) {
        Ok(v1::BlockView::Unspecified) => Ok(v1::BlockView::Txids),
        Ok(view) => Ok(view),
        Err(_) => Err(status::invalid(
            "view",
            format!("{view} is no view: use BLOCK_VIEW_HEADER, _TXIDS, _FULL or _RAW"),
        )),
    }
}

/// A block with one page of its transactions, and where the next page starts.
pub(super) fn block_page(
    api: &Api,
    reader: &Reader<'_>,
    entry: &ChainEntry,
    view: v1::BlockView,
    first: usize,
    size: usize,
) -> Result<(v1::Block, Option<u32>), Status> {
    let mut shown = reader.block(entry)?;
    if view == v1::BlockView::Header {
        return Ok((shown, None));
    }
    if view == v1::BlockView::Raw {
        let body = reader
            .snapshot()
            .body(&entry.hash())
            .map_err(internal)?
            .unwrap_or_default();
        shown.raw = body.into();
        return Ok((shown, None));
    }
    if entry.transaction_count == 0 {
        return Ok((shown, None));
    }
    let block = schema::expect_block(reader.snapshot(), &entry.hash()).map_err(internal)?;
    let mut bytes = 0;
    let mut next = None;
    for (index, transaction) in block.transactions.iter().enumerate().skip(first) {
        if index - first >= size || bytes > PAGE_BYTES_MAX {
            next = u32::try_from(index).ok();
            break;
        }
        let txid = transaction.txid(&api.chain.genesis_hash);
        shown.txids.push(txid.to_string());
        if view == v1::BlockView::Full {
            bytes += shown_size(transaction.size());
            shown
                .transactions
                .push(api.chain.transaction(transaction, &txid));
        }
    }
    Ok((shown, next))
}

/// What a transaction takes in an answer: its readable fields and its raw bytes
/// are about three times its encoded size.
pub(super) const fn shown_size(size: usize) -> usize {
    3 * size
}

fn list_blocks(
    reader: &Reader<'_>,
    request: &v1::ListBlocksRequest,
) -> Result<v1::ListBlocksResponse, Status> {
    let top = reader.tip().height.0;
    let start = match read_token::<8>(&request.page_token)? {
        Some(bytes) => u64::from_be_bytes(bytes).min(top),
        None => request.start_height.unwrap_or(top).min(top),
    };
    let size = page_size(request.page_size, 50, 500) as u64;
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
    reader: &Reader<'_>,
    request: &v1::ListHeadersRequest,
) -> Result<v1::ListHeadersResponse, Status> {
    let mut first = 0;
    for entry in known_entries(reader, &request.known_hashes)? {
        if schema::is_best(reader.snapshot(), &entry.hash(), entry.height).map_err(internal)? {
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

/// The entries of those hashes of a locator that the node knows, in order.
pub(super) fn known_entries(
    reader: &Reader<'_>,
    hashes: &[String],
) -> Result<Vec<ChainEntry>, Status> {
    if hashes.len() > LOCATOR_MAX {
        return Err(status::invalid(
            "known_hashes",
            format!("{} hashes, at most {LOCATOR_MAX} allowed", hashes.len()),
        ));
    }
    let mut known = Vec::new();
    for (index, text) in hashes.iter().enumerate() {
        let hash =
            convert::block_hash(&format!("known_hashes[{index}]"), text).map_err(bad_field)?;
        known.extend(
            reader
                .entry(&hash)?
                .filter(|entry| entry.status == schema::BlockStatus::Connected),
        );
    }
    Ok(known)
}

fn list_account_transactions(
    api: &Api,
    reader: &Reader<'_>,
    request: &v1::ListAccountTransactionsRequest,
) -> Result<v1::ListAccountTransactionsResponse, Status> {
    let address = api
        .chain
        .address("address", &request.address)
        .map_err(bad_field)?;
    let size = page_size(request.page_size, 50, 500);
    let place_end = read_token::<12>(&request.page_token)?.unwrap_or([0xff; 12]);
    let from = address.0.to_vec();
    let to = [address.0.as_slice(), &place_end].concat();
    let found = reader
        .snapshot()
        .range(Table::AccountTransactions, &from, &to, size + 1, true)
        .map_err(internal)?;
    let mut history = History::new(reader);
    let mut transactions = Vec::new();
    let mut last = None;
    let mut bytes = 0;
    for (key, _) in found.iter().take(size) {
        if bytes > PAGE_BYTES_MAX || history.bytes_read > HISTORY_READ_BYTES_MAX {
            break;
        }
        let place = key
            .get(32..)
            .and_then(Place::from_bytes)
            .ok_or_else(|| status::internal("the account's history is damaged"))?;
        let (transaction, entry) = history.transaction(place)?;
        bytes += shown_size(transaction.size());
        transactions.push(account_transaction(
            api,
            reader,
            &address,
            transaction,
            place,
            entry,
        ));
        last = Some(place);
    }
    let more = found.len() > transactions.len();
    Ok(v1::ListAccountTransactionsResponse {
        transactions,
        next_page_token: last
            .filter(|_| more)
            .map_or_else(String::new, |place| token(&place.to_bytes())),
    })
}

fn account_transaction(
    api: &Api,
    reader: &Reader<'_>,
    address: &pithead_consensus::Address,
    transaction: &SignedTransaction,
    place: Place,
    entry: &ChainEntry,
) -> v1::AccountTransaction {
    let body = &transaction.body;
    let txid = transaction.txid(&api.chain.genesis_hash);
    let credit = body
        .outputs
        .iter()
        .filter(|output| output.recipient == *address)
        .map(|output| output.amount.grains())
        .sum();
    let debit = if body.sender == *address {
        body.total().map_or(0, pithead_consensus::Amount::grains)
    } else {
        0
    };
    v1::AccountTransaction {
        transaction: Some(api.chain.transaction(transaction, &txid)),
        status: Some(reader.mined_status(place, entry)),
        debit,
        credit,
    }
}

fn transaction_proof(
    api: &Api,
    reader: &Reader<'_>,
    place: Place,
) -> Result<v1::GetTransactionProofResponse, Status> {
    let entry = reader.entry_at(place.height)?;
    let block = schema::expect_block(reader.snapshot(), &entry.hash()).map_err(internal)?;
    let leaves: Vec<Hash256> = block
        .transactions
        .iter()
        .map(SignedTransaction::leaf_hash)
        .collect();
    let position = place.position as usize;
    let damaged = || status::internal("the place of the transaction is damaged");
    let path = merkle::audit_path(&leaves, position).ok_or_else(damaged)?;
    let transaction = block.transactions.get(position).ok_or_else(damaged)?;
    Ok(v1::GetTransactionProofResponse {
        header: Some(reader.header(&entry)),
        commitment: Some(api.chain.commitment(&entry.commitment)),
        position: place.position,
        transaction_count: entry.transaction_count,
        path: path.iter().map(|hash| hash.0.to_vec().into()).collect(),
        raw_transaction: transaction.encode().into(),
    })
}
