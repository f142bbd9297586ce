//! The settings of a run: everything that, together with the code, decides what
//! happens in it.
//!
//! Settings know nothing of nodes or of the network. Start reading at [`SimSettings`].

use serde::Serialize;

use crate::scenario::Scenario;

/// The end of a silence that never ends, virtual seconds from the start: longer than any run.
const AWAY_SECS: u64 = 1_000_000_000;

/// Everything that decides a run. The same settings give the same run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimSettings {
    /// The seed of every random choice.
    pub seed: u64,
    /// How many nodes the network has.
    pub nodes: usize,
    /// Virtual seconds with mining. Some minutes follow in which the network settles.
    pub secs: u64,
    /// The kind of trouble that the nodes meet.
    pub scenario: Scenario,
    /// Target seconds between two blocks.
    pub interval_secs: u32,
    /// Outbound connections that each node keeps up. On average it accepts as many
    /// inbound ones.
    pub dials: usize,
    /// How many nodes mine.
    pub miners: usize,
    /// Payments an hour in the whole network.
    pub payments_per_hour: f64,
    /// How many blocks deep the best chains of all honest nodes must agree, while the
    /// network is whole.
    pub agreed_depth: u64,
    /// How many validators there are, at most 25. They run on the first nodes. With 0
    /// the network has no finality.
    pub validators: usize,
    /// How many validators lie: the first ones. They vote for checkpoints on every
    /// branch.
    pub equivocators: usize,
    /// How the lying validators lie; `None` draws it for each of them from the seed.
    pub deceit: Option<Deceit>,
    /// Who attacks the network with a plan; `None` if nobody does.
    pub adversary: Option<AdversaryKind>,
    /// How many validators vote only when the adversary lets them: the first ones. It never lets
    /// them contradict themselves.
    pub late: usize,
    /// How many approvals make a certificate; `None` for four fifths of the validators.
    pub approvals_needed: Option<usize>,
    /// How many validators do not vote for a while: the last ones.
    pub silent: usize,
    /// The span in which those do not vote, virtual seconds from the start.
    pub silence_secs: (u64, u64),
    /// Whether a run with splits has one long split instead of two short ones. It lasts
    /// up to half of the run, makes two or three parts, and sometimes lets messages
    /// through in one direction.
    pub long_splits: bool,
    /// Blocks from one checkpoint to the next.
    pub checkpoint_interval: u32,
    /// A fault that is injected on purpose, for the simulation to find.
    #[serde(rename = "plant")]
    pub fault: Option<InjectedFault>,
}

impl SimSettings {
    /// A run without validators, with a block every ten seconds as on the main network,
    /// and with defaults for all the rest.
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
            adversary: None,
            late: 0,
            approvals_needed: None,
            silent: 0,
            silence_secs: (0, secs / 2),
            long_splits: false,
            checkpoint_interval: 10,
            fault: None,
        }
    }

    /// The shell command that repeats this run.
    #[must_use]
    pub fn command(&self) -> String {
        let in_node = self.fault.is_some_and(InjectedFault::is_in_node);
        let features = if in_node {
            " --features fault-injection"
        } else {
            ""
        };
        let mut command = format!(
            "cargo run -p pithead-sim --release{features} -- --seed {} --nodes {} --secs {} --scenario {} \
             --interval {} --dials {} --miners {} --payments {} --agreed-depth {}",
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
            command += &format!(" --deceit {}", argument_name(&deceit));
        }
        if let Some(adversary) = self.adversary {
            command += &format!(
                " --adversary {} --late {}",
                argument_name(&adversary),
                self.late
            );
        }
        if let Some(quorum) = self.approvals_needed {
            command += &format!(" --quorum {quorum}");
        }
        if self.long_splits {
            command += " --long-splits";
        }
        if let Some(fault) = self.fault {
            command += &format!(" --plant {}", argument_name(&fault));
        }
        command
    }

    /// The network that an adversary attacks: 7 validators of which 5 make a certificate, with a
    /// checkpoint at every second block.
    ///
    /// Late votes need two validators that are late and one that is away for good. The wanderer
    /// holds one key, so that finality must go on once it rests.
    #[must_use]
    pub fn attacked(seed: u64, adversary: AdversaryKind) -> Self {
        let (late, silent) = match adversary {
            AdversaryKind::LateVotes => (2, 1),
            AdversaryKind::Wanderer => (1, 0),
        };
        Self {
            validators: 7,
            approvals_needed: Some(5),
            adversary: Some(adversary),
            late,
            silent,
            silence_secs: (0, AWAY_SECS),
            checkpoint_interval: 2,
            payments_per_hour: 10.0,
            miners: 4,
            ..Self::new(seed, 8, 900, Scenario::Calm)
        }
    }

    /// How many approvals make a certificate. By default that is four fifths of the validators,
    /// rounded up: 20 of 25.
    #[must_use]
    pub fn quorum(&self) -> usize {
        let usual = (self.validators * 4).div_ceil(5);
        self.approvals_needed.unwrap_or(usual)
    }

    /// How many of the first validators cast no votes by their nodes: they lie, or an adversary has
    /// their keys.
    #[must_use]
    pub(crate) fn without_own_votes(&self) -> usize {
        self.equivocators.max(self.late)
    }

    /// How many validators any two quorums have in common: with 25 validators, 15.
    /// Certificates can conflict only if at least this many validators lie.
    #[must_use]
    pub(crate) fn quorum_overlap(&self) -> usize {
        (2 * self.quorum()).saturating_sub(self.validators)
    }
}

/// The name of a value on the command line.
fn argument_name(value: &impl clap::ValueEnum) -> String {
    let possible = value.to_possible_value();
    possible.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Who attacks the network with a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AdversaryKind {
    /// It makes one fork, and then releases each vote when that moves the whole network.
    LateVotes,
    /// It releases votes and blocks at random.
    Wanderer,
}

/// How a validator lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Deceit {
    /// It votes for every checkpoint of every branch, and shows each vote to all nodes.
    EveryBranch,
    /// It votes for every branch, but shows a vote only to the nodes on that branch.
    TwoFaces,
    /// It gives some votes the genesis as source, so that they surround its earlier
    /// votes.
    Surround,
    /// It gives its votes sources far below the latest approved checkpoint.
    StaleSource,
    /// It votes for every branch, and publishes each vote only after a long wait.
    HoldBack,
}

/// A fault that a run injects on purpose, to show that the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum InjectedFault {
    /// The node does not compare a block's state root. It needs a build with the
    /// feature `fault-injection`.
    SkipStateRoot,
    /// The node forwards gossip before its own verdict on it.
    ForwardUnjudged,
    /// A crash leaves half of the last commit on disk.
    TornCommit,
    /// A reorganisation does not restore the earlier balances.
    KeepUndone,
    /// A validator sends a vote before it has recorded it, against rule 4 of §9.
    SignFirst,
    /// A validator's record is not durable: a crash loses its last votes, against
    /// rule 4 of §9.
    ForgetVotes,
    /// A validator may cast a vote that surrounds an earlier one, against rule 2 of §9.
    /// It needs a build with the feature `fault-injection`.
    AllowSurround,
    /// The node takes a copy of a known payment for verified, although a txid does not cover
    /// the signature. It needs a build with the feature `fault-injection`.
    TrustCopies,
    /// The node follows the highest approved checkpoint however deep it has to go back, against
    /// §8. It needs a build with the feature `fault-injection`.
    FollowAnyApproval,
    /// The node tries every waiting block again at each tick. It needs a build with the feature
    /// `fault-injection`.
    RetryAllWaiting,
}

impl InjectedFault {
    /// Whether the fault is in the node's own code, and so needs a build with the
    /// feature `fault-injection`.
    #[must_use]
    pub fn is_in_node(self) -> bool {
        matches!(
            self,
            Self::SkipStateRoot
                | Self::AllowSurround
                | Self::TrustCopies
                | Self::FollowAnyApproval
                | Self::RetryAllWaiting
        )
    }
}
