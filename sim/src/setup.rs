//! How a run is set up: the genesis, the nodes, and the first events.
//!
//! The order in which random numbers are drawn here is part of what makes a run the same
//! each time. Start reading at [`Simulation::new`].

use pithead_consensus::Address;

use crate::adversaries;
use crate::events::{EventQueue, SECOND_US, SimEvent};
use crate::genesis::genesis_file;
use crate::model::chain::ChainModel;
use crate::model::counters::RunCounters;
use crate::model::digest::RunDigest;
use crate::model::monitor::{FinalityMonitor, ProgressMonitor};
use crate::model::oracle::Oracle;
use crate::nodes::crash_store::CrashStore;
use crate::nodes::geography::NodeLocation;
use crate::nodes::keys::{VALIDATORS_MAX, wallet_keys};
use crate::nodes::sim_node::{NodeKind, NodeTraits, SimNode};
use crate::nodes::vote_journal::SimVoteJournal;
use crate::rng::{RngStreams, SimRng};
use crate::settings::SimSettings;
use crate::violation::{RunError, Violation};
use crate::world::Simulation;

/// Median time that a node takes to process a message, microseconds.
const PROCESSING_US: f64 = 1_000.0;
/// The same for slow nodes.
const SLOW_PROCESSING_US: f64 = 600_000.0;
/// Upload rate of slow nodes, bits a second.
const SLOW_BITS_PER_SEC: f64 = 1e6;
/// Nodes that are honest in every scenario, so that some node can always mine.
const HONEST_NODES_MIN: usize = 2;
/// When the network is first inspected.
const FIRST_INSPECTION_US: u64 = 30 * SECOND_US;

/// Checks that settings make a network.
fn check_settings(settings: &SimSettings) -> Result<(), RunError> {
    let wrong = |what: String| Err(RunError::Settings(what));
    if settings.nodes < 2 || settings.miners == 0 || settings.interval_secs == 0 {
        return wrong(
            "it needs at least two nodes, one miner and a second between blocks".to_owned(),
        );
    }
    if settings.checkpoint_interval == 0 {
        return wrong("it needs at least one block from a checkpoint to the next".to_owned());
    }
    if settings.validators > VALIDATORS_MAX.min(settings.nodes) {
        return wrong(format!(
            "it can have at most {VALIDATORS_MAX} validators, each on a node of its own"
        ));
    }
    if settings.adversary.is_some() && settings.late == 0 {
        return wrong("an adversary needs the key of a validator at least".to_owned());
    }
    if settings
        .approvals_needed
        .is_some_and(|quorum| quorum > settings.validators)
    {
        return wrong("more approvals are needed than there are validators".to_owned());
    }
    if settings.equivocators.max(settings.late) + settings.silent > settings.validators {
        return wrong(
            "the validators that lie and those that are silent are more than all validators"
                .to_owned(),
        );
    }
    if settings.silence_secs.0 > settings.silence_secs.1 {
        return wrong("the silence of validators ends before it begins".to_owned());
    }
    if cfg!(not(feature = "fault-injection"))
        && settings.fault.is_some_and(|fault| fault.is_in_node())
    {
        return wrong(
            "this fault is in the node's own code: build with --features fault-injection"
                .to_owned(),
        );
    }
    Ok(())
}

/// Switches the faults in the node's own code on or off, for all nodes on this thread.
#[cfg(feature = "fault-injection")]
fn inject_node_faults(settings: &SimSettings) {
    use crate::settings::InjectedFault;
    use pithead_core::fault_injection;

    let is = |fault| settings.fault == Some(fault);
    fault_injection::skip_state_root(is(InjectedFault::SkipStateRoot));
    fault_injection::allow_surround(is(InjectedFault::AllowSurround));
    fault_injection::trust_copies(is(InjectedFault::TrustCopies));
    fault_injection::follow_any_approval(is(InjectedFault::FollowAnyApproval));
    fault_injection::retry_all_waiting(is(InjectedFault::RetryAllWaiting));
}

impl Simulation {
    /// A network that is about to start.
    ///
    /// # Errors
    /// [`RunError::Settings`] if the settings contradict each other.
    pub(crate) fn new(settings: SimSettings) -> Result<Self, RunError> {
        check_settings(&settings)?;
        let wallets = wallet_keys().map_err(RunError::Settings)?;
        let genesis = genesis_file(&settings, &wallets)?.check()?;
        #[cfg(feature = "fault-injection")]
        inject_node_faults(&settings);
        let seed = settings.seed;
        let mut world = Self {
            weather: settings.scenario.weather(genesis.params.max_future_secs),
            model: ChainModel::new(&genesis),
            oracle: Oracle::new(&genesis),
            adversary: adversaries::of_settings(&settings),
            genesis,
            nodes: Vec::new(),
            progress: ProgressMonitor::default(),
            finality: FinalityMonitor::default(),
            counters: RunCounters::default(),
            digest: RunDigest::new(),
            wallets,
            rng: RngStreams::new(seed),
            now_us: 0,
            queue: EventQueue::default(),
            events_handled: 0,
            partition_of: vec![0; settings.nodes],
            one_way: false,
            whole_since_us: Some(0),
            trouble: true,
            mining: true,
            settings,
        };
        let mut rng = SimRng::new(seed, "members");
        for index in 0..world.settings.nodes {
            let node = world.make_node(index, &mut rng);
            world.nodes.push(node);
            world.start_node(index)?;
        }
        world.ensure_liar();
        world.share_hash_rate();
        world.schedule_first_events(&mut rng);
        Ok(world)
    }

    fn make_node(&self, index: usize, rng: &mut SimRng) -> SimNode {
        let weather = &self.weather;
        let kind = match index {
            0..HONEST_NODES_MIN => NodeKind::Honest,
            // A lying validator lies by its votes only: its node is honest.
            _ if index >= self.settings.validators && rng.happens(weather.liar_part) => {
                NodeKind::Liar
            }
            _ if rng.happens(weather.slow_part) => NodeKind::Slow,
            _ => NodeKind::Honest,
        };
        let mut location = NodeLocation::random(rng);
        let mut processing_us = rng.log_normal(PROCESSING_US, 0.5);
        if kind == NodeKind::Slow {
            location.bits_per_sec = SLOW_BITS_PER_SEC;
            processing_us = rng.log_normal(SLOW_PROCESSING_US, 0.3);
        }
        let spread = 2 * weather.skew_secs_max as usize + 1;
        let skew_secs = rng.below(spread) as i64 - weather.skew_secs_max;
        let mut address = [0; 32];
        address[..8].copy_from_slice(&(index as u64 + 1).to_be_bytes());
        let traits = NodeTraits {
            kind,
            location,
            processing_us: processing_us as u64,
            skew_secs,
            reward_address: Address(address),
        };
        let (settings, crashes) = (&self.settings, weather.crash_secs.is_finite());
        let store = CrashStore::new(crashes, settings.fault);
        let is_validator = index < settings.validators;
        let journal = is_validator
            .then(|| SimVoteJournal::new(settings.seed, index, crashes, settings.fault));
        SimNode::new(traits, store, journal)
    }

    /// In a scenario with liars, a small network may have no liar by chance. Then its last
    /// node becomes a liar.
    fn ensure_liar(&mut self) {
        if self.weather.liar_part > 0.0
            && self.nodes.iter().all(SimNode::is_honest)
            && let Some(last) = self.nodes.last_mut()
        {
            last.kind = NodeKind::Liar;
        }
    }

    /// Starts a node's process on what its store holds.
    pub(crate) fn start_node(&mut self, index: usize) -> Result<(), Violation> {
        let seed = SimRng::new(self.settings.seed, &format!("sync {index}")).next();
        let voter = self.voter(index);
        let started = self.nodes[index].start(&self.genesis, seed, voter, self.now_us);
        started.map_err(|error| self.storage_failed(index, &error))
    }

    /// Schedules the events that all later ones follow from.
    fn schedule_first_events(&mut self, rng: &mut SimRng) {
        for index in 0..self.nodes.len() {
            // At random moments, since real nodes do not start at once.
            self.after(rng.between(0.0, 1e6) as u64, SimEvent::Tick(index));
            self.after(rng.between(0.0, 5e6) as u64, SimEvent::Dial(index));
            self.schedule_crash(index);
            self.schedule_drop(index);
            self.schedule_clock(index);
            if self.nodes[index].kind == NodeKind::Liar {
                self.schedule_lie(index);
            }
        }
        self.after(FIRST_INSPECTION_US, SimEvent::Inspect);
        self.schedule_payment();
        if self.settings.silent > 0 {
            let (from, until) = self.settings.silence_secs;
            for secs in [from, until].into_iter().filter(|secs| *secs > 0) {
                self.after(secs * SECOND_US, SimEvent::ToggleSilence);
            }
        }
        self.schedule_splits();
        self.schedule_adversary();
        self.schedule_leaving();
    }

    /// Schedules when the network splits and heals, if the scenario has splits.
    fn schedule_splits(&mut self) {
        let length_us = self.settings.secs * SECOND_US;
        if self.weather.partitions > 0 && self.settings.long_splits {
            let part = self.rng.faults.between(0.1, 0.5);
            let start = self.rng.faults.between(0.05, 0.95 - part);
            let at = |part: f64| (length_us as f64 * part) as u64;
            self.after(at(start), SimEvent::Split);
            self.after(at(start + part), SimEvent::Heal);
            return;
        }
        for number in 0..u64::from(self.weather.partitions) {
            // Two splits, each a sixth of the run long, begin after one and after five
            // eighths of it.
            let start_us = length_us * (1 + 4 * number) / 8;
            self.after(start_us, SimEvent::Split);
            self.after(start_us + length_us / 6, SimEvent::Heal);
        }
    }
}
