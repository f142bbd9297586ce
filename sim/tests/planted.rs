//! Faults planted in the node itself, which the simulation has to find. Needs a
//! build with `--features planted`.

mod common;

use common::found;
use pithead_sim::{Plant, Scenario, Settings};

#[test]
fn skipping_the_state_root_is_found() {
    let found = found(1..=5, |seed| Settings {
        plant: Some(Plant::SkipStateRoot),
        payments_per_hour: 240.0,
        miners: 4,
        ..Settings::new(seed, 12, 1_200, Scenario::Rough)
    });
    assert!(found.what.contains("breaks a rule"), "{found}");
}

/// A validator that comes back votes for the last checkpoints of its chain and not for
/// those before. If that chain loses to a shorter one that is approved, only rule 2
/// forbids it to vote there.
#[test]
fn votes_that_surround_others_are_found() {
    let found = found(41..=340, |seed| Settings {
        plant: Some(Plant::AllowSurround),
        validators: 5,
        equivocators: 2,
        silent: 1,
        silence_secs: (0, 450),
        long_splits: true,
        checkpoint_interval: 2,
        miners: 4,
        payments_per_hour: 10.0,
        ..Settings::new(seed, 7, 900, Scenario::Partition)
    });
    assert!(found.what.contains("rule 2"), "{found}");
}
