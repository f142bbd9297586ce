//! `pithead-node`: reads the configuration, opens the chain, serves the API,
//! and stops cleanly. Everything else is in the library.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use pithead_consensus::Genesis;
use pithead_core::chain;
use pithead_core::finality::Voter;
use pithead_core::mempool::MempoolLimits;
use pithead_core::node::{Node, NodeSettings, TemplatePolicy};
use pithead_core::store::{RedbStore, Store};
use pithead_core::sync::SyncSettings;
use pithead_engine::{Clock, Engine, system_clock};
use pithead_node::config::{Cli, Command, Config};
use pithead_node::logging::{self, LogHandle};
use pithead_p2p as p2p;
use pithead_rpc::auth::{AuthLayer, Tokens};
use pithead_rpc::limits::RateLimitLayer;
use pithead_rpc::listener::ConnectionLimits;
use pithead_rpc::workers::WorkSettings;
use pithead_rpc::{AGENT, ServeOptions, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tracing::{error, info};

/// Per cent by which a reward must grow before miners get a new template early.
const TEMPLATE_GROWTH_PERCENT: u64 = 1;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and what caused it. Some errors name their cause themselves: it is
/// not told twice.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn run() -> Result<ExitCode> {
    let cli = Cli::from_command_line();
    let (config, printed) = Config::load(&cli)?;
    if matches!(cli.command, Some(Command::Config)) {
        print!("{printed}");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(Command::Votes(what)) = &cli.command {
        return pithead_node::validator::votes(what, &config);
    }
    let log = logging::init(config.log_format, &config.log_filter)?;
    let genesis = config.load_genesis()?;
    if cli.verify && !RedbStore::is_in(&config.data_dir) {
        // Opening would make one, and find nothing wrong with it.
        anyhow::bail!(
            "there is no chain in data directory {} to verify: look at --data-dir and --network",
            config.data_dir.display()
        );
    }
    let store: Arc<dyn Store> =
        Arc::new(RedbStore::open(&config.data_dir, config.store_cache_bytes)?);
    if cli.verify {
        return verify(store, &genesis, &config.data_dir);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let stop = Arc::new(Notify::new());
    if cli.stop_on_stdin_close {
        stop_when_stdin_closes(Arc::clone(&stop))?;
    }
    let voter =
        pithead_node::validator::open(&config, &genesis, store.as_ref(), cli.init_vote_record)?;
    runtime.block_on(run_node(config, genesis, store, voter, log, stop))
}

fn verify(store: Arc<dyn Store>, genesis: &Genesis, data_dir: &Path) -> Result<ExitCode> {
    let snapshot = store.snapshot()?;
    if pithead_core::store::schema::tip_hash(snapshot.as_ref())?.is_none() {
        println!("nothing to verify: the data directory holds no chain yet");
        return Ok(ExitCode::SUCCESS);
    }
    // Another chain's blocks would only look damaged.
    chain::Chain::open(Arc::clone(&store), genesis.clone(), data_dir)?;
    let report = chain::verify(store.as_ref(), genesis, |height, tip| {
        if height.0 % 1_000 == 0 {
            info!("verified {height} of {tip} blocks");
        }
    });
    match report {
        Ok(report) => {
            println!(
                "verified {} blocks, {} transactions and {} accounts: everything agrees; tip {}",
                report.blocks, report.transactions, report.accounts, report.tip
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("error: {error}");
            eprintln!("hint: restore a backup, or start afresh in another --data-dir");
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn run_node(
    config: Config,
    genesis: Genesis,
    store: Arc<dyn Store>,
    voter: Option<Voter>,
    log: LogHandle,
    stop: Arc<Notify>,
) -> Result<ExitCode> {
    let clock = system_clock();
    let node = Node::open(
        store,
        genesis,
        &config.data_dir,
        NodeSettings {
            mempool: MempoolLimits {
                bytes_max: config.mempool_bytes_max,
                expiry_secs: config.mempool_expiry_secs,
                min_fee_rate: config.min_relay_fee_rate,
            },
            templates: TemplatePolicy {
                refresh_secs: config.template_refresh_secs,
                growth_percent: TEMPLATE_GROWTH_PERCENT,
            },
        },
        clock(),
    )?
    // Nobody should foresee whom this node asks.
    .with_sync(SyncSettings {
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
    let (engine, core) = Engine::start(node, Arc::clone(&clock))?;
    let listener = TcpListener::bind(config.rpc_listen)
        .await
        .map_err(|error| {
            anyhow::anyhow!(
                "listening on {}: {error}; choose another address with --rpc-listen",
                config.rpc_listen
            )
        })?;
    let address = listener.local_addr().context("asking for the address")?;
    let tokens = Tokens::write(&config.mine_token_file, &config.admin_token_file)?;
    let (network, connecting) = match start_network(&config, &engine, clock).await? {
        Some((network, task)) => (Some(network), Some(task)),
        None => (None, None),
    };
    let options = ServeOptions {
        engine: engine.clone(),
        network: network.clone(),
        set_log_filter: Arc::new(move |filter| {
            log.set_filter(filter).map_err(|error| error.to_string())
        }),
        stop: Arc::clone(&stop),
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
    };
    // Installed before anyone can know that the node runs: a signal that
    // comes as soon as it says so finds its handler.
    let mut terminate = signal(SignalKind::terminate()).context("handling SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("handling SIGINT")?;
    let (shutdown_sender, shutdown) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, options, async {
        let _ = shutdown.await;
    }));
    let ticking = engine.clone();
    let ticks = tokio::spawn(async move { ticking.tick_every_second().await });
    if let Some(path) = &config.ready_file {
        write_ready_file(path, &address.to_string())?;
    }
    info!(%address, "serving the API");

    let failure = tokio::select! {
        _ = terminate.recv() => { info!("SIGTERM: stopping"); None }
        _ = interrupt.recv() => { info!("interrupted: stopping"); None }
        () = stop.notified() => None,
        reason = engine.fatal() => Some(reason),
    };
    let _ = shutdown_sender.send(());
    server.await.context("the server ended early")??;
    ticks.abort();
    let _ = ticks.await;
    if let (Some(network), Some(task)) = (network, connecting) {
        network.stop().await;
        task.await.context("the network ended early")?;
    }
    engine.stop().await;
    tokio::task::spawn_blocking(move || core.join())
        .await
        .context("waiting for the core")?
        .map_err(|_| anyhow::anyhow!("the core ended by a fault of its own"))?;
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

/// Connects to other nodes, unless this one is to keep to itself.
async fn start_network(
    config: &Config,
    engine: &Engine,
    clock: Clock,
) -> Result<Option<(p2p::Handle, tokio::task::JoinHandle<()>)>> {
    if config.offline {
        return Ok(None);
    }
    let options = p2p::Options {
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
    let started = p2p::start(options, engine, clock).await?;
    Ok(Some(started))
}

/// Reads standard input to its end on a thread of its own: a blocking read
/// there would hold up the runtime's end.
fn stop_when_stdin_closes(stop: Arc<Notify>) -> Result<()> {
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            // An error is an end, too.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            info!("standard input closed: stopping");
            stop.notify_one();
        })
        .context("watching standard input")?;
    Ok(())
}

/// Writes the file whole, so that whoever waits for it never reads half.
fn write_ready_file(path: &Path, address: &str) -> Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, format!("{address}\n"))
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("writing {}", path.display()))
}
