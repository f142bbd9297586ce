//! The network: nodes, a queue of what is going to happen, and the clock that it
//! drives. Start with [`Simulation::run`].

use std::sync::Arc;

use pithead_consensus::genesis::GenesisError;
use pithead_consensus::{Address, Genesis};
use pithead_core::node::Event;
use pithead_core::store::StoreError;
use pithead_core::sync::{RecentBlocks, SyncUsage};
use thiserror::Error;

use crate::checks;
use crate::dice::Dice;
use crate::digest::Digest;
use crate::finality::{FinalityWatch, LAG_CHECKPOINTS_MAX};
use crate::geography::Place;
use crate::keys::VALIDATORS_MAX;
use crate::ledger::Ledger;
use crate::measure::Measure;
use crate::member::{Manner, Member, Seen};
use crate::network_genesis::{HASHES_PER_BLOCK, genesis_file};
use crate::report::Report;
use crate::schedule::{Happening, Schedule};
use crate::settings::{Plant, Settings, Weather};
use crate::store::CrashStore;
use crate::wallets::Wallets;

/// A second of the virtual clock.
pub(crate) const SECOND_US: u64 = 1_000_000;
/// What a machine takes to see to a message, microseconds.
const THINK_US: f64 = 1_000.0;
/// The same for slow ones.
const SLOW_THINK_US: f64 = 600_000.0;
/// What slow ones can send, bits a second.
const SLOW_BITS_PER_SEC: f64 = 1e6;
/// How long settling may take at the end.
const SETTLE_SECS_MAX: u64 = 600;
/// Checkpoints within which finality catches up once all is calm: two to approve
/// and finalise, some more for those who come back and fetch the chain first.
const CATCH_UP_CHECKPOINTS_MAX: u64 = 12;
/// What happens to a node in a second, far more than it ever does: a tick, some
/// requests, and an approval of each validator from each neighbour.
const HAPPENINGS_PER_NODE_SECOND: u64 = 200;
/// The same for a run's first seconds, when everybody calls everybody.
const HAPPENINGS_BASE: u64 = 100_000;

/// Why a run ended early.
#[derive(Debug, Error)]
pub enum RunError {
    /// The simulation found a fault.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The settings make no network.
    #[error("no such network: {0}")]
    Settings(String),
    /// The genesis does not pass.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
}

/// Something that must never be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{secs} s into the run{}: {what}", node.map(|node| format!(", node {node}")).unwrap_or_default())]
pub struct Violation {
    /// When, virtual seconds.
    pub secs: u64,
    /// At which node, if at one.
    pub node: Option<usize>,
    /// What.
    pub what: String,
}

/// One dice for each concern.
pub(crate) struct AllDice {
    pub(crate) network: Dice,
    pub(crate) faults: Dice,
    pub(crate) mining: Dice,
    pub(crate) wallets: Dice,
    pub(crate) liars: Dice,
}

/// A run.
pub struct Simulation {
    pub(crate) settings: Settings,
    pub(crate) weather: Weather,
    pub(crate) genesis: Genesis,
    pub(crate) members: Vec<Member>,
    pub(crate) ledger: Ledger,
    pub(crate) measure: Measure,
    pub(crate) finality: FinalityWatch,
    pub(crate) wallets: Wallets,
    pub(crate) dice: AllDice,
    pub(crate) digest: Digest,
    pub(crate) now_us: u64,
    pub(crate) schedule: Schedule,
    happened: u64,
    /// Which part of a split network each node is in.
    pub(crate) side: Vec<u8>,
    /// Whether the parts still hear those of a higher number.
    pub(crate) one_way: bool,
    /// Since when the network has been whole; `None` while it is split.
    pub(crate) whole_since_us: Option<u64>,
    /// Whether lying, crashing and splitting go on.
    pub(crate) stirred: bool,
    /// Whether mining and paying go on.
    pub(crate) mining: bool,
    pub(crate) watch: checks::Watch,
}

impl Simulation {
    /// A network that is about to start.
    ///
    /// # Errors
    /// [`RunError::Settings`] if there are too few nodes.
    pub fn new(settings: Settings) -> Result<Self, RunError> {
        if settings.nodes < 2 || settings.miners == 0 || settings.interval_secs == 0 {
            return Err(RunError::Settings(
                "at least two nodes, one miner and a second between blocks".to_owned(),
            ));
        }
        let fit = settings.validators <= VALIDATORS_MAX.min(settings.nodes)
            && settings.equivocators + settings.silent <= settings.validators
            && settings.silence_secs.0 <= settings.silence_secs.1;
        if !fit || settings.checkpoint_interval == 0 {
            return Err(RunError::Settings(format!(
                "at most {VALIDATORS_MAX} validators, each on a node of its own, and among them those that lie or are silent"
            )));
        }
        let wallets = Wallets::new().map_err(RunError::Settings)?;
        let file = genesis_file(&settings, &wallets)?;
        let genesis = file.check()?;
        let weather = settings.scenario.weather(genesis.params.max_future_secs);
        #[cfg(feature = "fault-injection")]
        pithead_core::fault_injection::skip_state_root(
            settings.plant == Some(Plant::SkipStateRoot),
        );
        #[cfg(feature = "fault-injection")]
        pithead_core::fault_injection::allow_surround(settings.plant == Some(Plant::AllowSurround));
        #[cfg(not(feature = "fault-injection"))]
        if settings.plant.is_some_and(Plant::is_in_node) {
            return Err(RunError::Settings(
                "this fault needs a build with --features fault-injection".to_owned(),
            ));
        }
        let seed = settings.seed;
        let mut world = Self {
            weather,
            ledger: Ledger::new(&genesis),
            genesis,
            members: Vec::new(),
            measure: Measure::new(),
            finality: FinalityWatch::default(),
            wallets,
            dice: AllDice {
                network: Dice::new(seed, "network"),
                faults: Dice::new(seed, "faults"),
                mining: Dice::new(seed, "mining"),
                wallets: Dice::new(seed, "wallets"),
                liars: Dice::new(seed, "liars"),
            },
            digest: Digest::new(),
            now_us: 0,
            schedule: Schedule::default(),
            happened: 0,
            side: vec![0; settings.nodes],
            one_way: false,
            whole_since_us: Some(0),
            stirred: true,
            mining: true,
            watch: checks::Watch::default(),
            settings,
        };
        let mut dice = Dice::new(seed, "members");
        for index in 0..world.settings.nodes {
            let member = world.member(index, &mut dice);
            world.members.push(member);
            world.start(index)?;
        }
        world.ensure_liar();
        world.share_hash_rate();
        world.schedule_first(&mut dice);
        Ok(world)
    }

    fn member(&self, index: usize, dice: &mut Dice) -> Member {
        let weather = &self.weather;
        // The first nodes are honest, so that there is always somebody who mines.
        let manner = match index {
            0..2 => Manner::Honest,
            // A validator that lies does so by voting; its node is honest.
            _ if index >= self.settings.validators && dice.happens(weather.liar_part) => {
                Manner::Liar
            }
            _ if dice.happens(weather.slow_part) => Manner::Slow,
            _ => Manner::Honest,
        };
        let mut place = Place::somewhere(dice);
        let mut think_us = dice.log_normal(THINK_US, 0.5);
        if manner == Manner::Slow {
            place.bits_per_sec = SLOW_BITS_PER_SEC;
            think_us = dice.log_normal(SLOW_THINK_US, 0.3);
        }
        let spread = 2 * weather.skew_secs_max as usize + 1;
        let skew_secs = dice.below(spread) as i64 - weather.skew_secs_max;
        let crashes = weather.crash_secs.is_finite();
        let mut address = [0; 32];
        address[..8].copy_from_slice(&(index as u64 + 1).to_be_bytes());
        Member {
            node: None,
            store: Arc::new(CrashStore::new(crashes, self.settings.plant)),
            recent: RecentBlocks::default(),
            links: std::collections::BTreeMap::new(),
            seen: Seen::default(),
            judged: std::collections::BTreeMap::new(),
            banned: std::collections::BTreeMap::new(),
            partners: Vec::new(),
            place,
            line_free_us: 0,
            think_us: think_us as u64,
            skew_secs,
            manner,
            hash_share: 0.0,
            solve_number: 0,
            online_since_us: 0,
            syncing: false,
            reward_address: Address(address),
            crash_number: 0,
            stand: None,
            heard: std::collections::BTreeMap::new(),
            forged: std::collections::BTreeMap::new(),
            earlier: None,
            most: SyncUsage::default(),
            record: self.record_of(index),
        }
    }

    /// Where some are to lie, a small network has one liar at least.
    fn ensure_liar(&mut self) {
        let lies = |member: &Member| member.manner == Manner::Liar;
        if self.weather.liar_part > 0.0
            && !self.members.iter().any(lies)
            && let Some(last) = self.members.last_mut()
        {
            last.manner = Manner::Liar;
        }
    }

    /// Starts a node on its store.
    pub(crate) fn start(&mut self, index: usize) -> Result<(), Violation> {
        let seed = Dice::new(self.settings.seed, &format!("sync {index}")).next();
        let voter = self.voter(index);
        let started = self.members[index].start(&self.genesis, seed, voter, self.now_us);
        started.map_err(|error| self.storage_failed(index, &error))
    }

    fn schedule_first(&mut self, dice: &mut Dice) {
        for index in 0..self.members.len() {
            let phase = |dice: &mut Dice, secs: f64| dice.between(0.0, secs * 1e6) as u64;
            let tick = phase(dice, 1.0);
            self.after(tick, Happening::Tick(index));
            let dial = phase(dice, 5.0);
            self.after(dial, Happening::Dial(index));
            self.schedule_crash(index);
            self.schedule_drop(index);
            if self.members[index].manner == Manner::Liar {
                self.schedule_lie(index);
            }
        }
        self.after(30 * SECOND_US, Happening::Inspect);
        self.schedule_payment();
        let length = self.settings.secs * SECOND_US;
        if self.settings.silent > 0 {
            let (from, until) = self.settings.silence_secs;
            for secs in [from, until].into_iter().filter(|secs| *secs > 0) {
                self.after(secs * SECOND_US, Happening::TurnSilent);
            }
        }
        self.schedule_splits(length);
    }

    fn schedule_splits(&mut self, length: u64) {
        if self.weather.partitions > 0 && self.settings.long_splits {
            // One that may last for half of the run.
            let part = self.dice.faults.between(0.1, 0.5);
            let start = self.dice.faults.between(0.05, 0.95 - part);
            let at = |part: f64| (length as f64 * part) as u64;
            self.after(at(start), Happening::Split);
            self.after(at(start + part), Happening::Heal);
            return;
        }
        for number in 0..u64::from(self.weather.partitions) {
            // Each split lasts a sixth of the run and begins at a quarter of
            // its half.
            let start = length * (1 + 4 * number) / 8;
            self.after(start, Happening::Split);
            self.after(start + length / 6, Happening::Heal);
        }
    }

    /// A fault, with the time at which it was found.
    pub(crate) fn violation(&self, node: Option<usize>, what: impl Into<String>) -> Violation {
        Violation {
            secs: self.secs(),
            node,
            what: what.into(),
        }
    }

    pub(crate) fn storage_failed(&self, index: usize, error: &StoreError) -> Violation {
        self.violation(Some(index), format!("storage failed: {error}"))
    }

    /// Runs to the end and reports.
    ///
    /// # Errors
    /// [`Violation`]: the first fault that is found.
    pub fn run(&mut self) -> Result<Report, Violation> {
        self.run_until(self.settings.secs * SECOND_US)?;
        self.settle()?;
        self.check_end()?;
        Ok(Report::of(self))
    }

    /// The moment that the run has come to, virtual seconds.
    pub(crate) fn secs(&self) -> u64 {
        self.now_us / SECOND_US
    }

    /// Lets time pass.
    pub(crate) fn run_until(&mut self, until_us: u64) -> Result<(), Violation> {
        while let Some((at_us, what)) = self.schedule.next_until(until_us) {
            self.now_us = at_us;
            self.happened += 1;
            let most = HAPPENINGS_BASE
                + HAPPENINGS_PER_NODE_SECOND * self.members.len() as u64 * (1 + self.secs());
            if self.happened > most {
                return Err(self.violation(None, format!("more than {most} things happened")));
            }
            self.happen(what)?;
        }
        self.now_us = until_us;
        Ok(())
    }

    /// Ends all trouble, lets finality catch up, and waits until everybody honest
    /// has the same tip.
    fn settle(&mut self) -> Result<(), Violation> {
        self.stirred = false;
        self.weather.late_approvals = 0.0;
        self.weather.gossip_loss = 0.0;
        self.weather.request_loss = 0.0;
        if self.whole_since_us.is_none() {
            self.heal();
        }
        for index in 0..self.members.len() {
            let member = &self.members[index];
            member.store.doom(None);
            if let Some(record) = &member.record {
                record.calm();
            }
            if member.node.is_none() {
                self.restart(index)?;
            }
        }
        self.finalise()?;
        self.mining = false;
        // What is on its way arrives, and then one block decides between tips.
        self.run_until(self.now_us + 120 * SECOND_US)?;
        self.find_last_block()?;
        let limit_us = self.now_us + SETTLE_SECS_MAX * SECOND_US;
        while !self.honest_agree() {
            if self.now_us >= limit_us {
                return Err(self.disagreement(SETTLE_SECS_MAX));
            }
            self.run_until(self.now_us + SECOND_US)?;
        }
        // Requests that are under way come to their end.
        self.run_until(self.now_us + 60 * SECOND_US)
    }

    /// Where enough are honest: mines on in calm until finality has followed the
    /// chain, which it must do within some checkpoints. Those on which honest
    /// validators have bound themselves to other branches do not count.
    fn finalise(&mut self) -> Result<(), Violation> {
        if !self.must_finalise() {
            return Ok(());
        }
        let height = |world: &Self| {
            let best = world.best_honest();
            let tip = best.and_then(|index| world.members[index].tip());
            tip.map_or(0, |(_, height)| height)
        };
        let bound = height(self).max(self.highest_vote());
        let interval = u64::from(self.settings.checkpoint_interval);
        // So high that what is final has to lie above the bound.
        let clear = bound + LAG_CHECKPOINTS_MAX * interval;
        let limit = bound + CATCH_UP_CHECKPOINTS_MAX * interval;
        while height(self) <= clear || self.laggard(LAG_CHECKPOINTS_MAX).is_some() {
            if height(self) > limit
                && let Some((index, what)) = self.laggard(LAG_CHECKPOINTS_MAX)
            {
                let what = what + &self.standings();
                return Err(self.violation(Some(index), what));
            }
            self.run_until(self.now_us + SECOND_US)?;
        }
        Ok(())
    }

    fn happen(&mut self, what: Happening) -> Result<(), Violation> {
        match what {
            Happening::Tick(index) => {
                self.handle(index, Event::Tick)?;
                self.after(SECOND_US, Happening::Tick(index));
                Ok(())
            }
            Happening::Peer(index, event) => self.peer_event(index, event),
            Happening::Gossip(index, peer, message) => self.gossip_came(index, peer, &message),
            Happening::Ask {
                at,
                from,
                id,
                request,
                sent_us,
            } => self.answer(at, from, id, &request, sent_us),
            Happening::Lost(index, peer) => self.lost(index, peer),
            Happening::Dial(index) => {
                self.dial(index);
                Ok(())
            }
            Happening::Drop(index) => {
                self.drop_one(index);
                Ok(())
            }
            Happening::Solve(index, number) => self.solve(index, number),
            Happening::Pay => self.pay(),
            Happening::Lie(index) => self.lie(index),
            Happening::Crash(index, number) => self.crash(index, number),
            Happening::Restart(index) => self.restart(index),
            Happening::Split => {
                self.split();
                Ok(())
            }
            Happening::Heal => {
                self.heal();
                Ok(())
            }
            Happening::Inspect => self.inspect(),
            Happening::Equivocate {
                finder,
                height,
                hash,
            } => {
                self.equivocate(finder, height, hash);
                Ok(())
            }
            Happening::TurnSilent => self.turn_silent(),
        }
    }

    /// Hashes a second in the whole network.
    pub(crate) fn hash_rate(&self) -> f64 {
        HASHES_PER_BLOCK / f64::from(self.settings.interval_secs)
    }
}
