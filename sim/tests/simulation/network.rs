//! Networks without validators: fixed and fresh seeds keep all rules, a seed decides a run,
//! and injected faults are found.

use pithead_sim::{InjectedFault, Report, Scenario, SimSettings, Violation};

use crate::support::{SCENARIOS, check, find_violation, fresh_seed};

/// A small network in which payments and reorganisations come often.
fn small(seed: u64, scenario: Scenario) -> SimSettings {
    let nodes = 10 + (seed % 4) as usize * 2;
    SimSettings {
        payments_per_hour: 240.0,
        miners: 4,
        ..SimSettings::new(seed, nodes, 1_200, scenario)
    }
}

#[test]
fn fixed_seeds_hold() {
    let reports: Vec<Report> = (1..=4)
        .flat_map(|seed| SCENARIOS.map(|scenario| check(small(seed, scenario))))
        .collect();
    // Without trouble the checks would show nothing.
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
    let first = fresh_seed();
    for number in 0..20 {
        let scenario = SCENARIOS[number as usize % SCENARIOS.len()];
        check(SimSettings {
            secs: 600,
            ..small(first + number, scenario)
        });
    }
}

/// Nobody bans anybody because of a wrong clock, and each node heals when its clock does: every run
/// checks both.
#[test]
fn clocks_that_jump_and_nodes_that_pause_or_leave_hold() {
    let first = fresh_seed();
    let seeds = (1..=4).chain(first..first + 2);
    let reports: Vec<Report> = seeds
        .map(|seed| check(small(seed, Scenario::Clocks)))
        .collect();
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    assert!(sum(|report| report.clock_jumps) > 0);
    assert!(sum(|report| report.pauses) > 0);
    assert!(sum(|report| report.left) > 0);
}

#[test]
fn same_settings_run_the_same_way() {
    let storm = |seed| {
        check(SimSettings {
            secs: 600,
            ..small(seed, Scenario::Storm)
        })
    };
    let (first, second) = (storm(7), storm(7));
    assert_eq!(first.digest, second.digest);
    assert_eq!(first, second);
    assert_ne!(first.digest, storm(8).digest);
}

/// The violation by which the simulation finds a fault. One of five seeds must find it.
fn find_fault(fault: InjectedFault, scenario: Scenario) -> Violation {
    find_violation(1..=5, |seed| SimSettings {
        fault: Some(fault),
        ..small(seed, scenario)
    })
}

#[test]
fn forwarding_before_the_verdict_is_found() {
    let found = find_fault(InjectedFault::ForwardUnjudged, Scenario::Rough);
    assert!(found.what.contains("banned"), "{found}");
}

#[test]
fn torn_commits_are_found() {
    let found = find_fault(InjectedFault::TornCommit, Scenario::Rough);
    assert!(found.what.contains("invalid block"), "{found}");
}

#[test]
fn reorganisations_that_keep_what_they_undo_are_found() {
    let found = find_fault(InjectedFault::KeepUndone, Scenario::Partition);
    // The accounts that are wrong show in the state or, before that, in a template.
    let signs = ["balance", "state", "sequence"];
    assert!(
        signs.iter().any(|sign| found.what.contains(sign)),
        "{found}"
    );
}
