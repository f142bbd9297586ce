//! `pithead-miner`: reads the command line, sets up the log and the signals,
//! and leaves the rest to the library. Start there, at `mine::mine`.

#![forbid(unsafe_code)]

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use pithead_miner::bench::{self, BenchConfig, BenchError, Progress};
use pithead_miner::cli::{BenchArgs, Cli, Command, LogFormat, MineArgs};
use pithead_miner::link::{ConnectError, LinkConfig};
use pithead_miner::mine::{MineConfig, MineError, mine};
use pithead_miner::report::{Console, summary_text};
use pithead_miner::trace::Trace;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// The command line, the kernel or the reward address is wrong; clap uses it too.
const EXIT_USAGE: u8 = 2;
const EXIT_FAILURE: u8 = 1;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Bench(args)) => run_bench(&args),
        None => run_miner(cli.mine),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if standard error is gone.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(exit_status(&error))
        }
    }
}

fn exit_status(error: &anyhow::Error) -> u8 {
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(MineError::Connect(ConnectError::InvalidArgument { .. })), _)
        | (Some(MineError::UnknownKernel(_)), _)
        | (_, Some(BenchError::UnknownKernel(_))) => EXIT_USAGE,
        _ => EXIT_FAILURE,
    }
}

fn run_miner(args: MineArgs) -> anyhow::Result<()> {
    let console = Console::new(args.quiet);
    start_log(&args, &console)?;
    let worker = args.worker_name();
    let address = args.address.context("--address is missing")?;
    let (threads, pinned) = args.machine.placement();
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
        threads,
        kernel: args.machine.kernel,
        nice: args.nice,
        pinned,
        report_interval: (!args.quiet).then(|| Duration::from_secs(args.report_secs)),
        trace,
    };
    // The link needs little; the cores are for the workers.
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
            stop_when_stdin_closes(sender)?;
        }
        anyhow::Ok(mine(config, console, stop).await?)
    })?;
    let text = if args.json_stats {
        serde_json::to_string(&summary)?
    } else {
        summary_text(&summary)
    };
    // A reader that has gone away is no failure of mining.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(())
}

fn start_log(args: &MineArgs, console: &Console) -> anyhow::Result<()> {
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
        LogFormat::Human => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Turns true at the first Ctrl-C or SIGTERM. The second one ends the process
/// at once.
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

/// Turns true at the end of standard input, which a thread of its own reads: a
/// blocking read there would hold up the runtime's end.
fn stop_when_stdin_closes(sender: Arc<watch::Sender<bool>>) -> anyhow::Result<()> {
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            // An error is an end, too.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            sender.send_replace(true);
        })
        .context("can't watch standard input")?;
    Ok(())
}

fn run_bench(args: &BenchArgs) -> anyhow::Result<()> {
    let (threads_max, pinned) = args.machine.placement();
    let config = BenchConfig {
        threads_max,
        length: Duration::from_secs_f64(args.seconds),
        kernel: args.machine.kernel.clone(),
        all_kernels: args.all_kernels,
        versions: args.versions.map(usize::from),
        pinned,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    if let Some(node) = &args.node
        && let Err(error) = runtime.block_on(bench::ask(node))
    {
        // Told now, not after minutes: there is time to start it meanwhile.
        let _ = writeln!(
            std::io::stderr(),
            "warning: {error}; asking again at the end"
        );
    }
    let mut report = bench::run(&config, |progress| {
        let text = match progress {
            _ if args.json => return,
            Progress::Kernels(rows) => bench::kernel_table(rows),
            Progress::Kernel(name) => format!("kernel {name}\n{}", bench::table_head()),
            Progress::Threads(row) => bench::table_row(row),
        };
        // A reader that has gone away is no failure.
        let _ = writeln!(std::io::stdout(), "{text}");
    })?;
    let mut failure = None;
    if let (Some(node), Some(all)) = (&args.node, report.rows.last()) {
        match runtime.block_on(bench::ask(node)) {
            Ok(difficulty) => {
                let estimate = difficulty.estimate(all.hash_rate);
                if !args.json {
                    let _ = writeln!(std::io::stdout(), "{}", bench::estimate_text(&estimate));
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
        let _ = writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?);
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}
