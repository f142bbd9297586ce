//! Runs the node: opens the chain, starts the core, the network and the API, and stops them cleanly.
//!
//! Start at [`start`].

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use pithead_consensus::Genesis;
use pithead_core::finality::Voter;
use pithead_core::mempool::MempoolLimits;
use pithead_core::node::{Node, NodeSettings, TemplatePolicy};
use pithead_core::store::{RedbStore, Store};
use pithead_core::sync::SyncSettings;
use pithead_engine::{Clock, Engine, NetworkSide, Started, system_clock};
use pithead_node::config::{Config, NodeCli};
use pithead_node::logging::LogHandle;
use pithead_node::validator;
use pithead_p2p as p2p;
use pithead_program::stdin;
use pithead_rpc::auth::AuthLayer;
use pithead_rpc::limits::RateLimitLayer;
use pithead_rpc::listener::ConnectionLimits;
use pithead_rpc::tokens::ApiTokens;
use pithead_rpc::workers::WorkSettings;
use pithead_rpc::{AGENT, ServeOptions, file, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tracing::{error, info};

/// Per cent by which a block's reward must grow before miners get a new template early.
const TEMPLATE_GROWTH_PERCENT: u64 = 1;

/// Opens everything that blocks, then runs the node until it is asked to stop or can't go on.
pub(crate) fn start(config: &Config, cli: &NodeCli, log: LogHandle) -> Result<ExitCode> {
    let genesis = config.load_genesis()?;
    let store: Arc<dyn Store> =
        Arc::new(RedbStore::open(&config.data_dir, config.store_cache_bytes)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let stop = Arc::new(Notify::new());
    if cli.stop_on_stdin_close {
        let stop = Arc::clone(&stop);
        let closed = move || {
            info!("standard input closed: stopping");
            stop.notify_one();
        };
        stdin::watch(closed).context("watching standard input")?;
    }
    let voter = validator::open(config, &genesis, store.as_ref(), cli.init_vote_record)?;
    runtime.block_on(async {
        let clock = system_clock();
        let node = open_node(config, genesis, store, voter, &clock)?;
        run(config, node, clock, log, stop).await
    })
}

fn open_node(
    config: &Config,
    genesis: Genesis,
    store: Arc<dyn Store>,
    voter: Option<Voter>,
    clock: &Clock,
) -> Result<Node> {
    let settings = NodeSettings {
        mempool: MempoolLimits {
            bytes_max: config.mempool_bytes_max,
            expiry_secs: config.mempool_expiry_secs,
            min_fee_rate: config.min_relay_fee_rate,
        },
        templates: TemplatePolicy {
            refresh_secs: config.template_refresh_secs,
            growth_percent: TEMPLATE_GROWTH_PERCENT,
        },
    };
    let node =
        Node::open(store, genesis, &config.data_dir, settings, clock())?.with_sync(SyncSettings {
            // Random, so that no attacker can foresee which peers this node asks.
            seed: rand::random(),
            minimum_chain_work: config.minimum_chain_work.0,
        });
    let node = match voter {
        Some(voter) => {
            let prefix = &node.chain().genesis().prefix;
            let (validator, votes) = (voter.address().to_text(prefix), voter.record());
            info!(%validator, votes = votes.votes().count(), "voting as a validator");
            node.with_voter(voter)
        }
        None => node,
    };
    let tip = node.chain().tip();
    info!(
        network = %node.chain().genesis().name,
        genesis = %node.chain().params().genesis_hash,
        height = tip.height.0,
        tip = %tip.hash(),
        data_dir = %config.data_dir.display(),
        "chain opened"
    );
    Ok(node)
}

/// Starts core, network and API, waits until the node has to stop, and stops them.
async fn run(
    config: &Config,
    node: Node,
    clock: Clock,
    log: LogHandle,
    stop: Arc<Notify>,
) -> Result<ExitCode> {
    let Started {
        engine,
        network: network_side,
        thread: core,
    } = Engine::start(node, Arc::clone(&clock))?;
    let listener = listen(config.rpc_listen).await?;
    let address = listener.local_addr().context("asking for the address")?;
    let mut options = serve_options(config, &engine, log, Arc::clone(&stop))?;
    let network = start_network(config, &engine, network_side, clock).await?;
    options.network = network.as_ref().map(|(handle, _)| handle.clone());
    // Handled from here on, before the log or the ready file say that the node runs: a signal that
    // comes right after them must stop the node cleanly.
    let mut terminate = signal(SignalKind::terminate()).context("handling SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("handling SIGINT")?;
    let (shutdown_sender, shutdown) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, options, async {
        let _ = shutdown.await;
    }));
    let ticking = engine.clone();
    let ticks = tokio::spawn(async move { ticking.tick_every_second().await });
    if let Some(path) = &config.ready_file {
        file::replace(path, &format!("{address}\n"), file::AS_UMASK_SAYS)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    info!(%address, "serving the API");

    let failure = until_stop(&engine, &stop, &mut terminate, &mut interrupt).await;
    let _ = shutdown_sender.send(());
    server.await.context("the server ended early")??;
    ticks.abort();
    let _ = ticks.await;
    if let Some((network, task)) = network {
        network.stop().await;
        task.await.context("the network ended early")?;
    }
    stop_core(engine, core).await?;
    match failure {
        None => {
            info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        Some(reason) => {
            error!(%reason, "stopped: every accepted block is on disk");
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        anyhow!("listening on {address}: {error}; choose another address with --rpc-listen")
    })
}

/// The options of the API, with its tokens read or made. The network is not started yet.
fn serve_options(
    config: &Config,
    engine: &Engine,
    log: LogHandle,
    stop: Arc<Notify>,
) -> Result<ServeOptions> {
    let tokens = ApiTokens::read_or_create(&config.mine_token_file, &config.admin_token_file)?;
    Ok(ServeOptions {
        engine: engine.clone(),
        network: None,
        set_log_filter: Arc::new(move |filter| {
            log.set_filter(filter).map_err(|error| error.to_string())
        }),
        stop,
        auth: AuthLayer::new(tokens, config.mine_without_token),
        rate_limit: RateLimitLayer::new(config.rpc_requests_per_minute, config.rpc_burst),
        connections: ConnectionLimits {
            total_max: config.rpc_max_connections,
            per_ip_max: config.rpc_max_connections_per_ip,
            ..ConnectionLimits::default()
        },
        streams_per_connection_max: config.rpc_max_streams,
        work: WorkSettings {
            run: rand::random(),
            share_interval_ms: config.share_interval_ms,
        },
        drain: Duration::from_secs(config.rpc_drain_secs),
    })
}

/// Connects to other nodes; `None` with --offline.
async fn start_network(
    config: &Config,
    engine: &Engine,
    network_side: NetworkSide,
    clock: Clock,
) -> Result<Option<(p2p::Handle, JoinHandle<()>)>> {
    if config.offline {
        return Ok(None);
    }
    let options = p2p::NetworkOptions {
        data_dir: config.data_dir.clone(),
        agent: AGENT.to_owned(),
        listen: config.listen.clone(),
        external: config.external_address.clone(),
        bootnodes: config.bootnode.clone(),
        peers_max: config.max_peers,
        mdns: config.mdns,
        upnp: config.upnp,
        relay: config.relay,
    };
    let started = p2p::start(options, engine, network_side, clock).await?;
    Ok(Some(started))
}

/// Waits until the node has to stop; the reason if that is a failure.
async fn until_stop(
    engine: &Engine,
    stop: &Notify,
    terminate: &mut Signal,
    interrupt: &mut Signal,
) -> Option<String> {
    tokio::select! {
        _ = terminate.recv() => { info!("SIGTERM: stopping"); None }
        _ = interrupt.recv() => { info!("interrupted: stopping"); None }
        () = stop.notified() => None,
        reason = engine.fatal() => Some(reason),
    }
}

async fn stop_core(engine: Engine, core: thread::JoinHandle<()>) -> Result<()> {
    engine.stop().await;
    tokio::task::spawn_blocking(move || core.join())
        .await
        .context("waiting for the core")?
        .map_err(|_| anyhow!("the core ended by a fault of its own"))
}
