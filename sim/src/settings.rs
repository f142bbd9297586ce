//! What a run is made of: its size, its seed and its weather.

use serde::Serialize;

/// Everything that decides a run: the same settings run the same way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Where all chance comes from.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// Virtual seconds of mining; some minutes of settling follow.
    pub secs: u64,
    /// What happens to them.
    pub scenario: Scenario,
    /// Intended seconds between blocks.
    pub interval_secs: u32,
    /// Connections that each node makes; it takes as many again on average.
    pub dials: usize,
    /// Nodes that mine.
    pub miners: usize,
    /// Payments an hour in the whole network.
    pub payments_per_hour: f64,
    /// Blocks below which no two nodes may disagree, once healed.
    pub agreed_depth: u64,
    /// The first nodes are so many validators, 25 at most; 0: no finality.
    pub validators: usize,
    /// The first of them vote for every checkpoint of every branch.
    pub equivocators: usize,
    /// How those lie; each as the seed has it if `None`.
    pub deceit: Option<Deceit>,
    /// The last of them do not vote for a while.
    pub silent: usize,
    /// From when until when those do not vote, virtual seconds.
    pub silence_secs: (u64, u64),
    /// Where there are splits: one that may last for half of the run, into two or
    /// three parts, perhaps deaf in one direction only.
    pub long_splits: bool,
    /// Every how many blocks there is a checkpoint.
    pub checkpoint_interval: u32,
    /// A fault to be found.
    pub plant: Option<Plant>,
}

impl Settings {
    /// A run with the defaults for the rest; blocks come as on the main
    /// network, one every ten seconds.
    #[must_use]
    pub fn new(seed: u64, nodes: usize, secs: u64, scenario: Scenario) -> Self {
        Self {
            seed,
            nodes,
            secs,
            scenario,
            interval_secs: 10,
            dials: 4,
            miners: (nodes / 8).clamp(2, 25),
            payments_per_hour: 60.0,
            agreed_depth: 12,
            validators: 0,
            equivocators: 0,
            deceit: None,
            silent: 0,
            silence_secs: (0, secs / 2),
            long_splits: false,
            checkpoint_interval: 10,
            plant: None,
        }
    }

    /// The command that runs the same again.
    #[must_use]
    pub fn command(&self) -> String {
        let mut command = format!(
            "cargo run -p pithead-sim --release{} -- --seed {} --nodes {} --secs {} --scenario {} \
             --interval {} --dials {} --miners {} --payments {} --agreed-depth {}",
            if self.plant.is_some_and(Plant::is_in_node) {
                " --features fault-injection"
            } else {
                ""
            },
            self.seed,
            self.nodes,
            self.secs,
            self.scenario.name(),
            self.interval_secs,
            self.dials,
            self.miners,
            self.payments_per_hour,
            self.agreed_depth,
        );
        if self.validators > 0 {
            command += &format!(
                " --validators {} --equivocators {} --silent {} --silent-from {} --silent-until {} \
                 --checkpoint-interval {}",
                self.validators,
                self.equivocators,
                self.silent,
                self.silence_secs.0,
                self.silence_secs.1,
                self.checkpoint_interval,
            );
        }
        if let Some(deceit) = self.deceit {
            command += &format!(" --deceit {}", name(&deceit));
        }
        if self.long_splits {
            command += " --long-splits";
        }
        if let Some(plant) = self.plant {
            command += &format!(" --plant {}", name(&plant));
        }
        command
    }

    /// Approvals that make a certificate: four fifths, as 20 of 25.
    #[must_use]
    pub fn quorum(&self) -> usize {
        (self.validators * 4).div_ceil(5)
    }
}

/// What happens to the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Distance and rates only.
    Calm,
    /// Clocks far apart, loss, crashes, slow peers, peers that come and go,
    /// peers that lie.
    Rough,
    /// As calm, and twice the network is split in two and heals.
    Partition,
    /// All of that.
    Storm,
}

/// How a validator lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Deceit {
    /// It votes for every checkpoint of every branch, and tells all.
    EveryBranch,
    /// The same, but tells of a branch only those who are on it.
    TwoFaces,
    /// Some of its votes go from the genesis, around all that it voted before.
    Surround,
    /// Its votes go from checkpoints far below.
    StaleSource,
    /// It votes for every branch, and lets its votes out much later.
    HoldBack,
}

/// A fault planted on purpose: the simulation has to find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Plant {
    /// The node does not compare a block's state root (needs the feature
    /// `fault-injection`).
    SkipStateRoot,
    /// Gossip is forwarded before its verdict.
    ForwardUnjudged,
    /// A crash leaves half of the last commit behind.
    TornCommit,
    /// A reorganisation does not bring old balances back.
    KeepUndone,
    /// A vote leaves before it is on record (§9 without rule 4).
    SignFirst,
    /// Votes are not durable: a crash loses the last ones (§9 without rule 4).
    ForgetVotes,
    /// A validator may surround its earlier votes (§9 without rule 2; needs the
    /// feature `fault-injection`).
    AllowSurround,
}

impl Plant {
    /// Whether the fault sits in the node itself, which takes a build of its own.
    #[must_use]
    pub fn is_in_node(self) -> bool {
        matches!(self, Self::SkipStateRoot | Self::AllowSurround)
    }
}

/// The name of a value on the command line.
fn name(value: &impl clap::ValueEnum) -> String {
    let possible = value.to_possible_value();
    possible.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The numbers of a scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Probability that a gossip message gets lost.
    pub(crate) gossip_loss: f64,
    /// Probability that a request or its answer gets lost.
    pub(crate) request_loss: f64,
    /// How far clocks are off at most, seconds.
    pub(crate) skew_secs_max: i64,
    /// Mean seconds between two crashes of one node; infinite: none.
    pub(crate) crash_secs: f64,
    /// Mean seconds after which a node drops a connection of its own.
    pub(crate) churn_secs: f64,
    /// Part of the nodes that answer late.
    pub(crate) slow_part: f64,
    /// Part of the nodes that lie.
    pub(crate) liar_part: f64,
    /// Part of the approvals that come late.
    pub(crate) late_approvals: f64,
    /// How often the network is split.
    pub(crate) partitions: u32,
}

impl Scenario {
    pub(crate) fn weather(self, max_future_secs: u32) -> Weather {
        let calm = Weather {
            gossip_loss: 0.0,
            request_loss: 0.0,
            skew_secs_max: 1,
            crash_secs: f64::INFINITY,
            churn_secs: f64::INFINITY,
            slow_part: 0.0,
            liar_part: 0.0,
            late_approvals: 0.0,
            partitions: 0,
        };
        let rough = Weather {
            gossip_loss: 0.02,
            request_loss: 0.002,
            // Two clocks are apart by what the rules allow a block to be ahead.
            skew_secs_max: i64::from(max_future_secs / 2),
            crash_secs: 5_400.0,
            churn_secs: 1_800.0,
            slow_part: 0.05,
            liar_part: 0.05,
            late_approvals: 0.02,
            partitions: 0,
        };
        match self {
            Self::Calm => calm,
            Self::Rough => rough,
            Self::Partition => Weather {
                partitions: 2,
                ..calm
            },
            Self::Storm => Weather {
                partitions: 2,
                ..rough
            },
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Rough => "rough",
            Self::Partition => "partition",
            Self::Storm => "storm",
        }
    }
}
