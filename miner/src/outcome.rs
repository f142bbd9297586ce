//! The answers that a node gives to a solution: how each is counted, named and
//! explained to the person who mines. This file makes no calls.

use pithead_api::v1::SubmitOutcome;

/// The count on the live line that an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    /// The block became the node's tip.
    Block,
    /// The node accepted the share.
    Share,
    /// The solution was valid, but another one or a newer tip came first.
    Stale,
    /// The node found the solution wrong, or refused to judge it.
    Rejected,
}

/// Every answer that is counted, in the order of its number in the protocol.
pub const OUTCOMES: [SubmitOutcome; 11] = [
    SubmitOutcome::Unspecified,
    SubmitOutcome::AcceptedBlock,
    SubmitOutcome::AcceptedSide,
    SubmitOutcome::AcceptedShare,
    SubmitOutcome::StaleWork,
    SubmitOutcome::UnknownWork,
    SubmitOutcome::Duplicate,
    SubmitOutcome::HighHash,
    SubmitOutcome::BadTime,
    SubmitOutcome::Invalid,
    SubmitOutcome::NotSynced,
];

/// Reads the answer in a message. A newer node may send a number that this miner
/// does not know; it counts as `Unspecified`.
#[must_use]
pub fn from_number(number: i32) -> SubmitOutcome {
    SubmitOutcome::try_from(number).unwrap_or(SubmitOutcome::Unspecified)
}

/// The count that the answer belongs to.
#[must_use]
pub fn kind(outcome: SubmitOutcome) -> AnswerKind {
    match outcome {
        SubmitOutcome::AcceptedBlock => AnswerKind::Block,
        SubmitOutcome::AcceptedShare => AnswerKind::Share,
        SubmitOutcome::AcceptedSide | SubmitOutcome::StaleWork | SubmitOutcome::UnknownWork => {
            AnswerKind::Stale
        }
        SubmitOutcome::Unspecified
        | SubmitOutcome::Duplicate
        | SubmitOutcome::HighHash
        | SubmitOutcome::BadTime
        | SubmitOutcome::Invalid
        | SubmitOutcome::NotSynced => AnswerKind::Rejected,
    }
}

/// The name of the answer in the summary and in traces.
#[must_use]
pub fn name(outcome: SubmitOutcome) -> &'static str {
    match outcome {
        SubmitOutcome::Unspecified => "unspecified",
        SubmitOutcome::AcceptedBlock => "accepted_block",
        SubmitOutcome::AcceptedSide => "accepted_side",
        SubmitOutcome::AcceptedShare => "accepted_share",
        SubmitOutcome::StaleWork => "stale_work",
        SubmitOutcome::UnknownWork => "unknown_work",
        SubmitOutcome::Duplicate => "duplicate",
        SubmitOutcome::HighHash => "high_hash",
        SubmitOutcome::BadTime => "bad_time",
        SubmitOutcome::Invalid => "invalid",
        SubmitOutcome::NotSynced => "not_synced",
    }
}

/// The meaning of the answer, for the log and the summary.
#[must_use]
pub fn explain(outcome: SubmitOutcome) -> &'static str {
    match outcome {
        SubmitOutcome::Unspecified => "the node's answer is not one that this miner knows",
        SubmitOutcome::AcceptedBlock => "block found: it is the new tip",
        SubmitOutcome::AcceptedSide => "valid block, but another was first: it pays nothing",
        SubmitOutcome::AcceptedShare => "share accepted",
        SubmitOutcome::StaleWork => "share too late: a newer tip has replaced its work",
        SubmitOutcome::UnknownWork => {
            "the node does not know this work: too old, or from before the node's restart"
        }
        SubmitOutcome::Duplicate => "this solution was handed in before",
        SubmitOutcome::HighHash => "the node finds the hash above the target",
        SubmitOutcome::BadTime => "the node finds the header's time out of range",
        SubmitOutcome::Invalid => "the solution breaks a rule",
        SubmitOutcome::NotSynced => "the node is syncing and can't judge the solution",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_listed_at_its_number_and_named_after_it() {
        for (index, outcome) in OUTCOMES.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
            let upper = name(outcome).to_uppercase();
            assert_eq!(outcome.as_str_name(), format!("SUBMIT_OUTCOME_{upper}"));
        }
        // The list is complete, because the next number is unknown.
        let next = i32::try_from(OUTCOMES.len()).unwrap();
        assert!(SubmitOutcome::try_from(next).is_err());
        assert_eq!(from_number(next), SubmitOutcome::Unspecified);
    }
}
