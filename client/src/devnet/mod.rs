//! `pithead devnet`: a whole network on this machine, in one command.
//!
//! `plan` is what it consists of, `made` the fresh wallets, keys and genesis,
//! `network` the processes: nodes that find each other and miners spread over
//! them, each a process of its own, ended with this one. `scenario` is the
//! demonstration: it talks to the node through the API only, as any client
//! would, and checks every step. With validators the first nodes vote,
//! `stopwatch` measures how long blocks take to become final, and the payments
//! must. `view` is what it shows.

mod agreement;
mod follow;
mod made;
mod network;
mod plan;
mod scenario;
mod stopwatch;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use self::network::{Layout, Network};
use self::plan::Plan;
use self::view::View;

/// Arguments of `pithead devnet`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DevnetArgs {
    /// Number of node processes [default: 1, or as many as there are validators]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) nodes: Option<u32>,
    /// Number of validators: so many of the nodes vote, and blocks become final [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=64))]
    pub(crate) validators: Option<u32>,
    /// How many of them must approve a block [default: four fifths, as 20 of 25]
    #[arg(long, value_name = "N")]
    pub(crate) quorum: Option<u32>,
    /// Number of miner processes, spread over the nodes.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) miners: u32,
    /// Blocks to mine after the payments; more make the times of finality mean more.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) blocks: u64,
    /// End when the demonstration is over, with status 0 only if every step held.
    #[arg(long)]
    pub(crate) exit: bool,
    /// Keep the network's data in this folder; a network that is there goes on.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Port of the first node's API; 0 takes a free one [default: 7310 if it is free]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
}

/// How long the processes get to end by themselves.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the network and its demonstration.
pub(crate) async fn run(args: DevnetArgs) -> Result<ExitCode> {
    // Kept alive to the end: it removes the folder when it goes.
    let (folder, _temporary) = match &args.data_dir {
        Some(dir) => (dir.clone(), None),
        None => {
            let temporary = tempfile::Builder::new()
                .prefix("pithead-devnet-")
                .tempdir()
                .context("making a temporary folder for the network")?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let view = View::new();
    let mut signals = Signals::install()?;
    let layout = Layout::new(std::path::absolute(&folder)?);
    let resumed = layout.exists();
    if !resumed {
        layout.check_free()?;
    }
    let kept = if resumed {
        Some(layout.read_genesis()?)
    } else {
        None
    };
    let plan = Plan::of(&args, kept.as_ref())?;
    view.banner(&layout, &plan, args.data_dir.is_some(), resumed);

    let made = tokio::select! {
        made = made::prepare(&layout, &view, &plan, resumed) => made?,
        () = signals.any() => bail!("interrupted while the network was being made"),
    };
    let (network, mut processes) = Network::start(&layout, args.port, &plan, &made).await?;
    let outcome = tokio::select! {
        outcome = drive(&args, &layout, &plan, &network, &made, &view, resumed) => outcome,
        died = processes.died() => Err(died),
        () = signals.any() => {
            view.line("");
            view.line("Interrupted: ending the network.");
            Ok(Some(ExitCode::from(130)))
        }
    };
    let outcome = match outcome {
        Ok(None) => {
            // The demonstration is over; the network goes on.
            tokio::select! {
                died = processes.died() => Err(died),
                () = signals.any() => {
                    view.line("");
                    view.line("Ending the network.");
                    Ok(ExitCode::SUCCESS)
                }
                never = follow::keep_watching(&network, &view) => never.map(|()| ExitCode::FAILURE),
            }
        }
        Ok(Some(code)) => Ok(code),
        Err(error) => Err(error),
    };
    if outcome.is_err() {
        processes.show_logs(&view);
    }
    processes.end(END_TIMEOUT).await;
    outcome
}

/// The demonstration; `None` if the network is to go on after it.
async fn drive(
    args: &DevnetArgs,
    layout: &Layout,
    plan: &Plan,
    network: &Network,
    made: &made::Made,
    view: &View,
    resumed: bool,
) -> Result<Option<ExitCode>> {
    agreement::connected(network, view).await?;
    let secured = if resumed {
        scenario::greet(network, plan, view).await?
    } else {
        scenario::run(network, plan, made, view).await?
    };
    agreement::agreed(network, view, secured).await?;
    if args.exit {
        view.line(if resumed {
            "The network goes on as it should. Ending it; a new folder would show the demonstration."
        } else {
            "Every step held. Ending the network."
        });
        return Ok(Some(ExitCode::SUCCESS));
    }
    view.next_steps(layout, network.url(), plan, made, args.data_dir.is_some());
    Ok(None)
}

/// Ctrl-C, and the ways in which a terminal or a supervisor says the same.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn install() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("handling Ctrl-C")?,
            terminate: signal(SignalKind::terminate()).context("handling SIGTERM")?,
            hangup: signal(SignalKind::hangup()).context("handling SIGHUP")?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
