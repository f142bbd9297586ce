//! Certificates that can't count yet.

use pithead_consensus::approval::finality::FinalityError;
use pithead_consensus::{Finality, Link};

use pithead_testkit::{checkpoint, link};

#[test]
fn rejects_source_not_approved() {
    let mut finality = Finality::new(10, checkpoint(0, 0));
    let error = |height, branch| FinalityError::SourceNotApproved {
        source_checkpoint: checkpoint(height, branch),
    };
    assert_eq!(finality.accept(link(10, 20)), Err(error(10, 0)));
    finality.accept(link(0, 10)).unwrap();
    assert!(finality.accept(link(10, 20)).is_ok());
    // The approved block at that height is another one.
    let other = Link {
        source: checkpoint(20, 1),
        target: checkpoint(30, 1),
    };
    assert_eq!(finality.accept(other), Err(error(20, 1)));
}
