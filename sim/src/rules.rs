//! Rules 1 and 2 of protocol §9 on plain numbers: what the simulation holds votes
//! against. Written from the text of the protocol and not from the node's code,
//! which may be wrong.

use pithead_consensus::{Checkpoint, Link};

/// Which rule two votes of one validator break together; `None`: neither, or they
/// are the same vote.
pub(crate) fn broken(first: &Link, second: &Link) -> Option<&'static str> {
    let [(from, to), (other_from, other_to)] =
        [first, second].map(|vote| (place(&vote.source), place(&vote.target)));
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

/// A checkpoint as a height and a hash.
fn place(checkpoint: &Checkpoint) -> (u64, [u8; 32]) {
    (checkpoint.height.0, checkpoint.hash.0)
}

/// A vote in words.
pub(crate) fn words(vote: &Link) -> String {
    let ends = [&vote.source, &vote.target].map(|end| {
        let hash = hex::encode(&end.hash.0[..4]);
        format!("{}/{hash}", end.height.0)
    });
    ends.join(" → ")
}

#[cfg(test)]
mod tests {
    use pithead_consensus::{BlockHash, Checkpoint, Height, Link};

    use super::broken;

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
        let found = |a, b| broken(&a, &b).map(|rule| &rule[..6]);
        assert_eq!(found(vote(0, 2, 1), vote(0, 2, 1)), None);
        assert_eq!(found(vote(0, 2, 1), vote(0, 2, 2)), Some("rule 1"));
        assert_eq!(found(vote(0, 4, 1), vote(2, 4, 1)), Some("rule 1"));
        assert_eq!(found(vote(0, 8, 1), vote(2, 4, 1)), Some("rule 2"));
        assert_eq!(found(vote(2, 4, 1), vote(0, 8, 2)), Some("rule 2"));
        // Side by side, one after the other, or with one end in common.
        assert_eq!(found(vote(0, 2, 1), vote(2, 4, 1)), None);
        assert_eq!(found(vote(0, 4, 1), vote(2, 6, 1)), None);
        assert_eq!(found(vote(0, 4, 1), vote(0, 2, 1)), None);
    }
}
