//! The simulation as a test: fixed seeds, fresh seeds, and faults that it has to
//! find.

mod common;

use common::{ALL, check, fresh};
use pithead_sim::{Plant, Report, Scenario, Settings, Violation};

/// A small network in trouble: everything happens more often than on a day.
fn small(seed: u64, scenario: Scenario) -> Settings {
    let nodes = 10 + (seed % 4) as usize * 2;
    Settings {
        payments_per_hour: 240.0,
        miners: 4,
        ..Settings::new(seed, nodes, 1_200, scenario)
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
    let first = fresh();
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
        check(Settings {
            secs: 600,
            ..small(seed, Scenario::Storm)
        })
    };
    let (first, second) = (storm(7), storm(7));
    assert_eq!(first.digest, second.digest);
    assert_eq!(first, second);
    assert_ne!(first.digest, storm(8).digest);
}

/// What the simulation says of a fault; each of a few seeds has to suffice.
fn found(plant: Plant, scenario: Scenario) -> Violation {
    common::found(1..=5, |seed| Settings {
        plant: Some(plant),
        ..small(seed, scenario)
    })
}

#[test]
fn forwarding_before_the_verdict_is_found() {
    let found = found(Plant::ForwardUnjudged, Scenario::Rough);
    assert!(found.what.contains("banned"), "{found}");
}

#[test]
fn torn_commits_are_found() {
    let found = found(Plant::TornCommit, Scenario::Rough);
    assert!(found.what.contains("invalid block"), "{found}");
}

#[test]
fn reorganisations_that_keep_what_they_undo_are_found() {
    let found = found(Plant::KeepUndone, Scenario::Partition);
    let what = &found.what;
    assert!(
        what.contains("balance") || what.contains("state"),
        "{found}"
    );
}
