//! The scenarios of a run, and the rates of trouble that each one stands for.
//!
//! This file holds numbers only. What they do to a run is written in `weather` and
//! `liars`. Start reading at [`Scenario`].

use serde::Serialize;

/// The kind of trouble that the nodes of a run meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Nothing goes wrong: messages take the time that distance and line rate need.
    Calm,
    /// Clocks differ, messages get lost, nodes crash, and some peers are slow, come
    /// and go, or lie.
    Rough,
    /// Calm, but twice the network splits in two and heals again.
    Partition,
    /// The trouble of `rough` and the splits of `partition` together.
    Storm,
    /// Calm, but clocks jump by up to hours, nodes pause, and one goes away for good.
    Clocks,
}

impl Scenario {
    /// The scenario's name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Rough => "rough",
            Self::Partition => "partition",
            Self::Storm => "storm",
            Self::Clocks => "clocks",
        }
    }

    /// The rates of this scenario. `max_future_secs` is the consensus rule on how far
    /// a block's time may be ahead of a node's clock.
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
            clock_jump_secs: f64::INFINITY,
            pause_secs: f64::INFINITY,
            leaving: 0,
        };
        let rough = Weather {
            gossip_loss: 0.02,
            request_loss: 0.002,
            // Then two clocks differ by at most what the rules allow a block to be ahead.
            skew_secs_max: i64::from(max_future_secs / 2),
            crash_secs: 5_400.0,
            churn_secs: 1_800.0,
            slow_part: 0.05,
            liar_part: 0.05,
            late_approvals: 0.02,
            ..calm
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
            Self::Clocks => Weather {
                clock_jump_secs: 900.0,
                pause_secs: 600.0,
                leaving: 1,
                ..calm
            },
        }
    }
}

/// The rates of trouble in a run. Probabilities and parts are between 0 and 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Probability that a gossip message gets lost on one connection.
    pub(crate) gossip_loss: f64,
    /// Probability that a request gets lost; the same again for its response.
    pub(crate) request_loss: f64,
    /// Largest difference between a node's clock and the virtual clock, seconds.
    pub(crate) skew_secs_max: i64,
    /// Mean seconds between two crashes of one node; infinite if nodes never crash.
    pub(crate) crash_secs: f64,
    /// Mean seconds after which a node drops an outbound connection; infinite if it
    /// never does.
    pub(crate) churn_secs: f64,
    /// Part of the nodes with a slow machine and a slow line.
    pub(crate) slow_part: f64,
    /// Part of the nodes that lie.
    pub(crate) liar_part: f64,
    /// Part of the approvals that the network delays by some blocks.
    pub(crate) late_approvals: f64,
    /// How often the network splits.
    pub(crate) partitions: u32,
    /// Mean seconds between two jumps of one node's clock; infinite if clocks never jump.
    pub(crate) clock_jump_secs: f64,
    /// Mean seconds between two pauses of one node; infinite if nodes never pause.
    pub(crate) pause_secs: f64,
    /// How many nodes go away for good: the last ones.
    pub(crate) leaving: usize,
}
