//! A connection to one node: timeouts, keepalive, compression, the token, and
//! patience with a node that limits requests.

use std::sync::Arc;
use std::time::Duration;

use pithead_api::v1;
use pithead_api::v1::admin_service_client::AdminServiceClient;
use pithead_api::v1::chain_service_client::ChainServiceClient;
use pithead_api::v1::mining_service_client::MiningServiceClient;
use pithead_api::v1::network_service_client::NetworkServiceClient;
use pithead_api::v1::transaction_service_client::TransactionServiceClient;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::error::{ClientError, innermost};

/// Where a node listens if nothing else is said.
pub const DEFAULT_NODE_URL: &str = "http://127.0.0.1:7310";
/// How long a connection attempt may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node may take for an answer, or for the start of a stream.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// A ping goes out on a silent connection this often …
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// … and must be answered within this.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer accepted: a block of the largest size that a genesis may set
/// fits (protocol §12).
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often a read is tried when the node limits requests.
const ATTEMPTS_MAX: u32 = 4;
/// The longest wait between two tries.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(10);

/// How to connect.
#[derive(Clone)]
pub struct ConnectOptions {
    /// `http://HOST:PORT`.
    pub url: String,
    /// How long the attempt may take.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub request_timeout: Duration,
    /// Token of the roles mine and admin, as the node's token file holds it.
    pub token: Option<String>,
}

impl ConnectOptions {
    /// The defaults for a node at `url`.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            token: None,
        }
    }
}

/// Adds the token to every request, if there is one.
#[derive(Clone)]
pub struct Authorization(Option<MetadataValue<Ascii>>);

impl Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// What the generated clients run on.
pub type Transport = InterceptedService<Channel, Authorization>;

/// A connection to a node. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Client {
    url: Arc<str>,
    transport: Transport,
    request_timeout: Duration,
}

/// Applies the compression and the limits that every service shares.
macro_rules! tuned {
    ($client:ident, $transport:expr) => {
        $client::new($transport)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    };
}

impl Client {
    /// Connects to the node at `url` with the default options.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] if nothing answers there.
    pub async fn connect(url: &str) -> Result<Self, ClientError> {
        Self::connect_with(&ConnectOptions::new(url)).await
    }

    /// Connects to a node.
    ///
    /// # Errors
    /// [`ClientError::BadUrl`], or [`ClientError::NotRunning`] if nothing
    /// answers there.
    pub async fn connect_with(options: &ConnectOptions) -> Result<Self, ClientError> {
        let url = &options.url;
        let bad = |reason: &str| ClientError::BadUrl {
            url: url.clone(),
            reason: reason.to_owned(),
        };
        if url.starts_with("https://") {
            return Err(bad(
                "connections over TLS are not supported; use http:// on a trusted network or through a tunnel",
            ));
        }
        if !url.starts_with("http://") {
            return Err(bad("it must start with http://"));
        }
        let endpoint = Endpoint::from_shared(url.clone())
            .map_err(|error| bad(&innermost(&error)))?
            .user_agent(concat!("pithead-client/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| bad(&innermost(&error)))?
            .connect_timeout(options.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        let token = match &options.token {
            Some(token) => Some(
                format!("Bearer {}", token.trim())
                    .parse()
                    .map_err(|_| bad("the token holds characters that can't be sent"))?,
            ),
            None => None,
        };
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| ClientError::NotRunning {
                url: url.clone(),
                reason: innermost(&error),
            })?;
        Ok(Self {
            url: url.as_str().into(),
            transport: InterceptedService::new(channel, Authorization(token)),
            request_timeout: options.request_timeout,
        })
    }

    /// Where the node is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same connection with more or less patience.
    #[must_use]
    pub fn with_request_timeout(mut self, request_timeout: Duration) -> Self {
        self.request_timeout = request_timeout;
        self
    }

    /// The generated client of ChainService.
    #[must_use]
    pub fn chain(&self) -> ChainServiceClient<Transport> {
        tuned!(ChainServiceClient, self.transport.clone())
    }

    /// The generated client of TransactionService.
    #[must_use]
    pub fn transactions(&self) -> TransactionServiceClient<Transport> {
        tuned!(TransactionServiceClient, self.transport.clone())
    }

    /// The generated client of MiningService.
    #[must_use]
    pub fn mining(&self) -> MiningServiceClient<Transport> {
        tuned!(MiningServiceClient, self.transport.clone())
    }

    /// The generated client of NetworkService.
    #[must_use]
    pub fn network(&self) -> NetworkServiceClient<Transport> {
        tuned!(NetworkServiceClient, self.transport.clone())
    }

    /// The generated client of AdminService.
    #[must_use]
    pub fn admin(&self) -> AdminServiceClient<Transport> {
        tuned!(AdminServiceClient, self.transport.clone())
    }

    /// Makes one request and waits for its answer, no longer than the timeout.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn call<T>(
        &self,
        request: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(self.request_timeout, request).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(ClientError::from_status(&status, &self.url)),
            Err(_) => Err(ClientError::Timeout {
                url: self.url.to_string(),
                waited: self.request_timeout,
            }),
        }
    }

    /// Makes a request that may be repeated: while the node limits requests,
    /// waits as long as it asks and tries again, a few times.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn read<T, F>(&self, mut request: impl FnMut() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut attempt = 1;
        loop {
            match self.call(request()).await {
                Err(ClientError::RateLimited { retry_after, .. }) if attempt < ATTEMPTS_MAX => {
                    let backoff = Duration::from_millis(250) * 2u32.pow(attempt);
                    let delay = retry_after.unwrap_or(backoff).min(RETRY_DELAY_MAX);
                    tokio::time::sleep(delay).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    /// The network, the tip and the totals.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn chain_info(&self) -> Result<v1::GetChainInfoResponse, ClientError> {
        self.read(|| {
            let mut chain = self.chain();
            async move { chain.get_chain_info(v1::GetChainInfoRequest {}).await }
        })
        .await
    }

    /// Balance and sequence of the account with this address, in text form.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn account(&self, address: &str) -> Result<v1::GetAccountResponse, ClientError> {
        self.read(|| {
            let mut chain = self.chain();
            let address = address.to_owned();
            async move { chain.get_account(v1::GetAccountRequest { address }).await }
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
        self.read(|| {
            let (mut chain, request) = (self.chain(), request.clone());
            async move { chain.get_block(request).await }
        })
        .await
    }

    /// The approvals of the checkpoint at a height of the best chain.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn approvals(&self, height: u64) -> Result<v1::ListApprovalsResponse, ClientError> {
        use v1::list_approvals_request::Checkpoint;
        self.read(|| {
            let mut chain = self.chain();
            let checkpoint = Some(Checkpoint::Height(height));
            let request = v1::ListApprovalsRequest { checkpoint };
            async move { chain.list_approvals(request).await }
        })
        .await
    }

    /// A transaction and where it stands.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn transaction(&self, txid: &str) -> Result<v1::GetTransactionResponse, ClientError> {
        self.read(|| {
            let mut chain = self.chain();
            let txid = txid.to_owned();
            async move {
                chain
                    .get_transaction(v1::GetTransactionRequest { txid })
                    .await
            }
        })
        .await
    }

    /// Every pending transaction that `sender` sends; empty: of everyone.
    /// At most `limit`.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn pending_transactions(
        &self,
        sender: &str,
        limit: usize,
    ) -> Result<(Vec<v1::PendingTransaction>, u64), ClientError> {
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let left = limit.saturating_sub(found.len()).min(1_000);
            let request = v1::ListPendingTransactionsRequest {
                page_size: u32::try_from(left).unwrap_or(1_000),
                page_token,
                sender: sender.to_owned(),
            };
            let page = self
                .read(|| {
                    let (mut transactions, request) = (self.transactions(), request.clone());
                    async move { transactions.list_pending_transactions(request).await }
                })
                .await?;
            found.extend(page.transactions);
            page_token = page.next_page_token;
            if page_token.is_empty() || found.len() >= limit {
                return Ok((found, page.total_count));
            }
        }
    }

    /// The fee for a transaction of `size_bytes` that is to be mined next.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn estimate_fee(
        &self,
        size_bytes: u32,
    ) -> Result<v1::EstimateFeeResponse, ClientError> {
        self.read(|| {
            let mut transactions = self.transactions();
            let request = v1::EstimateFeeRequest {
                target_blocks: 1,
                size_bytes,
            };
            async move { transactions.estimate_fee(request).await }
        })
        .await
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

    /// The next message of a stream; `None` at its end.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn next<T>(&self, stream: &mut Streaming<T>) -> Result<Option<T>, ClientError> {
        stream
            .message()
            .await
            .map_err(|status| ClientError::from_status(&status, &self.url))
    }
}
