//! The gRPC API: handlers convert, call the engine or a snapshot, and convert
//! back. Limits and roles are kept here too, before any handler runs.
//!
//! Start reading at [`serve`].

pub mod auth;
pub mod limits;
pub mod listener;
pub mod status;
pub mod workers;

mod admin;
mod chain;
mod finality;
mod follow;
mod mining;
mod network;
mod page;
mod peers;
mod reader;
mod transaction;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pithead_api::v1::admin_service_server::AdminServiceServer;
use pithead_api::v1::chain_service_server::ChainServiceServer;
use pithead_api::v1::mining_service_server::MiningServiceServer;
use pithead_api::v1::network_service_server::NetworkServiceServer;
use pithead_api::v1::transaction_service_server::TransactionServiceServer;
use pithead_api::{FILE_DESCRIPTOR_SET, convert};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tonic::Status;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::transport::Server;

use crate::workers::{WorkBook, WorkSettings};
use pithead_core::sync::SyncStatus;
use pithead_engine::{Engine, Stopped};
use pithead_p2p as p2p;

/// Program and version, as told to others.
pub const AGENT: &str = concat!("pithead-node/", env!("CARGO_PKG_VERSION"));

/// Changes the filter of the running log; the error says what is wrong with the filter.
pub type SetLogFilter = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What every handler works with. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    engine: Engine,
    /// None if the node keeps to itself.
    network: Option<p2p::Handle>,
    chain: convert::Chain,
    work_book: Arc<Mutex<WorkBook>>,
    set_log_filter: SetLogFilter,
    started: Instant,
    stop: Arc<Notify>,
    stopping: watch::Receiver<bool>,
}

impl Api {
    /// Waits until the node begins to stop.
    async fn until_stopping(&self) {
        let mut stopping = self.stopping.clone();
        // A sender that is gone has stopped too.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// The core is gone: the caller may try again once the node is back.
fn stopped(_: Stopped) -> Status {
    status::unavailable("NODE_STOPPING", "the node is stopping; try again later")
}

/// The network is gone: the node is stopping.
fn network_stopped(_: p2p::NetworkStopped) -> Status {
    stopped(Stopped)
}

/// What [`serve`] needs besides a listener.
pub struct ServeOptions {
    /// The running core.
    pub engine: Engine,
    /// The running network, unless the node keeps to itself.
    pub network: Option<p2p::Handle>,
    /// Carries out `AdminService.SetLogFilter`.
    pub set_log_filter: SetLogFilter,
    /// Told when AdminService asks to stop.
    pub stop: Arc<Notify>,
    /// The role tokens; `None` for a role that is open.
    pub auth: auth::AuthLayer,
    /// Requests a minute.
    pub rate_limit: limits::RateLimitLayer,
    /// Connections.
    pub connections: listener::ConnectionLimits,
    /// Concurrent requests and streams of one connection.
    pub streams_per_connection_max: u32,
    /// How work is handed out.
    pub work: WorkSettings,
    /// How long open requests may take once the node stops.
    pub drain: Duration,
}

/// Serves the API on `listener` until `shutdown` completes, then lets open
/// requests end.
///
/// # Errors
/// If the server fails, which a bound listener does not.
pub async fn serve(
    listener: TcpListener,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), tonic::transport::Error> {
    let genesis = options.engine.genesis();
    let block_bytes = genesis.params.max_block_bytes as usize;
    let (stopping_sender, stopping) = watch::channel(false);
    let api = Api {
        chain: convert::Chain {
            prefix: genesis.prefix.clone(),
            genesis_hash: genesis.params.genesis_hash,
        },
        engine: options.engine,
        network: options.network,
        work_book: Arc::new(Mutex::new(WorkBook::new(options.work))),
        set_log_filter: options.set_log_filter,
        started: Instant::now(),
        stop: options.stop,
        stopping: stopping.clone(),
    };

    // Every service: the same compression, and the same limits but for blocks.
    macro_rules! service {
        ($server:ident, $handler:expr, $decode_max:expr) => {
            $server::new($handler)
                .max_decoding_message_size($decode_max)
                .max_encoding_message_size(limits::ENCODE_BYTES_MAX)
                .accept_compressed(Gzip)
                .accept_compressed(Zstd)
                .send_compressed(Gzip)
                .send_compressed(Zstd)
        };
    }
    let decode_max = limits::DECODE_BYTES_MAX;
    let chain = service!(ChainServiceServer, chain::Chain(api.clone()), decode_max);
    let transactions = service!(
        TransactionServiceServer,
        transaction::Transactions(api.clone()),
        decode_max
    );
    let mining = service!(
        MiningServiceServer,
        mining::Mining(api.clone()),
        block_bytes + decode_max
    );
    let syncing = api.engine.sync();
    let network = service!(
        NetworkServiceServer,
        network::Network(api.clone()),
        decode_max
    );
    let admin = service!(AdminServiceServer, admin::Admin(api), decode_max);

    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_serving::<ChainServiceServer<chain::Chain>>()
        .await;
    health
        .set_serving::<TransactionServiceServer<transaction::Transactions>>()
        .await;
    health
        .set_serving::<NetworkServiceServer<network::Network>>()
        .await;
    health
        .set_serving::<AdminServiceServer<admin::Admin>>()
        .await;
    let mining_health = tokio::spawn(follow_sync(health.clone(), syncing));
    let health_service = health_service
        .accept_compressed(Gzip)
        .accept_compressed(Zstd)
        .send_compressed(Gzip)
        .send_compressed(Zstd);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };

    let incoming = listener::incoming(listener, options.connections);
    let mut server = Server::builder()
        .max_concurrent_streams(options.streams_per_connection_max)
        .http2_max_header_list_size(limits::HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .layer(options.rate_limit)
        .layer(options.auth)
        .add_service(chain)
        .add_service(transactions)
        .add_service(mining)
        .add_service(network)
        .add_service(admin)
        .add_service(health_service);
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            server = server
                .add_service(
                    v1.accept_compressed(Gzip)
                        .accept_compressed(Zstd)
                        .send_compressed(Gzip)
                        .send_compressed(Zstd),
                )
                .add_service(
                    v1alpha
                        .accept_compressed(Gzip)
                        .accept_compressed(Zstd)
                        .send_compressed(Gzip)
                        .send_compressed(Zstd),
                );
        }
        // The descriptor set is compiled in; a test holds that this can't be.
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "no server reflection"),
    }

    let drain = options.drain;
    let (drained_sender, drained) = tokio::sync::oneshot::channel::<()>();
    let serving = server.serve_with_incoming_shutdown(incoming, async move {
        shutdown.await;
        // Streams end by themselves once they see this.
        stopping_sender.send_replace(true);
        let _ = drained_sender.send(());
    });
    // A client that never lets go must not keep the node from stopping.
    let overdue = async move {
        if drained.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(drain).await;
    };
    let result = tokio::select! {
        result = serving => result,
        () = overdue => {
            tracing::warn!("some requests did not end in time and were cut off");
            Ok(())
        }
    };
    mining_health.abort();
    result
}

/// Miners should look for another node while this one is far behind: their blocks
/// would extend a chain that is old.
async fn follow_sync(
    health: tonic_health::server::HealthReporter,
    mut sync: watch::Receiver<SyncStatus>,
) {
    loop {
        let syncing = sync.borrow_and_update().syncing;
        if syncing {
            health
                .set_not_serving::<MiningServiceServer<mining::Mining>>()
                .await;
        } else {
            health
                .set_serving::<MiningServiceServer<mining::Mining>>()
                .await;
        }
        // More headers are no news to miners.
        let changed = sync.wait_for(|status| status.syncing != syncing);
        if changed.await.is_err() {
            return;
        }
    }
}
