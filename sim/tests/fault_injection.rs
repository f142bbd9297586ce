//! The simulation finds faults that are injected into the node's own code.
//!
//! It needs a build with the feature `fault-injection`. Faults around the node are tested
//! in `simulation`.

mod support;

use pithead_sim::{InjectedFault, Scenario, SimSettings};
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
