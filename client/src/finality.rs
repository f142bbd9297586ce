//! How far the validators' approvals secure a chain (protocol §9), in words and
//! in JSON: what `chain`, `block`, `validators` and the devnet have in common.

use pithead_api::v1;
use serde::Serialize;

use crate::report::Advised;
use crate::show::counted;

/// Finality is late once this many checkpoints have gone by unapproved: one is
/// always being voted on, and blocks may come in twos and threes.
const CHECKPOINTS_LATE: u64 = 4;

/// How finality is going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is none: the network has no validators.
    NoValidators,
    /// Checkpoints are approved as they come.
    Advancing,
    /// Too few approvals come in.
    Waiting,
    /// Two certificates conflict.
    Stopped,
}

impl Progress {
    pub(crate) fn of(info: &v1::GetChainInfoResponse) -> Self {
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

    /// One word, for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoValidators => "no_validators",
            Self::Advancing => "advancing",
            Self::Waiting => "waiting",
            Self::Stopped => "stopped",
        }
    }

    /// A sentence, for people.
    pub(crate) fn sentence(self, info: &v1::GetChainInfoResponse) -> String {
        match self {
            Self::NoValidators => {
                "none: this network has no validators, blocks are only buried under more work"
                    .to_owned()
            }
            Self::Advancing => "advancing".to_owned(),
            Self::Waiting => format!(
                "waiting for approvals: {} since the last approved checkpoint, and {} needed for the next",
                counted(info.approved_lag, "block"),
                match info.parameters.unwrap_or_default().approval_quorum {
                    1 => "1 approval is".to_owned(),
                    count => format!("{count} approvals are"),
                }
            ),
            Self::Stopped => {
                "stopped: two certificates conflict (see `pithead evidence`); the chain goes on by proof of work"
                    .to_owned()
            }
        }
    }
}

/// Refuses to wait for what can't come on a network without validators.
pub(crate) fn check_there_is_any(info: &v1::GetChainInfoResponse) -> anyhow::Result<()> {
    if Progress::of(info) != Progress::NoValidators {
        return Ok(());
    }
    Err(Advised {
        error: format!(
            "the network {} has no validators: nothing on it is ever approved or final",
            info.network
        ),
        hint: "wait for a number of confirmations instead, such as --wait=6".to_owned(),
    }
    .into())
}

/// Refuses to wait for what a conflict of certificates has put an end to.
pub(crate) fn check_advances(info: &v1::GetChainInfoResponse) -> anyhow::Result<()> {
    if Progress::of(info) != Progress::Stopped {
        return Ok(());
    }
    Err(Advised {
        error: format!(
            "finality on the network {} has stopped at height {}: two certificates conflict, and nothing more becomes approved or final",
            info.network, info.final_height
        ),
        hint: "see `pithead evidence`; the chain goes on by proof of work: wait for a number of confirmations instead, such as --wait=6".to_owned(),
    }
    .into())
}

/// The height of an approved or a final block, and how far behind the tip it is.
pub(crate) fn height_and_lag(height: u64, lag: u64) -> String {
    match lag {
        0 => format!("{height} (the tip)"),
        _ => format!("{height} ({} behind the tip)", counted(lag, "block")),
    }
}

/// How far a block is secured, in a word; `None` where that means nothing.
pub(crate) fn word(finality: v1::Finality) -> Option<&'static str> {
    match finality {
        v1::Finality::Unspecified => None,
        v1::Finality::Pending => Some("pending"),
        v1::Finality::Approved => Some("approved"),
        v1::Finality::Final => Some("final"),
    }
}

/// An approval.
#[derive(Debug, Serialize)]
pub(crate) struct ApprovalJson {
    validator: String,
    source_height: u64,
    source_hash: String,
    target_height: u64,
    target_hash: String,
    signature_hex: String,
}

impl From<&v1::Approval> for ApprovalJson {
    fn from(approval: &v1::Approval) -> Self {
        Self {
            validator: approval.validator.clone(),
            source_height: approval.source_height,
            source_hash: approval.source_hash.clone(),
            target_height: approval.target_height,
            target_hash: approval.target_hash.clone(),
            signature_hex: hex::encode(&approval.signature),
        }
    }
}
