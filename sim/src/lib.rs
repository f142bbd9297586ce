//! Hundreds of Pithead nodes in one process, under a virtual clock and a seeded
//! network.
//!
//! The nodes are the real core ([`pithead_node::node::Node`]) on the real store in
//! memory; what is simulated is what is around them: sockets, clocks, disks that
//! lose their last write, miners, peers that lie. The same [`Settings`] run the
//! same way to the last event, on any machine.
//!
//! Where to start reading: `world` holds the queue of what is going to happen
//! and `shell` hands it to the nodes; `network` moves messages; `checks` says what must
//! hold; `ledger` is what the simulation knows of blocks by itself.

mod checks;
mod dice;
mod digest;
mod faults;
mod geography;
mod ledger;
mod liars;
mod measure;
mod member;
mod mining;
mod network;
mod plot;
mod report;
mod settings;
mod shell;
mod store;
mod validators;
mod wallets;
mod world;

pub use plot::svg;
pub use report::{Percentiles, Report, TrafficReport};
pub use settings::{Plant, Scenario, Settings};
pub use world::{RunError, Simulation, Violation};

/// Runs a network to its end.
///
/// # Errors
/// [`RunError::Violation`]: the first fault that was found; otherwise the
/// settings make no network.
pub fn run(settings: Settings) -> Result<Report, RunError> {
    Ok(Simulation::new(settings)?.run()?)
}
