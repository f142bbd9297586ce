//! What a node can answer to a solution, and what each answer means for the
//! person who mines.

use pithead_api::v1::SubmitOutcome;

/// Which of the counts on the live line an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A new tip.
    Block,
    /// A share.
    Share,
    /// Right, but too late.
    Stale,
    /// Wrong, or refused.
    Rejected,
}

/// Every answer that can be counted, in the order of the protocol's numbers.
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

/// The answer in a message. A number that this miner does not know, from a
/// newer node, counts as `Unspecified`.
#[must_use]
pub fn from_number(number: i32) -> SubmitOutcome {
    SubmitOutcome::try_from(number).unwrap_or(SubmitOutcome::Unspecified)
}

/// What the answer counts as.
#[must_use]
pub fn kind(outcome: SubmitOutcome) -> Kind {
    match outcome {
        SubmitOutcome::AcceptedBlock => Kind::Block,
        SubmitOutcome::AcceptedShare => Kind::Share,
        SubmitOutcome::AcceptedSide | SubmitOutcome::StaleWork | SubmitOutcome::UnknownWork => {
            Kind::Stale
        }
        SubmitOutcome::Unspecified
        | SubmitOutcome::Duplicate
        | SubmitOutcome::HighHash
        | SubmitOutcome::BadTime
        | SubmitOutcome::Invalid
        | SubmitOutcome::NotSynced => Kind::Rejected,
    }
}

/// The name under which it is counted.
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

/// What it means, for the log.
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
        // The list is complete: the number after it is unknown.
        let next = i32::try_from(OUTCOMES.len()).unwrap();
        assert!(SubmitOutcome::try_from(next).is_err());
        assert_eq!(from_number(next), SubmitOutcome::Unspecified);
    }
}
