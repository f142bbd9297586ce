//! How far the validators' approvals have come on a chain (protocol §9), read
//! from a node's answer. It knows no terminal: the words that people read are
//! the command's.

use pithead_api::v1;

/// Finality counts as late once this many checkpoints have gone by unapproved.
/// The last checkpoint is always still being voted on, and blocks may come in
/// twos and threes.
const CHECKPOINTS_LATE: u64 = 4;

/// Whether checkpoints of a network become approved and final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalityProgress {
    /// The network has no validators, so no block ever becomes approved.
    NoValidators,
    /// The validators approve checkpoints as they come.
    Advancing,
    /// The last four checkpoints or more are unapproved.
    Waiting,
    /// Two certificates conflict, so no further block becomes final.
    Stopped,
}

impl FinalityProgress {
    /// Reads the progress from what a node says of its chain.
    #[must_use]
    pub fn of(info: &v1::GetChainInfoResponse) -> Self {
        let parameters = info.parameters.unwrap_or_default();
        let interval = u64::from(parameters.checkpoint_interval.max(1));
        if parameters.validator_count == 0 {
            Self::NoValidators
        } else if info.finality_conflict {
            Self::Stopped
        } else if info.approved_lag >= interval.saturating_mul(CHECKPOINTS_LATE) {
            Self::Waiting
        } else {
            Self::Advancing
        }
    }

    /// The progress as one word of JSON, such as `no_validators`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoValidators => "no_validators",
            Self::Advancing => "advancing",
            Self::Waiting => "waiting",
            Self::Stopped => "stopped",
        }
    }
}
