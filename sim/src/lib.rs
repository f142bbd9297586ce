//! A simulation of hundreds of Pithead nodes in one process, under a virtual clock and on
//! a seeded network.
//!
//! The nodes are the real node core ([`pithead_core::node::Node`]) on the real store in
//! memory. What surrounds a node is simulated: sockets, clocks, disks that lose their last
//! write, miners, and peers that lie. A run follows from its [`SimSettings`] alone, down to
//! the last event and on any machine.
//!
//! Where to start reading: `world` holds the state of a run, `setup` makes it and `run`
//! drives it. `shell` stands between a node's core and the rest. `weather` is what happens
//! to the nodes, `liars` is how some of them lie, `adversaries` is who attacks with a plan, `checks` is what must hold nevertheless,
//! and `model` is what the simulation compares the nodes with.

mod rng;
mod scenario;
mod settings;
mod violation;

mod model;

mod events;
mod genesis;
mod nodes;
mod world;

mod adversaries;
mod checks;
mod liars;
mod shell;
mod weather;

mod report;
mod run;
mod setup;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use checks::depth::LATE_VOTES_UNDO_MAX;
pub use model::monitor::TimelinePoint;
pub use report::plot::svg;
pub use report::summary::{Percentiles, Report, TrafficReport};
pub use scenario::Scenario;
pub use settings::{AdversaryKind, Deceit, InjectedFault, SimSettings};
pub use violation::{RunError, Violation};

use world::Simulation;

/// Runs a network to its end.
///
/// # Errors
/// [`RunError::Violation`] with the first fault that the run has found; a panic of a node
/// is one, too. [`RunError::Settings`] and [`RunError::Genesis`] if the settings make no
/// network.
pub fn run(settings: SimSettings) -> Result<Report, RunError> {
    let mut simulation = Simulation::new(settings)?;
    // After a panic only the clock is read, so it does not matter what state it left.
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
