//! What a client asks a node, one method a question. Each waits out a node that
//! limits requests, and lists are collected over all their pages. Requests that
//! change something are not here, but with what they change (`transfer`).

use pithead_api::v1;
use tonic::Streaming;

use crate::connection::Client;
use crate::error::ClientError;

/// Most blocks, or transactions of an account, that a node gives in one page.
const BLOCKS_PER_PAGE: usize = 500;
/// Pending transactions, peers or bans that are asked for in one page.
const ENTRIES_PER_PAGE: usize = 1_000;
/// Proofs that are asked for in one page: two certificates take 600 kB.
const PROOFS_PER_PAGE: usize = 100;
/// Most proofs that are read: a node keeps few for each validator.
const PROOFS_MAX: usize = 10_000;

/// Calls a method of a generated client, again if the node limits requests.
macro_rules! ask {
    ($client:expr, $service:ident.$method:ident($request:expr)) => {{
        let request = $request;
        $client
            .read(|| {
                let (mut service, request) = ($client.$service(), request.clone());
                async move { service.$method(request).await }
            })
            .await
    }};
}

/// Collects entries page by page, until the last page or `limit` entries. `ask`
/// gets the size and the token of a page and returns its entries and the token
/// of the next one, which is empty at the end.
async fn pages<T>(
    limit: usize,
    page_max: usize,
    mut ask: impl AsyncFnMut(u32, String) -> Result<(Vec<T>, String), ClientError>,
) -> Result<Vec<T>, ClientError> {
    let mut entries = Vec::new();
    let mut page_token = String::new();
    while entries.len() < limit {
        let size = (limit - entries.len()).min(page_max);
        let (page, next) = ask(u32::try_from(size).unwrap_or(u32::MAX), page_token).await?;
        entries.extend(page);
        page_token = next;
        if page_token.is_empty() {
            break;
        }
    }
    entries.truncate(limit);
    Ok(entries)
}

impl Client {
    /// The network, the tip and the totals.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn chain_info(&self) -> Result<v1::GetChainInfoResponse, ClientError> {
        ask!(self, chain.get_chain_info(v1::GetChainInfoRequest {}))
    }

    /// Balance and sequence of the account with this address, in text form.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn account(&self, address: &str) -> Result<v1::GetAccountResponse, ClientError> {
        let address = address.to_owned();
        ask!(self, chain.get_account(v1::GetAccountRequest { address }))
    }

    /// What an account sent and received, newest first, at most `count`.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn account_transactions(
        &self,
        address: &str,
        count: usize,
    ) -> Result<Vec<v1::AccountTransaction>, ClientError> {
        pages(count, BLOCKS_PER_PAGE, async |page_size, page_token| {
            let request = v1::ListAccountTransactionsRequest {
                address: address.to_owned(),
                page_size,
                page_token,
            };
            let page = ask!(self, chain.list_account_transactions(request))?;
            Ok((page.transactions, page.next_page_token))
        })
        .await
    }

    /// A block, or a page of it.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn block(
        &self,
        request: v1::GetBlockRequest,
    ) -> Result<v1::GetBlockResponse, ClientError> {
        ask!(self, chain.get_block(request))
    }

    /// At most `count` blocks of the best chain, newest first, from the height
    /// `start_height` down; from the tip if there is none.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn blocks(
        &self,
        start_height: Option<u64>,
        count: usize,
    ) -> Result<Vec<v1::Block>, ClientError> {
        pages(count, BLOCKS_PER_PAGE, async |page_size, page_token| {
            let request = v1::ListBlocksRequest {
                page_size,
                page_token,
                start_height,
            };
            let page = ask!(self, chain.list_blocks(request))?;
            Ok((page.blocks, page.next_page_token))
        })
        .await
    }

    /// Follows the best chain from the first of `known_hashes` that the node
    /// knows; from its tip if there are none.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn subscribe_chain(
        &self,
        known_hashes: Vec<String>,
        view: v1::BlockView,
    ) -> Result<Streaming<v1::SubscribeChainResponse>, ClientError> {
        let request = v1::SubscribeChainRequest {
            known_hashes,
            view: view.into(),
        };
        let mut chain = self.chain();
        self.call(chain.subscribe_chain(request)).await
    }

    /// The approvals of the checkpoint at a height of the best chain.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn approvals(&self, height: u64) -> Result<v1::ListApprovalsResponse, ClientError> {
        use v1::list_approvals_request::Checkpoint;
        let checkpoint = Some(Checkpoint::Height(height));
        ask!(
            self,
            chain.list_approvals(v1::ListApprovalsRequest { checkpoint })
        )
    }

    /// A transaction and where it stands.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn transaction(&self, txid: &str) -> Result<v1::GetTransactionResponse, ClientError> {
        let txid = txid.to_owned();
        ask!(
            self,
            chain.get_transaction(v1::GetTransactionRequest { txid })
        )
    }

    /// Follows a transaction: its state now, then every change, until it has
    /// `confirmations` (0: is final) or can't be mined any more.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn watch_transaction(
        &self,
        txid: &str,
        confirmations: u64,
    ) -> Result<Streaming<v1::WatchTransactionResponse>, ClientError> {
        let request = v1::WatchTransactionRequest {
            txid: txid.to_owned(),
            confirmations,
        };
        let mut transactions = self.transactions();
        self.call(transactions.watch_transaction(request)).await
    }

    /// At most `limit` pending transactions that `sender` sends, or that anyone
    /// sends if it is empty; and how many there are in all.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn pending_transactions(
        &self,
        sender: &str,
        limit: usize,
    ) -> Result<(Vec<v1::PendingTransaction>, u64), ClientError> {
        let mut total_count = 0;
        let found = pages(limit, ENTRIES_PER_PAGE, async |page_size, page_token| {
            let request = v1::ListPendingTransactionsRequest {
                page_size,
                page_token,
                sender: sender.to_owned(),
            };
            let page = ask!(self, transactions.list_pending_transactions(request))?;
            total_count = page.total_count;
            Ok((page.transactions, page.next_page_token))
        })
        .await?;
        Ok((found, total_count))
    }

    /// How full the mempool is, and what it asks for.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn mempool_info(&self) -> Result<v1::GetMempoolInfoResponse, ClientError> {
        ask!(
            self,
            transactions.get_mempool_info(v1::GetMempoolInfoRequest {})
        )
    }

    /// The fee for a transaction of `size_bytes` that is to be mined next.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn estimate_fee(
        &self,
        size_bytes: u32,
    ) -> Result<v1::EstimateFeeResponse, ClientError> {
        let request = v1::EstimateFeeRequest {
            target_blocks: 1,
            size_bytes,
        };
        ask!(self, transactions.estimate_fee(request))
    }

    /// What node this is, and how it is connected.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn node_info(&self) -> Result<v1::GetNodeInfoResponse, ClientError> {
        ask!(self, network.get_node_info(v1::GetNodeInfoRequest {}))
    }

    /// The nodes that this one is connected to.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn peers(&self) -> Result<Vec<v1::Peer>, ClientError> {
        pages(
            usize::MAX,
            ENTRIES_PER_PAGE,
            async |page_size, page_token| {
                let request = v1::ListPeersRequest {
                    page_size,
                    page_token,
                };
                let page = ask!(self, network.list_peers(request))?;
                Ok((page.peers, page.next_page_token))
            },
        )
        .await
    }

    /// The peers and hosts that this node refuses. Needs the admin token.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn bans(&self) -> Result<Vec<v1::Ban>, ClientError> {
        pages(
            usize::MAX,
            ENTRIES_PER_PAGE,
            async |page_size, page_token| {
                let request = v1::ListBansRequest {
                    page_size,
                    page_token,
                };
                let page = ask!(self, admin.list_bans(request))?;
                Ok((page.bans, page.next_page_token))
            },
        )
        .await
    }

    /// The miners that work for this node. Needs the mine token.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn workers(&self) -> Result<v1::ListWorkersResponse, ClientError> {
        ask!(self, mining.list_workers(v1::ListWorkersRequest {}))
    }

    /// The validators of the genesis, in its order, and what the node has seen
    /// of them.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn validators(&self) -> Result<v1::ListValidatorsResponse, ClientError> {
        ask!(self, network.list_validators(v1::ListValidatorsRequest {}))
    }

    /// Every proof of misbehaviour that the node keeps, oldest first; 10,000 at
    /// most. Check them with [`crate::evidence::check`] before you believe them.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn evidence(&self) -> Result<Vec<v1::Evidence>, ClientError> {
        pages(
            PROOFS_MAX,
            PROOFS_PER_PAGE,
            async |page_size, page_token| {
                let request = v1::ListEvidenceRequest {
                    page_size,
                    page_token,
                };
                let page = ask!(self, network.list_evidence(request))?;
                Ok((page.evidence, page.next_page_token))
            },
        )
        .await
    }
}
