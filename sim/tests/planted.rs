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

/// A split leaves the smaller part of the validators with the larger part of the
/// miners: their votes reach higher, from a source far below, than the chain that
/// they come back to.
#[test]
fn surround_votes_are_found() {
    let found = found(1..=40, |seed| Settings {
        plant: Some(Plant::AllowSurround),
        validators: 7,
        checkpoint_interval: 2,
        payments_per_hour: 30.0,
        miners: 4,
        long_splits: true,
        ..Settings::new(seed, 9, 1_200, Scenario::Storm)
    });
    assert!(found.what.contains("rule 2"), "{found}");
}
