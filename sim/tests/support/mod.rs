//! How the tests run networks and expect violations.
//!
//! Both test programs include this module, and each uses a part of it.

#![allow(dead_code, reason = "each test program uses a part of this module")]

use std::time::{SystemTime, UNIX_EPOCH};

use pithead_sim::{Report, RunError, Scenario, SimSettings, Violation, run};

/// All scenarios, from calm to storm.
pub(crate) const SCENARIOS: [Scenario; 4] = [
    Scenario::Calm,
    Scenario::Rough,
    Scenario::Partition,
    Scenario::Storm,
];

/// Runs a network that must keep all rules. Its command is printed before, so that even a
/// run that hangs or is killed can be repeated.
pub(crate) fn check(settings: SimSettings) -> Report {
    eprintln!("{}", settings.command());
    match run(settings) {
        Ok(report) => report,
        Err(error) => panic!("{error}"),
    }
}

/// Runs seeds until one finds a violation, and returns that.
///
/// # Panics
/// If no seed finds one.
pub(crate) fn find_violation(
    seeds: impl IntoIterator<Item = u64>,
    settings_of: impl Fn(u64) -> SimSettings,
) -> Violation {
    for seed in seeds {
        let settings = settings_of(seed);
        eprintln!("{}", settings.command());
        match run(settings) {
            Ok(_) => {}
            Err(RunError::Violation(violation)) => {
                eprintln!("found: {violation}");
                return violation;
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("no seed finds it");
}

/// A new seed, taken from the clock.
pub(crate) fn fresh_seed() -> u64 {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = clock.expect("the clock is set to a time after 1970");
    u64::try_from(since.as_micros()).expect("that many microseconds fit for 500,000 years")
}
