//! How far the validators' approvals secure a chain (protocol §9), in words and
//! in JSON: what `chain`, `block`, `validators` and the devnet have in common.

use pithead_api::v1;
use pithead_client::FinalityProgress;
use serde::Serialize;

use super::words::counted;

/// The progress of finality as a sentence.
pub(crate) fn progress_sentence(
    progress: FinalityProgress,
    info: &v1::GetChainInfoResponse,
) -> String {
    match progress {
        FinalityProgress::NoValidators => {
            "none: this network has no validators, blocks are only buried under more work"
                .to_owned()
        }
        FinalityProgress::Advancing => "advancing".to_owned(),
        FinalityProgress::Waiting => format!(
            "waiting for approvals: {} since the last approved checkpoint, and {} needed for the next",
            counted(info.approved_lag, "block"),
            match info.parameters.unwrap_or_default().approval_quorum {
                1 => "1 approval is".to_owned(),
                count => format!("{count} approvals are"),
            }
        ),
        FinalityProgress::Stopped => {
            "stopped: two certificates conflict (see `pithead evidence`); the chain goes on by proof of work"
                .to_owned()
        }
    }
}

/// The height of an approved or a final block, and how far behind the tip it is.
pub(crate) fn height_and_lag(height: u64, lag: u64) -> String {
    match lag {
        0 => format!("{height} (the tip)"),
        _ => format!("{height} ({} behind the tip)", counted(lag, "block")),
    }
}

/// How far a block is secured, in one word; `None` for a block off the best chain
/// and on a network without validators.
pub(crate) fn word(finality: v1::Finality) -> Option<&'static str> {
    match finality {
        v1::Finality::Unspecified => None,
        v1::Finality::Pending => Some("pending"),
        v1::Finality::Approved => Some("approved"),
        v1::Finality::Final => Some("final"),
    }
}

/// How far a chain is approved and final, as fields of a larger JSON object.
#[derive(Debug, Serialize)]
pub(crate) struct FinalityJson {
    approved_height: u64,
    approved_hash: String,
    approved_lag: u64,
    final_height: u64,
    final_hash: String,
    final_lag: u64,
    finality_conflict: bool,
}

impl From<&v1::GetChainInfoResponse> for FinalityJson {
    fn from(info: &v1::GetChainInfoResponse) -> Self {
        Self {
            approved_height: info.approved_height,
            approved_hash: info.approved_hash.clone(),
            approved_lag: info.approved_lag,
            final_height: info.final_height,
            final_hash: info.final_hash.clone(),
            final_lag: info.final_lag,
            finality_conflict: info.finality_conflict,
        }
    }
}

/// A validator's approval of a checkpoint.
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
