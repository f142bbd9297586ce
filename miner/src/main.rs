//! `pithead-miner`: reads the command line, sets up the log and the signals, and calls
//! the library. The miner itself starts at `mine::mine` there.

#![forbid(unsafe_code)]

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use pithead_miner::bench::{self, BenchConfig, BenchError, BenchProgress};
use pithead_miner::cli::{BenchArgs, MinerArgs, MinerCli, MinerCommand, MinerLogFormat};
use pithead_miner::kernel::ChooseKernelError;
use pithead_miner::link::{ConnectError, LinkConfig};
use pithead_miner::mine::{MineConfig, MineError, mine};
use pithead_miner::report::{Console, summary_text};
use pithead_miner::trace::Trace;
use pithead_program::stdin;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// Exit status for a wrong command line, kernel or reward address. Clap uses the same.
const EXIT_USAGE: u8 = 2;
/// Exit status for any other failure.
const EXIT_FAILURE: u8 = 1;

fn main() -> ExitCode {
    let cli = MinerCli::parse();
    let result = match cli.command {
        Some(MinerCommand::Bench(args)) => run_bench(&args),
        None => run_miner(cli.mine),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // An error can't be reported: standard error itself is gone.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(exit_status(&error))
        }
    }
}

fn exit_status(error: &anyhow::Error) -> u8 {
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(MineError::Connect(ConnectError::InvalidArgument { .. })), _)
        | (Some(MineError::Kernel(ChooseKernelError::Unknown(_))), _)
        | (_, Some(BenchError::Kernel(ChooseKernelError::Unknown(_)))) => EXIT_USAGE,
        _ => EXIT_FAILURE,
    }
}

fn run_miner(args: MinerArgs) -> anyhow::Result<()> {
    let console = Console::new(args.quiet);
    start_log(&args, &console)?;
    let worker = args.worker_name();
    let address = args.address.context("--address is missing")?;
    let trace = match &args.trace_ranges {
        Some(path) => {
            let trace = Trace::create(path);
            let trace = trace.with_context(|| format!("making {}", path.display()))?;
            Some(Arc::new(trace))
        }
        None => None,
    };
    let config = MineConfig {
        link: LinkConfig {
            nodes: args.nodes,
            reward_address: address.text,
            reward_payload: address.payload,
            worker,
            token_file: args.token_file,
            blocks_max: args.blocks,
            trace: trace.clone(),
        },
        machine: args.machine.machine_use(),
        nice: args.nice,
        report_interval: (!args.quiet).then(|| Duration::from_secs(args.report_secs)),
        trace,
    };
    // The link needs little processor time, so it gets two threads on any machine.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    let summary = runtime.block_on(async {
        let (sender, stop) = watch::channel(false);
        let sender = Arc::new(sender);
        stop_on_signals(Arc::clone(&sender))?;
        if args.stop_on_stdin_close {
            let closed = move || {
                sender.send_replace(true);
            };
            stdin::watch(closed).context("can't watch standard input")?;
        }
        anyhow::Ok(mine(config, console, stop).await?)
    })?;
    let text = if args.json_stats {
        serde_json::to_string(&summary)?
    } else {
        summary_text(&summary)
    };
    print(&text);
    Ok(())
}

fn start_log(args: &MinerArgs, console: &Console) -> anyhow::Result<()> {
    let level = if args.quiet { "warn" } else { "info" };
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) => directives.parse().context("RUST_LOG is no log filter")?,
        Err(_) => EnvFilter::new(level),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(console.clone())
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match args.log_format {
        MinerLogFormat::Human => log.init(),
        MinerLogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Sends true at the first Ctrl-C or SIGTERM. The second one ends the process at once.
fn stop_on_signals(sender: Arc<watch::Sender<bool>>) -> anyhow::Result<()> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("can't listen for SIGTERM")?;
    #[cfg(unix)]
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .context("can't listen for Ctrl-C")?;
    tokio::spawn(async move {
        loop {
            #[cfg(unix)]
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            #[cfg(not(unix))]
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            if sender.send_replace(true) {
                std::process::exit(1);
            }
        }
    });
    Ok(())
}

fn run_bench(args: &BenchArgs) -> anyhow::Result<()> {
    let config = BenchConfig {
        machine: args.machine.machine_use(),
        length: Duration::from_secs_f64(args.seconds),
        all_kernels: args.all_kernels,
        versions: args.versions.map(usize::from),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    if let Some(node) = &args.node
        && let Err(error) = runtime.block_on(bench::ask(node))
    {
        // The warning comes before the measurements, which may take minutes: the user can
        // start the node meanwhile.
        let _ = writeln!(
            std::io::stderr(),
            "warning: {error}; asking again at the end"
        );
    }
    let mut report = bench::run(&config, |progress| {
        if !args.json {
            print(&match progress {
                BenchProgress::Kernels(rows) => bench::kernel_table(rows),
                BenchProgress::Kernel(name) => format!("kernel {name}\n{}", bench::table_head()),
                BenchProgress::Threads(row) => bench::table_row(row),
            });
        }
    })?;
    let mut failure = None;
    if let (Some(node), Some(all)) = (&args.node, report.rows.last()) {
        match runtime.block_on(bench::ask(node)) {
            Ok(difficulty) => {
                let estimate = difficulty.estimate(all.hash_rate);
                if !args.json {
                    print(&bench::estimate_text(&estimate));
                }
                report.estimate = Some(estimate);
            }
            Err(error) => {
                report.estimate_error = Some(error.to_string());
                failure = Some(error);
            }
        }
    }
    if args.json {
        print(&serde_json::to_string(&report)?);
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}

/// Writes a line to standard output. A closed standard output is no failure.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
