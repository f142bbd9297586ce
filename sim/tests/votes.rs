//! Finality in the simulation: validators that crash, lie, are silent or split,
//! over many seeds; and that rule 4 is what keeps them honest across crashes.

mod common;

use common::{ALL, check, found, fresh};
use pithead_sim::{Deceit, Moment, Plant, Report, Scenario, Settings};

/// As on the reference network: 20 of 25.
const VALIDATORS: usize = 25;
/// So many may lie, and no two certificates conflict.
const LIARS_MAX: usize = 14;
/// Blocks that what is final may be behind the tip: three checkpoints.
const LAG: u64 = 6;

/// A small network whose first nodes are validators.
fn voting(seed: u64, scenario: Scenario, validators: usize) -> Settings {
    Settings {
        validators,
        checkpoint_interval: 2,
        payments_per_hour: 30.0,
        miners: 4,
        ..Settings::new(seed, validators + 2, 600, scenario)
    }
}

#[test]
fn the_reference_network_finalises() {
    let report = check(voting(1, Scenario::Calm, VALIDATORS));
    assert!(report.height > 20, "{report}");
    assert!(report.final_height + LAG >= report.height, "{report}");
    assert_eq!(report.finality_conflicts, 0);
    assert!(report.votes_sent > 100, "rules 3 and 4 were looked at");
}

#[test]
fn fourteen_liars_of_twenty_five_make_no_conflict() {
    for (seed, scenario) in [(1, Scenario::Partition), (2, Scenario::Storm)] {
        let report = check(Settings {
            equivocators: LIARS_MAX,
            ..voting(seed, scenario, VALIDATORS)
        });
        // They have to contradict themselves, and honest nodes to notice.
        assert!(report.contradictions > 0, "{report}");
        assert!(report.pairs_met > 0, "{report}");
        assert_eq!(report.finality_conflicts, 0);
    }
}

/// Each run checks that whoever sees a conflict can name fifteen.
#[test]
fn fifteen_liars_are_named() {
    let mut conflicts = 0;
    for seed in 5..=12 {
        let report = check(Settings {
            equivocators: LIARS_MAX + 1,
            deceit: Some(Deceit::EveryBranch),
            ..voting(seed, Scenario::Partition, VALIDATORS)
        });
        conflicts += report.finality_conflicts;
    }
    // Some splits leave enough honest validators on both sides.
    assert!(conflicts > 0, "no conflict to be seen");
}

/// From when until when validators are silent.
const SILENCE_SECS: (u64, u64) = (150, 600);
/// Votes of those who fell silent that are still under way.
const FADES_SECS: u64 = 60;

fn with_silent(silent: usize) -> (Report, Moment, Moment) {
    let report = check(Settings {
        silent,
        silence_secs: SILENCE_SECS,
        secs: 750,
        ..voting(3, Scenario::Calm, VALIDATORS)
    });
    let moments = report.timeline.iter().copied();
    let mut quiet = moments
        .filter(|moment| (SILENCE_SECS.0 + FADES_SECS..SILENCE_SECS.1).contains(&moment.secs));
    let first = quiet.next().expect("the network was looked at");
    let last = quiet.next_back().expect("more than once");
    assert!(first.last_final > 0, "it worked before");
    (report, first, last)
}

#[test]
fn five_silent_validators_do_not_stop_finality() {
    let (_, first, last) = with_silent(5);
    assert!(
        last.last_final >= first.last_final + 8,
        "{first:?} {last:?}"
    );
    assert!(last.last_final + LAG >= last.height, "{last:?}");
}

#[test]
fn six_ten_and_all_silent_validators_let_finality_wait_and_no_longer() {
    for silent in [6, 10, VALIDATORS] {
        let (report, first, last) = with_silent(silent);
        assert!(last.height >= first.height + 15, "{first:?} {last:?}");
        assert_eq!(
            (first.approved, first.last_final),
            (last.approved, last.last_final),
            "{silent} silent"
        );
        assert!(report.final_height > last.height, "{report}");
        assert!(report.final_height + LAG >= report.height, "{report}");
    }
}

/// The reference network in short runs: up to fourteen liars, all kinds of weather,
/// splits of up to half of the time.
fn short(seed: u64) -> Settings {
    Settings {
        equivocators: (seed % (LIARS_MAX as u64 + 1)) as usize,
        long_splits: seed.is_multiple_of(2),
        secs: 240,
        ..voting(seed, ALL[(seed / 2 % 4) as usize], VALIDATORS)
    }
}

fn hold(seeds: impl Iterator<Item = u64>) {
    let reports: Vec<Report> = seeds.map(|seed| check(short(seed))).collect();
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    // The trouble has to come about, or the checks show nothing.
    assert!(sum(|report| report.crashes) > 0);
    assert!(sum(|report| report.splits) > 0);
    assert!(sum(|report| report.contradictions) > 0);
    assert!(sum(|report| report.votes_sent) > 0);
    assert_eq!(sum(|report| report.finality_conflicts), 0);
    for report in &reports {
        let enough = report.settings.equivocators + report.settings.quorum() <= VALIDATORS;
        assert!(!enough || report.final_height > 0, "{report}");
    }
}

// A hundred seeds in four parts, which run side by side.

#[test]
fn seeds_1_to_25_hold() {
    hold(1..=25);
}

#[test]
fn seeds_26_to_50_hold() {
    hold(26..=50);
}

#[test]
fn fresh_seeds_hold() {
    let first = fresh();
    hold(first..first + 25);
}

#[test]
fn other_fresh_seeds_hold() {
    let first = fresh() + 1_000_000_000;
    hold(first..first + 25);
}

#[test]
fn votes_run_the_same_way_again() {
    let storm = |seed| {
        check(Settings {
            equivocators: 5,
            secs: 300,
            ..voting(seed, Scenario::Storm, VALIDATORS)
        })
    };
    let (first, second) = (storm(7), storm(7));
    assert_eq!(first, second, "to the last signature");
    assert!(first.contradictions > 0 && first.votes_sent > 0);
    assert_ne!(first.digest, storm(8).digest);
}

fn planted(seed: u64, plant: Plant) -> Settings {
    Settings {
        plant: Some(plant),
        secs: 1_200,
        ..voting(seed, Scenario::Storm, 7)
    }
}

#[test]
fn votes_that_are_not_durable_are_found() {
    let found = found(1..=40, |seed| planted(seed, Plant::ForgetVotes));
    // Or the validator hears its own forgotten vote first, and stops.
    let signs = ["rule", "is not on its record"];
    assert!(
        signs.iter().any(|sign| found.what.contains(sign)),
        "{found}"
    );
}

#[test]
fn votes_that_leave_before_they_are_on_record_are_found() {
    let found = found(1..=1, |seed| planted(seed, Plant::SignFirst));
    assert!(found.what.contains("rule 4"), "{found}");
}
