//! Evidence that proves nothing.

use pithead_consensus::approval::ApprovalError;
use pithead_consensus::approval::evidence::EvidenceError;
use pithead_consensus::{Decode, Encode, Evidence};

use super::approval_error::validators;
use pithead_testkit::{key, link};

#[test]
fn rejects_approval() {
    let validators = validators();
    let genesis = validators.genesis().hash;
    // A real approval next to a forged one would frame an honest validator.
    let real = key(0).approve(&genesis, link(0, 20));
    let mut forged = key(1).approve(&genesis, link(10, 20));
    forged.approval.validator = key(0).address;
    let (evidence, _) = Evidence::of(&real, &forged).unwrap();
    let error = EvidenceError::Approval(ApprovalError::BadSignature {
        validator: key(0).address,
    });
    assert_eq!(evidence.check(&validators), Err(error));
}

#[test]
fn rejects_no_offence() {
    let validators = validators();
    let genesis = validators.genesis().hash;
    let first = key(0).approve(&genesis, link(0, 10));
    let again = key(0).approve(&genesis, link(0, 10));
    let next = key(0).approve(&genesis, link(10, 20));
    let others = key(1).approve(&genesis, link(0, 20));
    for second in [&first, &again, &next, &others] {
        assert_eq!(Evidence::of(&first, second), None);
        // Evidence that was decoded is checked, too.
        let bytes = [first.encode(), second.encode()].concat();
        let claimed = Evidence::decode(&bytes).unwrap();
        let error = EvidenceError::NoOffence {
            validator: key(0).address,
        };
        assert_eq!(claimed.check(&validators), Err(error));
    }
}
