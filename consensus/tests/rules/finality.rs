//! Which checkpoints certificates approve and make final, and what a conflict stops.

use std::collections::BTreeMap;

use pithead_consensus::approval::finality::{
    NoLinks, Outcome, certificates_conflict, finalised_by,
};
use pithead_consensus::{Finality, Height, Link};

use pithead_testkit::{checkpoint, link};

#[test]
fn a_checkpoint_is_final_when_the_next_one_builds_on_it() {
    let mut finality = Finality::new(10, checkpoint(0, 0));
    assert_eq!(finality.last_final(), checkpoint(0, 0));
    assert_eq!(finality.highest_approved(), checkpoint(0, 0));
    assert!(finality.is_approved(&NoLinks, &checkpoint(0, 0)));

    // The genesis is final already, so its successor makes nothing new final.
    assert_eq!(finality.accept(link(0, 10)), Ok(Outcome::Approved));
    assert_eq!(finality.accept(link(0, 10)), Ok(Outcome::Known));
    assert_eq!(finality.accept(link(10, 20)), Ok(Outcome::Final));
    assert_eq!(finality.last_final(), checkpoint(10, 0));
    // 30 is skipped: 20 is not made final by 40, nor later.
    assert_eq!(finality.accept(link(20, 40)), Ok(Outcome::Approved));
    assert_eq!(finality.last_final(), checkpoint(10, 0));
    assert_eq!(finality.highest_approved(), checkpoint(40, 0));
    assert_eq!(finality.accept(link(40, 50)), Ok(Outcome::Final));
    assert_eq!(finality.last_final(), checkpoint(40, 0));
    assert!(finality.is_approved(&NoLinks, &checkpoint(20, 0)));
    assert!(!finality.is_approved(&NoLinks, &checkpoint(30, 0)));
    assert!(!finality.is_approved(&NoLinks, &checkpoint(40, 1)));
    assert_eq!(finality.conflict(), None);
}

#[test]
fn only_the_next_checkpoint_makes_final() {
    assert_eq!(finalised_by(10, &link(20, 30)), Some(checkpoint(20, 0)));
    assert_eq!(finalised_by(10, &link(20, 40)), None);
    assert_eq!(finalised_by(10, &link(0, 10)), Some(checkpoint(0, 0)));
    assert_eq!(finalised_by(10, &link(u64::MAX, 5)), None);
}

#[test]
fn what_is_final_is_known_at_every_height() {
    let mut finality = Finality::new(10, checkpoint(0, 0));
    let fork = |height| checkpoint(height, 1);
    for link in [
        link(0, 10),
        // A checkpoint of another branch, which the validators then left.
        Link {
            source: checkpoint(10, 0),
            target: fork(20),
        },
        link(10, 30),
        link(30, 40),
        link(40, 60),
        link(60, 70),
    ] {
        finality.accept(link).unwrap();
    }
    assert_eq!(finality.last_final(), checkpoint(60, 0));
    for (height, last) in [
        (0, 0),
        (9, 0),
        (10, 10),
        (29, 10),
        (30, 30),
        (45, 40),
        (59, 40),
        (60, 60),
        (999, 60),
    ] {
        let found = finality.final_at(&NoLinks, Height(height));
        assert_eq!(found, checkpoint(last, 0), "at {height}");
    }
    // A late certificate, for a checkpoint that was passed over.
    finality
        .accept(Link {
            source: checkpoint(40, 0),
            target: checkpoint(50, 2),
        })
        .unwrap();
    assert_eq!(finality.final_at(&NoLinks, Height(59)), checkpoint(40, 0));
}

#[test]
fn conflicting_certificates_stop_finality() {
    let mut finality = Finality::new(10, checkpoint(0, 0));
    finality.accept(link(0, 10)).unwrap();
    finality.accept(link(10, 20)).unwrap();
    let other = Link {
        source: checkpoint(10, 0),
        target: checkpoint(20, 1),
    };
    assert!(certificates_conflict(&link(10, 20), &other));
    let conflict = Outcome::Conflict {
        earlier: link(10, 20),
    };
    assert_eq!(finality.accept(other), Ok(conflict));
    assert_eq!(finality.conflict(), Some((link(10, 20), other)));
    // Nothing is undone, and nothing more becomes approved or final.
    assert_eq!(finality.last_final(), checkpoint(10, 0));
    assert_eq!(finality.highest_approved(), checkpoint(20, 0));
    assert_eq!(finality.accept(link(20, 30)), Ok(conflict));
    assert_eq!(finality.last_final(), checkpoint(10, 0));
    assert_eq!(finality.accept(link(10, 20)), Ok(Outcome::Known));
}

#[test]
fn a_link_is_judged_after_those_that_are_not_taken_in_yet() {
    let mut finality = Finality::new(10, checkpoint(0, 0));
    let mut before = BTreeMap::new();
    assert!(finality.check(&NoLinks, &before, &link(10, 20)).is_err());
    before.insert(link(0, 10).target.height, link(0, 10));
    assert_eq!(
        finality.check(&NoLinks, &before, &link(0, 10)),
        Ok(Outcome::Known)
    );
    assert_eq!(
        finality.check(&NoLinks, &before, &link(10, 20)),
        Ok(Outcome::Final)
    );
    let other = Link {
        target: checkpoint(10, 1),
        ..link(0, 10)
    };
    let conflict = Outcome::Conflict {
        earlier: link(0, 10),
    };
    assert_eq!(finality.check(&NoLinks, &before, &other), Ok(conflict));
    assert_eq!(finality.links().count(), 0, "nothing was taken in");
    finality.accept(link(0, 10)).unwrap();
    assert_eq!(
        finality.check(&NoLinks, &BTreeMap::new(), &other),
        Ok(conflict)
    );
}
