//! Rules 1 and 2 of protocol §9, on plain numbers: the simulation compares all votes by
//! them.
//!
//! They are written from the text of the protocol. They must not use the node's own
//! check of votes, since a fault there would go unnoticed. Start reading at
//! [`broken_rule`].

use pithead_consensus::{Checkpoint, Link};

/// The rule that two votes of one validator break together; `None` if they break none,
/// or if they are the same vote.
///
/// For example, with votes written as source height → target height:
/// 1. 0 → 4 and 2 → 4 break rule 1: both have target height 4.
/// 2. 0 → 8 and 2 → 4 break rule 2: the first surrounds the second.
/// 3. 0 → 4 and 2 → 6 break no rule: they overlap, but neither surrounds the other.
pub(crate) fn broken_rule(first: &Link, second: &Link) -> Option<&'static str> {
    let [(from, to), (other_from, other_to)] =
        [first, second].map(|vote| (height_and_hash(&vote.source), height_and_hash(&vote.target)));
    if (from, to) == (other_from, other_to) {
        return None;
    }
    // "(1) never signs two approvals with one target height"
    if to.0 == other_to.0 {
        return Some("rule 1, two votes with one target height");
    }
    // "(2) never signs one that surrounds, or is surrounded by, an earlier one"
    let outside = from.0 < other_from.0 && to.0 > other_to.0;
    let inside = from.0 > other_from.0 && to.0 < other_to.0;
    (outside || inside).then_some("rule 2, one vote surrounds the other")
}

fn height_and_hash(checkpoint: &Checkpoint) -> (u64, [u8; 32]) {
    (checkpoint.height.0, checkpoint.hash.0)
}

/// A vote as text: height and short hash of its source and of its target.
pub(crate) fn describe_vote(vote: &Link) -> String {
    let ends = [&vote.source, &vote.target].map(|end| {
        let hash = hex::encode(&end.hash.0[..4]);
        format!("{}/{hash}", end.height.0)
    });
    ends.join(" → ")
}

#[cfg(test)]
mod tests {
    use pithead_consensus::{BlockHash, Checkpoint, Height, Link};

    use super::broken_rule;

    fn vote(source: u64, target: u64, branch: u8) -> Link {
        let at = |height, branch| Checkpoint {
            height: Height(height),
            hash: BlockHash([branch; 32]),
        };
        Link {
            source: at(source, 0),
            target: at(target, branch),
        }
    }

    #[test]
    fn pairs_are_judged_by_the_words_of_the_protocol() {
        let found = |a, b| broken_rule(&a, &b).map(|rule| &rule[..6]);
        assert_eq!(found(vote(0, 2, 1), vote(0, 2, 1)), None);
        assert_eq!(found(vote(0, 2, 1), vote(0, 2, 2)), Some("rule 1"));
        assert_eq!(found(vote(0, 4, 1), vote(2, 4, 1)), Some("rule 1"));
        assert_eq!(found(vote(0, 8, 1), vote(2, 4, 1)), Some("rule 2"));
        assert_eq!(found(vote(2, 4, 1), vote(0, 8, 2)), Some("rule 2"));
        // Consecutive votes, overlapping votes, and votes with one source.
        assert_eq!(found(vote(0, 2, 1), vote(2, 4, 1)), None);
        assert_eq!(found(vote(0, 4, 1), vote(2, 6, 1)), None);
        assert_eq!(found(vote(0, 4, 1), vote(0, 2, 1)), None);
    }
}
