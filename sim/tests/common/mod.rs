//! What the simulation's tests share.

#![allow(dead_code, clippy::unwrap_used)]

use std::time::{SystemTime, UNIX_EPOCH};

use pithead_sim::{Report, RunError, Scenario, Settings, Violation, run};

/// All kinds of weather.
pub(crate) const ALL: [Scenario; 4] = [
    Scenario::Calm,
    Scenario::Rough,
    Scenario::Partition,
    Scenario::Storm,
];

/// Runs it; how to see it again stands in the output before it starts, so that even
/// a run without end or a killed one can be repeated.
pub(crate) fn check(settings: Settings) -> Report {
    eprintln!("{}", settings.command());
    match run(settings) {
        Ok(report) => report,
        Err(error) => panic!("{error}"),
    }
}

/// The fault that the first of some seeds finds.
pub(crate) fn found(
    seeds: impl IntoIterator<Item = u64>,
    of: impl Fn(u64) -> Settings,
) -> Violation {
    for seed in seeds {
        let settings = of(seed);
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

/// A seed that nobody has tried.
pub(crate) fn fresh() -> u64 {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(clock.as_micros()).unwrap()
}
