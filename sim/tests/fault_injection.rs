//! The simulation finds faults that are injected into the node's own code. Nothing tells it which
//! fault is there:
//!
//! | Fault | Scenario | Found by |
//! |---|---|---|
//! | the state root is not compared | rough, seeds 1 to 5 | the oracle, at a forged block |
//! | rule 2 of protocol §9 is left out | partition, seeds 41 to 340 | the check of single votes |
//! | a forged copy of a payment counts as verified | rough, seeds 1 to 20 | the oracle, at a block with the copy |
//! | an approved checkpoint is followed at any depth | late votes, seeds 1 to 4 | the limit of late votes |
//! | waiting blocks are tried again at each tick | rough, seeds 1 to 10 | the budget of reads, after a flood |
//!
//! It needs a build with the feature `fault-injection`. Faults around the node are tested
//! in `simulation`.

mod support;

use pithead_sim::{AdversaryKind, InjectedFault, Scenario, SimSettings};
use support::find_violation;

#[test]
fn skipping_the_state_root_is_found() {
    let found = find_violation(1..=5, |seed| SimSettings {
        fault: Some(InjectedFault::SkipStateRoot),
        payments_per_hour: 240.0,
        miners: 4,
        ..SimSettings::new(seed, 12, 1_200, Scenario::Rough)
    });
    // A debug build of the node finds it by itself; otherwise the simulation does.
    let signs = ["oracle", "breaks a rule"];
    assert!(
        signs.iter().any(|sign| found.what.contains(sign)),
        "{found}"
    );
}

/// Liars send copies of pending payments with false signatures, and then a block with them. Nothing
/// tells the simulation which fault is there.
#[test]
fn trusting_a_copy_by_its_txid_is_found() {
    let found = find_violation(1..=20, |seed| SimSettings {
        fault: Some(InjectedFault::TrustCopies),
        payments_per_hour: 720.0,
        miners: 4,
        ..SimSettings::new(seed, 12, 1_200, Scenario::Rough)
    });
    let signs = ["oracle", "breaks a rule"];
    assert!(
        signs.iter().any(|sign| found.what.contains(sign)),
        "{found}"
    );
    assert!(found.what.contains("signature"), "{found}");
}

/// A validator that starts again votes for the last checkpoints of its chain only. If that
/// chain loses to a shorter, approved one, only rule 2 forbids the validator to vote there.
#[test]
fn votes_that_surround_others_are_found() {
    let found = find_violation(41..=340, |seed| SimSettings {
        fault: Some(InjectedFault::AllowSurround),
        validators: 5,
        equivocators: 2,
        silent: 1,
        silence_secs: (0, 450),
        long_splits: true,
        checkpoint_interval: 2,
        miners: 4,
        payments_per_hour: 10.0,
        ..SimSettings::new(seed, 7, 900, Scenario::Partition)
    });
    assert!(found.what.contains("rule 2"), "{found}");
}

#[test]
fn following_an_approval_at_any_depth_is_found() {
    let found = find_violation(1..=4, |seed| SimSettings {
        fault: Some(InjectedFault::FollowAnyApproval),
        ..SimSettings::attacked(seed, AdversaryKind::LateVotes)
    });
    assert!(found.what.contains("late votes undo"), "{found}");
}

#[test]
fn trying_waiting_blocks_at_each_tick_is_found() {
    let found = find_violation(1..=10, |seed| SimSettings {
        fault: Some(InjectedFault::RetryAllWaiting),
        payments_per_hour: 240.0,
        miners: 4,
        ..SimSettings::new(seed, 12, 1_200, Scenario::Rough)
    });
    assert!(found.what.contains("reads"), "{found}");
}
