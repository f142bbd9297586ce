//! `pithead devnet`: a whole network on this machine, in one command.
//!
//! Start with [`run`]. `plan` is what the network consists of, `layout` its
//! folder, `setup` its wallets, keys and genesis, and `processes` its nodes and
//! miners, each a process that ends with this one. `scenario` is the
//! demonstration: it talks to the first node through the API only, as any client
//! would, and checks every step. With validators the first nodes vote,
//! `stopwatch` measures how long blocks take to become final, and the payments
//! must become final. `agreement` checks that all nodes have the same chain,
//! `follow` shows the chain as it grows, and `view` writes to the terminal.

mod args;

mod layout;
mod plan;

mod processes;
mod setup;

mod agreement;
mod follow;
mod scenario;
mod stopwatch;

mod view;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use self::args::DevnetArgs;
use self::layout::Layout;
use self::plan::Plan;
use self::processes::{Devnet, Processes};
use self::setup::DevnetWallets;
use self::view::{DevnetView, NextSteps};

/// How long the processes get to end by themselves.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Exit status of a program that a Ctrl-C ended, as shells have it: 128 + SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// Runs the network and its demonstration.
pub(crate) async fn run(args: DevnetArgs) -> Result<ExitCode> {
    let (folder, _removed_at_the_end) = folder(&args)?;
    let view = DevnetView::new();
    let mut signals = Signals::install()?;
    let layout = Layout::new(std::path::absolute(&folder)?);
    let resumed = layout.exists();
    if !resumed {
        layout.check_free()?;
    }
    let kept_genesis = match resumed {
        true => Some(layout.read_genesis()?),
        false => None,
    };
    let plan = Plan::of(&args, kept_genesis.as_ref())?;
    view.banner(&layout, &plan, args.data_dir.is_some(), resumed);

    let wallets = tokio::select! {
        wallets = setup::prepare(&layout, &view, &plan, resumed) => wallets?,
        () = signals.any() => bail!("interrupted while the network was being made"),
    };
    let address = &wallets.miner_address;
    let (devnet, mut processes) = Devnet::start(&layout, args.port, &plan, address).await?;
    let session = Session {
        args,
        layout,
        plan,
        devnet,
        wallets,
        view,
        resumed,
    };
    let outcome = tokio::select! {
        outcome = session.demonstrate() => outcome,
        died = processes.died() => Err(died),
        () = signals.any() => {
            session.view.line("");
            session.view.line("Interrupted: ending the network.");
            Ok(Some(ExitCode::from(EXIT_INTERRUPTED)))
        }
    };
    let outcome = match outcome {
        Ok(None) => session.keep_running(&mut processes, &mut signals).await,
        Ok(Some(code)) => Ok(code),
        Err(error) => Err(error),
    };
    if outcome.is_err() {
        processes.show_logs(&session.view);
    }
    processes.end(END_TIMEOUT).await;
    outcome
}

/// The folder of the network: the one that the user names, or a temporary one,
/// which is removed when the second value goes.
fn folder(args: &DevnetArgs) -> Result<(PathBuf, Option<TempDir>)> {
    if let Some(dir) = &args.data_dir {
        return Ok((dir.clone(), None));
    }
    let temporary = tempfile::Builder::new()
        .prefix("pithead-devnet-")
        .tempdir()
        .context("making a temporary folder for the network")?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

/// A network that runs, and all that its demonstration works with.
struct Session {
    args: DevnetArgs,
    layout: Layout,
    plan: Plan,
    devnet: Devnet,
    wallets: DevnetWallets,
    view: DevnetView,
    /// Whether the folder held the network already.
    resumed: bool,
}

impl Session {
    /// The demonstration, or a short greeting if the network is an old one;
    /// `None` if the network is to run on after it.
    async fn demonstrate(&self) -> Result<Option<ExitCode>> {
        let (devnet, plan, view) = (&self.devnet, &self.plan, &self.view);
        agreement::connected(devnet, view).await?;
        let final_height = if self.resumed {
            scenario::greet(devnet, plan, view).await?
        } else {
            scenario::run(devnet, plan, &self.wallets, view).await?
        };
        agreement::agreed(devnet, view, final_height).await?;
        if self.args.exit {
            view.line(if self.resumed {
                "The network goes on as it should. Ending it; a new folder would show the demonstration."
            } else {
                "Every step held. Ending the network."
            });
            return Ok(Some(ExitCode::SUCCESS));
        }
        view.next_steps(&NextSteps {
            layout: &self.layout,
            plan,
            url: devnet.url(),
            example: self.wallets.example(),
            kept: self.args.data_dir.is_some(),
        });
        Ok(None)
    }

    /// Shows blocks until a signal comes or a process ends.
    async fn keep_running(
        &self,
        processes: &mut Processes,
        signals: &mut Signals,
    ) -> Result<ExitCode> {
        tokio::select! {
            died = processes.died() => Err(died),
            () = signals.any() => {
                self.view.line("");
                self.view.line("Ending the network.");
                Ok(ExitCode::SUCCESS)
            }
            ended = follow::keep_watching(&self.devnet, &self.view) => {
                ended.map(|()| ExitCode::FAILURE)
            }
        }
    }
}

/// The signals that end the devnet: SIGINT, SIGTERM and SIGHUP.
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
