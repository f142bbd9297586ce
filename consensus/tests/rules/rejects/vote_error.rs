//! Votes that a validator must not sign.

use pithead_consensus::approval::ApprovalError;
use pithead_consensus::approval::vote::{VoteContext, VoteError, VoteFloor, check_vote};
use pithead_consensus::{Approval, BlockHash, Checkpoint, Height, Link, VoteRecord};

use pithead_testkit::{checkpoint, key, link};

/// The chain of branch 0 up to height 100; final at 10, approved at 20.
const CONTEXT_INTERVAL: u32 = 10;

fn context() -> VoteContext {
    VoteContext {
        checkpoint_interval: CONTEXT_INTERVAL,
        last_final: checkpoint(10, 0),
        highest_approved: checkpoint(20, 0),
    }
}

fn best_chain(height: Height) -> Option<BlockHash> {
    (height.0 <= 100).then(|| checkpoint(height.0, 0).hash)
}

fn record(links: &[(u64, u64)]) -> VoteRecord {
    let mut record = VoteRecord::default();
    for (source, target) in links {
        record.record(link(*source, *target)).unwrap();
    }
    record
}

fn vote(context: &VoteContext, record: &VoteRecord, link: Link) -> Result<(), VoteError> {
    let approval = Approval {
        validator: key(0).address,
        link,
    };
    check_vote(context, record, &approval, best_chain)
}

#[test]
fn rejects_form() {
    let error = VoteError::Form(ApprovalError::SourceNotBelowTarget {
        source_height: Height(20),
        target_height: Height(20),
    });
    assert_eq!(vote(&context(), &record(&[]), link(20, 20)), Err(error));
}

#[test]
fn rejects_target_height_twice() {
    let record = record(&[(10, 30)]);
    let error = VoteError::TargetHeightTwice {
        earlier: link(10, 30),
    };
    assert_eq!(vote(&context(), &record, link(20, 30)), Err(error.clone()));
    // A vote for another block of that height is refused, too.
    let mut other = link(10, 30);
    other.target = checkpoint(30, 1);
    assert_eq!(record.check(&other), Err(error));
    // The same vote may be signed again.
    assert_eq!(record.check(&link(10, 30)), Ok(()));
}

#[test]
fn rejects_surrounds_earlier() {
    let record = record(&[(30, 40)]);
    let error = VoteError::SurroundsEarlier {
        earlier: link(30, 40),
    };
    assert_eq!(vote(&context(), &record, link(20, 50)), Err(error));
}

#[test]
fn rejects_surrounded_by_earlier() {
    let record = record(&[(10, 50)]);
    let error = VoteError::SurroundedByEarlier {
        earlier: link(10, 50),
    };
    assert_eq!(vote(&context(), &record, link(20, 40)), Err(error));
}

#[test]
fn rejects_not_above_floor() {
    let mut record = record(&[(10, 20), (20, 40), (40, 50)]);
    record.keep_highest(1);
    let floor = VoteFloor {
        source: Height(20),
        target: Height(40),
    };
    let error = VoteError::NotAboveFloor { floor };
    // A vote that was cast is refused as well, because its hashes are forgotten.
    for (source, target) in [(20, 40), (20, 30), (10, 60)] {
        let vote = link(source, target);
        assert_eq!(record.check(&vote), Err(error.clone()), "{source} {target}");
    }
    assert_eq!(vote(&context(), &record, link(20, 30)), Err(error));
    assert_eq!(record.check(&link(40, 50)), Ok(()));
    assert_eq!(record.check(&link(50, 60)), Ok(()));
}

#[test]
fn rejects_target_not_on_best_chain() {
    for target in [checkpoint(30, 1), checkpoint(110, 0)] {
        let error = VoteError::TargetNotOnBestChain { target };
        let link = Link {
            source: checkpoint(20, 0),
            target,
        };
        assert_eq!(vote(&context(), &record(&[]), link), Err(error));
    }
}

#[test]
fn rejects_target_not_above_final() {
    let refused = |last_final: Checkpoint| {
        let context = VoteContext {
            last_final,
            ..context()
        };
        let error = VoteError::TargetNotAboveFinal { last_final };
        assert_eq!(vote(&context, &record(&[]), link(20, 30)), Err(error));
    };
    refused(checkpoint(10, 1));
    refused(checkpoint(30, 0));
    refused(checkpoint(40, 0));
}

#[test]
fn rejects_wrong_source() {
    let error = VoteError::WrongSource {
        found: checkpoint(10, 0),
        expected: checkpoint(20, 0),
    };
    assert_eq!(vote(&context(), &record(&[]), link(10, 30)), Err(error));
    assert_eq!(vote(&context(), &record(&[]), link(20, 30)), Ok(()));
}

#[test]
fn rejects_source_not_ancestor() {
    let source = checkpoint(20, 1);
    let context = VoteContext {
        highest_approved: source,
        ..context()
    };
    let error = VoteError::SourceNotAncestor {
        source_checkpoint: source,
    };
    let link = Link {
        source,
        target: checkpoint(30, 0),
    };
    assert_eq!(vote(&context, &record(&[]), link), Err(error));
}
