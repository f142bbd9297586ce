//! The simulation as a test: fixed seeds, fresh seeds, and faults that it has to
//! find.

#![allow(clippy::unwrap_used)]

use std::time::{SystemTime, UNIX_EPOCH};

use pithead_sim::{Plant, Report, RunError, Scenario, Settings, run};

const ALL: [Scenario; 4] = [
    Scenario::Calm,
    Scenario::Rough,
    Scenario::Partition,
    Scenario::Storm,
];

/// A small network in trouble: everything happens more often than on a day.
fn small(seed: u64, scenario: Scenario) -> Settings {
    let nodes = 10 + (seed % 4) as usize * 2;
    Settings {
        payments_per_hour: 240.0,
        miners: 4,
        ..Settings::new(seed, nodes, 1_200, scenario)
    }
}

/// Runs it; a failure says how to see it again.
fn check(settings: Settings) -> Report {
    let again = format!(
        "cargo run -p pithead-sim --release -- --seed {} --nodes {} --hours {} --scenario {} \
         --miners {} --payments {}",
        settings.seed,
        settings.nodes,
        settings.secs as f64 / 3_600.0,
        settings.scenario.name(),
        settings.miners,
        settings.payments_per_hour,
    );
    match run(settings) {
        Ok(report) => report,
        Err(error) => panic!("{error}\nagain: {again}"),
    }
}

#[test]
fn fixed_seeds_hold() {
    let reports: Vec<Report> = (1..=4)
        .flat_map(|seed| ALL.map(|scenario| check(small(seed, scenario))))
        .collect();
    // The trouble has to come about, or the checks show nothing.
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    assert!(sum(|report| report.crashes) > 0);
    assert!(sum(|report| report.splits) > 0);
    assert!(sum(|report| report.bans) > 0);
    assert!(sum(|report| report.transactions) > 0);
    assert!(sum(|report| report.replays) > 0);
    let deep = |report: &Report| report.reorganisations.len() > 3;
    assert!(reports.iter().any(deep), "halves that mined for themselves");
    for report in &reports {
        let full = report.settings.secs / u64::from(report.settings.interval_secs);
        assert!(report.blocks_best > full / 3, "{report}");
        assert!(report.propagation.p50 > 0, "{report}");
    }
}

#[test]
fn fresh_seeds_hold() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = u64::try_from(clock.as_micros()).unwrap();
    for number in 0..20 {
        let scenario = ALL[number as usize % ALL.len()];
        check(Settings {
            secs: 600,
            ..small(first + number, scenario)
        });
    }
}

#[test]
fn same_settings_run_the_same_way() {
    let storm = |seed| {
        run(Settings {
            secs: 600,
            ..small(seed, Scenario::Storm)
        })
        .unwrap()
    };
    let (first, second) = (storm(7), storm(7));
    assert_eq!(first.digest, second.digest);
    assert_eq!(first, second);
    assert_ne!(first.digest, storm(8).digest);
}

/// What the simulation says of a fault; each of a few seeds has to suffice.
fn found(plant: Plant, scenario: Scenario) -> String {
    for seed in 1..=5 {
        let result = run(Settings {
            plant: Some(plant),
            ..small(seed, scenario)
        });
        match result {
            Ok(_) => {}
            Err(RunError::Violation(violation)) => return violation.what,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("{plant:?} is not found");
}

#[test]
fn forwarding_before_the_verdict_is_found() {
    let what = found(Plant::ForwardUnjudged, Scenario::Rough);
    assert!(what.contains("banned"), "{what}");
}

#[test]
fn torn_commits_are_found() {
    found(Plant::TornCommit, Scenario::Rough);
}

#[test]
fn reorganisations_that_keep_what_they_undo_are_found() {
    let what = found(Plant::KeepUndone, Scenario::Partition);
    assert!(what.contains("state") || what.contains("replay"), "{what}");
}

#[cfg(feature = "planted")]
#[test]
fn skipping_the_state_root_is_found() {
    let what = found(Plant::SkipStateRoot, Scenario::Rough);
    assert!(what.contains("breaks a rule"), "{what}");
}
