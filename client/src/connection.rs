//! A connection to one node: timeouts, keepalive, compression, the token, and
//! patience with a node that limits requests. Start with [`Client::connect`].
//! What can be asked over it is in `queries`.

use std::sync::Arc;
use std::time::Duration;

use pithead_api::bearer::BearerToken;
use pithead_api::v1::admin_service_client::AdminServiceClient;
use pithead_api::v1::chain_service_client::ChainServiceClient;
use pithead_api::v1::mining_service_client::MiningServiceClient;
use pithead_api::v1::network_service_client::NetworkServiceClient;
use pithead_api::v1::transaction_service_client::TransactionServiceClient;
use tonic::codec::CompressionEncoding;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::error::{ClientError, innermost};

/// The URL of a node on this machine with default settings.
pub const DEFAULT_NODE_URL: &str = "http://127.0.0.1:7310";
/// How long a connection attempt may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node may take for an answer, or for the start of a stream.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection is silent before the client pings the node.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long the node may take to answer a ping.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is accepted. A block of the largest size that a genesis may
/// set fits (node policy).
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often a request is sent if the node limits requests.
const ATTEMPTS_MAX: u32 = 4;
/// The longest wait between two attempts.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(10);

/// The settings of a connection.
#[derive(Clone)]
pub struct ConnectOptions {
    /// URL of the node, as `http://HOST:PORT`.
    pub url: String,
    /// How long the connection attempt may take.
    pub connect_timeout: Duration,
    /// How long the node may take for each answer.
    pub request_timeout: Duration,
    /// Token for the methods of the roles mine and admin, as the node's token file
    /// holds it.
    pub token: Option<String>,
}

impl ConnectOptions {
    /// The default settings for the node at `url`.
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
pub struct Authorization(Option<BearerToken>);

impl Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            token.authorize(&mut request);
        }
        Ok(request)
    }
}

/// The channel that the generated clients use.
pub type Transport = InterceptedService<Channel, Authorization>;

/// A connection to a node. Clones are cheap and share the connection.
#[derive(Clone)]
pub struct Client {
    url: Arc<str>,
    transport: Transport,
    request_timeout: Duration,
}

/// Makes a generated client with the compression and the limits of all services.
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

    /// Connects to the node of `options`.
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
        let token = options.token.as_deref().map(BearerToken::new).transpose();
        let token = token.map_err(|error| bad(&error.to_string()))?;
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

    /// The URL of the node.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same connection with another time limit for answers.
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

    /// Makes one request and waits for its answer, at most for the request timeout.
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

    /// Makes a request that may be repeated. If the node limits requests, the client
    /// waits as long as the node asks and tries again, at most three times.
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
