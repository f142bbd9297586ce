//! Puts the API together: the services behind limits and roles, on one listener.
//!
//! Start reading at [`serve`].

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pithead_api::v1::admin_service_server::AdminServiceServer;
use pithead_api::v1::chain_service_server::ChainServiceServer;
use pithead_api::v1::mining_service_server::MiningServiceServer;
use pithead_api::v1::network_service_server::NetworkServiceServer;
use pithead_api::v1::transaction_service_server::TransactionServiceServer;
use pithead_api::{FILE_DESCRIPTOR_SET, convert};
use pithead_core::sync::SyncStatus;
use pithead_engine::Engine;
use pithead_p2p as p2p;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot, watch};
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::service::RoutesBuilder;
use tonic::transport::Server;
use tonic_health::server::HealthReporter;

use crate::admin::AdminHandler;
use crate::api::{Api, SetLogFilter};
use crate::auth::AuthLayer;
use crate::chain::ChainHandler;
use crate::limits::{self, RateLimitLayer};
use crate::listener::{self, ConnectionLimits};
use crate::mining::{MiningHandler, has_work};
use crate::network::NetworkHandler;
use crate::transactions::TransactionHandler;
use crate::workers::{WorkBook, WorkSettings};

/// What [`serve`] needs besides a listener.
pub struct ServeOptions {
    /// The running core.
    pub engine: Engine,
    /// The running network; `None` if the node runs without peers.
    pub network: Option<p2p::Handle>,
    /// Carries out `AdminService.SetLogFilter`.
    pub set_log_filter: SetLogFilter,
    /// Notified when `AdminService.Stop` is called.
    pub stop: Arc<Notify>,
    /// Checks the token of each request.
    pub auth: AuthLayer,
    /// Limits the requests of each address.
    pub rate_limit: RateLimitLayer,
    /// Limits the open connections.
    pub connections: ConnectionLimits,
    /// Concurrent requests and streams of one connection.
    pub streams_per_connection_max: u32,
    /// How miners get their work.
    pub work: WorkSettings,
    /// How long open requests may take once the node stops.
    pub drain: Duration,
}

/// Adds the same compression to a service that every service has.
macro_rules! compressed {
    ($service:expr) => {
        $service
            .accept_compressed(Gzip)
            .accept_compressed(Zstd)
            .send_compressed(Gzip)
            .send_compressed(Zstd)
    };
}

/// A service of this API: compressed, and with limits on the bytes of a message.
macro_rules! service {
    ($server:ident, $handler:expr, $decode_max:expr) => {
        compressed!(
            $server::new($handler)
                .max_decoding_message_size($decode_max)
                .max_encoding_message_size(limits::ENCODE_BYTES_MAX)
        )
    };
}

/// Serves the API on `listener` until `shutdown` completes, then lets open requests end.
///
/// # Errors
/// If the server fails, which a bound listener does not.
pub async fn serve(
    listener: TcpListener,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), tonic::transport::Error> {
    let (stopping_sender, stopping) = watch::channel(false);
    let mut server = Server::builder()
        .max_concurrent_streams(options.streams_per_connection_max)
        .http2_max_header_list_size(limits::HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .layer(options.rate_limit.clone())
        .layer(options.auth.clone());
    let incoming = listener::incoming(listener, options.connections);
    let drain = options.drain;
    let api = api(options, stopping);

    let mut routes = RoutesBuilder::default();
    add_services(&mut routes, &api);
    let health = add_health(&mut routes).await;
    add_reflection(&mut routes);
    let mining_health = tokio::spawn(follow_sync(health, api.engine.sync()));
    drop(api);

    let (drained_sender, drained) = oneshot::channel::<()>();
    let serving = server
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(incoming, async move {
            shutdown.await;
            // Every stream ends itself once it sees this.
            stopping_sender.send_replace(true);
            let _ = drained_sender.send(());
        });
    // A client that keeps its connection open must not keep the node from stopping.
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

fn api(options: ServeOptions, stopping: watch::Receiver<bool>) -> Api {
    let genesis = options.engine.genesis();
    Api {
        chain: convert::ChainContext {
            prefix: genesis.prefix.clone(),
            genesis_hash: genesis.params.genesis_hash,
        },
        engine: options.engine,
        network: options.network,
        work_book: Arc::new(Mutex::new(WorkBook::new(options.work))),
        set_log_filter: options.set_log_filter,
        started: Instant::now(),
        stop: options.stop,
        stopping,
    }
}

/// The five services of the API. A request holds little, except that MiningService takes blocks.
fn add_services(routes: &mut RoutesBuilder, api: &Api) {
    let decode_max = limits::DECODE_BYTES_MAX;
    let block_max = api.engine.genesis().params.max_block_bytes as usize + decode_max;
    routes
        .add_service(service!(
            ChainServiceServer,
            ChainHandler(api.clone()),
            decode_max
        ))
        .add_service(service!(
            TransactionServiceServer,
            TransactionHandler(api.clone()),
            decode_max
        ))
        .add_service(service!(
            MiningServiceServer,
            MiningHandler(api.clone()),
            block_max
        ))
        .add_service(service!(
            NetworkServiceServer,
            NetworkHandler(api.clone()),
            decode_max
        ))
        .add_service(service!(
            AdminServiceServer,
            AdminHandler(api.clone()),
            decode_max
        ));
}

/// The health service. All services but MiningService are healthy as long as the node runs;
/// [`follow_sync`] sets MiningService's health.
async fn add_health(routes: &mut RoutesBuilder) -> HealthReporter {
    let (health, service) = tonic_health::server::health_reporter();
    health
        .set_serving::<ChainServiceServer<ChainHandler>>()
        .await;
    health
        .set_serving::<TransactionServiceServer<TransactionHandler>>()
        .await;
    health
        .set_serving::<NetworkServiceServer<NetworkHandler>>()
        .await;
    health
        .set_serving::<AdminServiceServer<AdminHandler>>()
        .await;
    routes.add_service(compressed!(service));
    health
}

/// Lets clients ask the node for the description of its services, in both versions of the
/// reflection protocol: some clients know only the older one.
fn add_reflection(routes: &mut RoutesBuilder) {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            routes
                .add_service(compressed!(v1))
                .add_service(compressed!(v1alpha));
        }
        // The descriptor set is compiled in, and a test reads it: this can't happen.
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "no server reflection"),
    }
}

/// Keeps MiningService's health: not serving while there is no work ([`has_work`]). Miners look
/// for another node.
async fn follow_sync(health: HealthReporter, mut sync: watch::Receiver<SyncStatus>) {
    loop {
        let serves = has_work(&sync.borrow_and_update());
        if serves {
            health
                .set_serving::<MiningServiceServer<MiningHandler>>()
                .await;
        } else {
            health
                .set_not_serving::<MiningServiceServer<MiningHandler>>()
                .await;
        }
        // The status changes with every header; only this part of it matters here.
        let changed = sync.wait_for(|status| has_work(status) != serves);
        if changed.await.is_err() {
            return;
        }
    }
}
