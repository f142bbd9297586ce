//! The simulated world: its nodes, its clock, and everything else that a run changes.
//!
//! This file holds the state and the few things that every part needs: scheduling and
//! violations. The other files add methods for what they are about, for example
//! `weather::mining` for miners. This file must not use them. Start reading at
//! [`Simulation`], and then in `run`.

use pithead_consensus::Genesis;
use pithead_core::store::StoreError;

use crate::adversaries::Adversary;
use crate::events::{EventQueue, SECOND_US, SimEvent};
use crate::genesis::HASHES_PER_BLOCK;
use crate::model::chain::ChainModel;
use crate::model::counters::RunCounters;
use crate::model::digest::RunDigest;
use crate::model::monitor::{FinalityMonitor, ProgressMonitor};
use crate::model::oracle::Oracle;
use crate::nodes::keys::SimKey;
use crate::nodes::sim_node::SimNode;
use crate::rng::RngStreams;
use crate::scenario::Weather;
use crate::settings::SimSettings;
use crate::violation::Violation;

/// The state of a run. Nodes are identified by their index in [`Simulation::nodes`].
pub(crate) struct Simulation {
    pub(crate) settings: SimSettings,
    pub(crate) weather: Weather,
    pub(crate) genesis: Genesis,
    pub(crate) nodes: Vec<SimNode>,
    pub(crate) model: ChainModel,
    pub(crate) oracle: Oracle,
    pub(crate) adversary: Option<Box<dyn Adversary>>,
    pub(crate) progress: ProgressMonitor,
    pub(crate) finality: FinalityMonitor,
    pub(crate) counters: RunCounters,
    pub(crate) digest: RunDigest,
    /// The keys that make payments.
    pub(crate) wallets: Vec<SimKey>,
    pub(crate) rng: RngStreams,
    /// The virtual clock, microseconds from the start of the run.
    pub(crate) now_us: u64,
    pub(crate) queue: EventQueue,
    /// How many events of the queue were handled.
    pub(crate) events_handled: u64,
    /// The part of a split network that each node is in, by node index. While the network
    /// is whole, all nodes are in part 0.
    pub(crate) partition_of: Vec<u8>,
    /// Whether messages from a part with a higher number still reach those with lower
    /// ones while the network is split.
    pub(crate) one_way: bool,
    /// Since when the network has been whole; `None` while it is split.
    pub(crate) whole_since_us: Option<u64>,
    /// Whether nodes still lie, crash, drop connections and split.
    pub(crate) trouble: bool,
    /// Whether miners still mine and wallets still pay.
    pub(crate) mining: bool,
}

impl Simulation {
    /// The virtual clock in whole seconds.
    pub(crate) fn secs(&self) -> u64 {
        self.now_us / SECOND_US
    }

    /// A number that was not given before, for connections and messages.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.queue.next_number()
    }

    /// Schedules an event `wait_us` microseconds from now.
    pub(crate) fn after(&mut self, wait_us: u64, event: SimEvent) {
        self.queue.push(self.now_us + wait_us, event);
    }

    /// Schedules an event `wait_secs` seconds from now.
    pub(crate) fn after_secs(&mut self, wait_secs: f64, event: SimEvent) {
        self.after((wait_secs * 1e6) as u64, event);
    }

    /// Schedules an event at a moment; if the moment has passed, for now.
    pub(crate) fn at(&mut self, at_us: u64, event: SimEvent) {
        self.queue.push(at_us.max(self.now_us), event);
    }

    /// The hash rate of the whole network, hashes a second.
    pub(crate) fn hash_rate(&self) -> f64 {
        HASHES_PER_BLOCK / f64::from(self.settings.interval_secs)
    }

    /// A violation that is found at this moment.
    pub(crate) fn violation(&self, node: Option<usize>, what: impl Into<String>) -> Violation {
        Violation {
            secs: self.secs(),
            node,
            what: what.into(),
        }
    }

    /// The violation that a node's store has failed. A simulated store fails only when the
    /// process dies, and this is for all other failures.
    pub(crate) fn storage_failed(&self, index: usize, error: &StoreError) -> Violation {
        self.violation(Some(index), format!("storage failed: {error}"))
    }
}
