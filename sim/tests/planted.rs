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
