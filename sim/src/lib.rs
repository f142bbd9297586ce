//! Hundreds of Pithead nodes in one process, under a virtual clock and a seeded
//! network.
//!
//! The nodes are the real core ([`pithead_core::node::Node`]) on the real store in
//! memory; what is simulated is what is around them: sockets, clocks, disks that
//! lose their last write, miners, peers that lie. The same [`Settings`] run the
//! same way to the last event, on any machine.
//!
//! Where to start reading: `world` takes what is going to happen from its `schedule`
//! and `shell` hands it to the nodes; `network` moves messages; `checks` says what must
//! hold, `finality` what must hold of votes; `ledger` and `rules` are what the
//! simulation knows by itself; `deceit`, `liars` and `false_witness` are who lies.

mod checks;
mod deceit;
mod dice;
mod digest;
mod false_witness;
mod faults;
mod finality;
mod geography;
mod keys;
mod ledger;
mod liars;
mod measure;
mod member;
mod mining;
mod network;
mod network_genesis;
mod plot;
mod record;
mod report;
mod rules;
mod schedule;
mod settings;
mod shell;
mod store;
mod wallets;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use plot::svg;
pub use report::{Moment, Percentiles, Report, TrafficReport};
pub use settings::{Deceit, Plant, Scenario, Settings};
pub use world::{RunError, Simulation, Violation};

/// Runs a network to its end.
///
/// # Errors
/// [`RunError::Violation`]: the first fault that was found, a panic of a node
/// included; otherwise the settings make no network.
pub fn run(settings: Settings) -> Result<Report, RunError> {
    let mut simulation = Simulation::new(settings)?;
    // Nothing is used after a panic but the clock.
    match catch_unwind(AssertUnwindSafe(|| simulation.run())) {
        Ok(outcome) => Ok(outcome?),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let what = format!("panic: {}", text.unwrap_or_default());
            Err(simulation.violation(None, what).into())
        }
    }
}
