//! The network: nodes, a queue of what is going to happen, and the clock that it
//! drives. Start with [`Simulation::run`].

use std::collections::BinaryHeap;
use std::sync::Arc;

use pithead_consensus::genesis::{
    AllocationEntry, GenesisError, GenesisFile, Network, ValidatorEntry,
};
use pithead_consensus::{Address, BlockHash, Genesis};
use pithead_node::node::Event;
use pithead_node::store::StoreError;
use pithead_node::sync::{PeerEvent, PeerKey, RecentBlocks, Request, RequestId, SyncUsage};
use thiserror::Error;

use crate::checks;
use crate::dice::Dice;
use crate::digest::Digest;
use crate::geography::Place;
use crate::ledger::Ledger;
use crate::measure::Measure;
use crate::member::{GENESIS_TIME, Manner, Member, Message, Seen};
use crate::report::Report;
use crate::settings::{Plant, Settings, Weather};
use crate::store::CrashStore;
use crate::validators::{FinalityWatch, VALIDATORS_MAX, keys};
use crate::wallets::Wallets;

/// A second of the virtual clock.
pub(crate) const SECOND_US: u64 = 1_000_000;
/// Hashes that a block takes at first: enough for the difficulty to move in
/// both directions, few enough to be found at once.
const HASHES_PER_BLOCK: f64 = 64.0;
/// The same as a compact target: 2^256 / 64.
const BITS: u32 = 0x2003_ffff;
/// The easiest target: two hashes.
const POW_LIMIT_BITS: u32 = 0x207f_ffff;
/// What a machine takes to see to a message, microseconds.
const THINK_US: f64 = 1_000.0;
/// The same for slow ones.
const SLOW_THINK_US: f64 = 600_000.0;
/// What slow ones can send, bits a second.
const SLOW_BITS_PER_SEC: f64 = 1e6;
/// How long settling may take at the end.
const SETTLE_SECS_MAX: u64 = 600;

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

/// What is going to happen.
pub(crate) enum Happening {
    Tick(usize),
    /// Something comes to a node from one of its peers.
    Peer(usize, PeerEvent),
    /// Gossip comes to a node.
    Gossip(usize, PeerKey, Arc<Message>),
    /// A request comes to a node; when it was sent, and the answerer's name of the
    /// asker.
    Ask {
        at: usize,
        from: PeerKey,
        id: RequestId,
        request: Request,
        sent_us: u64,
    },
    /// A connection is found to be dead.
    Lost(usize, PeerKey),
    Dial(usize),
    Drop(usize),
    Solve(usize, u64),
    Pay,
    Lie(usize),
    Crash(usize),
    Restart(usize),
    Split,
    Heal,
    Inspect,
    /// Liars vote for a checkpoint.
    Equivocate(u64, BlockHash),
    /// Silent validators come back.
    Wake,
}

struct Scheduled {
    at_us: u64,
    number: u64,
    what: Happening,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest first, since heaps give the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at_us, other.number).cmp(&(self.at_us, self.number))
    }
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
    queue: BinaryHeap<Scheduled>,
    last: u64,
    /// Which part of a split network each node is in.
    pub(crate) side: Vec<u8>,
    /// Since when the network has been whole; `None` while it is split.
    pub(crate) whole_since_us: Option<u64>,
    /// Whether mining, paying, lying and crashing go on.
    pub(crate) stirred: bool,
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
            && settings.equivocators + settings.silent <= settings.validators;
        if !fit || settings.checkpoint_interval == 0 {
            return Err(RunError::Settings(format!(
                "at most {VALIDATORS_MAX} validators, each on a node of its own, and among them those that lie or are silent"
            )));
        }
        let wallets = Wallets::new().map_err(RunError::Settings)?;
        let file = genesis_file(&settings, &wallets)?;
        let genesis = file.check()?;
        let weather = settings.scenario.weather(genesis.params.max_future_secs);
        #[cfg(feature = "planted")]
        pithead_node::planted::skip_state_root(settings.plant == Some(Plant::SkipStateRoot));
        #[cfg(feature = "planted")]
        pithead_node::planted::allow_surround(settings.plant == Some(Plant::AllowSurround));
        #[cfg(not(feature = "planted"))]
        if matches!(
            settings.plant,
            Some(Plant::SkipStateRoot | Plant::AllowSurround)
        ) {
            return Err(RunError::Settings(
                "this fault needs a build with --features planted".to_owned(),
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
            queue: BinaryHeap::new(),
            last: 0,
            side: vec![0; settings.nodes],
            whole_since_us: Some(0),
            stirred: true,
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
            _ if index < self.settings.validators => Manner::Honest,
            _ if dice.happens(weather.liar_part) => Manner::Liar,
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
            self.after(length / 2, Happening::Wake);
        }
        for number in 0..u64::from(self.weather.partitions) {
            // Each split lasts a sixth of the run and begins at a quarter of
            // its half.
            let start = length * (1 + 4 * number) / 8;
            self.after(start, Happening::Split);
            self.after(start + length / 6, Happening::Heal);
        }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Lets something happen later.
    pub(crate) fn after(&mut self, us: u64, what: Happening) {
        let number = self.number();
        self.queue.push(Scheduled {
            at_us: self.now_us + us,
            number,
            what,
        });
    }

    /// Lets something happen at a moment to come.
    pub(crate) fn at(&mut self, at_us: u64, what: Happening) {
        self.after(at_us.saturating_sub(self.now_us), what);
    }

    /// A fault, with the time at which it was found.
    pub(crate) fn violation(&self, node: Option<usize>, what: impl Into<String>) -> Violation {
        Violation {
            secs: self.now_us / SECOND_US,
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
    pub fn run(mut self) -> Result<Report, Violation> {
        self.run_until(self.settings.secs * SECOND_US)?;
        self.settle()?;
        self.check_end()?;
        Ok(Report::of(&self))
    }

    /// Lets time pass.
    pub(crate) fn run_until(&mut self, until_us: u64) -> Result<(), Violation> {
        while let Some(next) = self.queue.peek() {
            if next.at_us > until_us {
                break;
            }
            if let Some(next) = self.queue.pop() {
                self.now_us = next.at_us;
                self.happen(next.what)?;
            }
        }
        self.now_us = until_us;
        Ok(())
    }

    /// Ends all trouble, and waits until everybody honest has the same tip.
    fn settle(&mut self) -> Result<(), Violation> {
        self.stirred = false;
        if self.whole_since_us.is_none() {
            self.heal();
        }
        for index in 0..self.members.len() {
            if self.members[index].node.is_none() {
                self.restart(index)?;
            }
        }
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
            Happening::Crash(index) => self.crash(index),
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
            Happening::Equivocate(height, hash) => self.equivocate(height, hash),
            Happening::Wake => self.wake_silent(),
        }
    }

    /// Hashes a second in the whole network.
    pub(crate) fn hash_rate(&self) -> f64 {
        HASHES_PER_BLOCK / f64::from(self.settings.interval_secs)
    }
}

fn keys_of(settings: &Settings) -> impl Iterator<Item = &'static crate::validators::ValidatorKey> {
    let all = if settings.validators == 0 {
        &[]
    } else {
        keys()
    };
    all.iter().take(settings.validators)
}

/// The main network's rules with easy work and the wallets' allocations.
fn genesis_file(settings: &Settings, wallets: &Wallets) -> Result<GenesisFile, RunError> {
    let base = Network::Main.genesis_file();
    let prefix = pithead_consensus::AddressPrefix::new(&base.address_prefix)
        .map_err(|error| RunError::Settings(error.to_string()))?;
    Ok(GenesisFile {
        name: "simulation".to_owned(),
        time: GENESIS_TIME,
        bits: BITS,
        pow_limit_bits: POW_LIMIT_BITS,
        block_interval_secs: settings.interval_secs,
        checkpoint_interval: settings.checkpoint_interval,
        approval_quorum: u32::try_from(settings.quorum()).unwrap_or(u32::MAX),
        validators: keys_of(settings)
            .map(|key| ValidatorEntry {
                address: key.address.to_text(&prefix),
                public_key: hex::encode(key.public.modulus()),
            })
            .collect(),
        allocations: wallets
            .addresses()
            .map(|address| AllocationEntry {
                address: address.to_text(&prefix),
                amount: "1000".to_owned(),
            })
            .collect(),
        ..base
    })
}
