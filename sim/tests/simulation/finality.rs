//! Networks with validators that crash, lie, fall silent or split, over many seeds; and
//! rule 4, which keeps validators honest across crashes.

use pithead_sim::{Deceit, InjectedFault, Report, Scenario, SimSettings, TimelinePoint};

use crate::support::{SCENARIOS, check, find_violation, fresh_seed};

/// The validators of the reference network, of which 20 make a certificate.
const VALIDATORS: usize = 25;
/// The most validators that can lie without certificates that conflict.
const LIARS_MAX: usize = 14;
/// The most blocks that the final block may be behind the tip: three checkpoints.
const LAG: u64 = 6;

/// A small network whose first nodes are validators.
fn voting(seed: u64, scenario: Scenario, validators: usize) -> SimSettings {
    SimSettings {
        validators,
        checkpoint_interval: 2,
        payments_per_hour: 30.0,
        miners: 4,
        ..SimSettings::new(seed, validators + 2, 600, scenario)
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
        let report = check(SimSettings {
            equivocators: LIARS_MAX,
            ..voting(seed, scenario, VALIDATORS)
        });
        // The liars must contradict themselves, and honest nodes must notice.
        assert!(report.contradictions > 0, "{report}");
        assert!(report.pairs_met > 0, "{report}");
        assert_eq!(report.finality_conflicts, 0);
    }
}

/// Each run checks that a node that meets a conflict can name fifteen validators.
#[test]
fn fifteen_liars_are_named() {
    let mut conflicts = 0;
    for seed in 5..=12 {
        let report = check(SimSettings {
            equivocators: LIARS_MAX + 1,
            deceit: Some(Deceit::EveryBranch),
            ..voting(seed, Scenario::Partition, VALIDATORS)
        });
        conflicts += report.finality_conflicts;
    }
    // Conflicts need a split with enough honest validators on both sides, as some seeds have.
    assert!(conflicts > 0, "no conflict to be seen");
}

/// The span in which validators are silent, virtual seconds.
const SILENCE_SECS: (u64, u64) = (150, 600);
/// Seconds in which votes from before the silence still arrive.
const FADES_SECS: u64 = 60;

/// Runs a network with silent validators. Returns its report, and its first and its last
/// inspection during the silence.
fn with_silent(silent: usize) -> (Report, TimelinePoint, TimelinePoint) {
    let report = check(SimSettings {
        silent,
        silence_secs: SILENCE_SECS,
        secs: 750,
        ..voting(3, Scenario::Calm, VALIDATORS)
    });
    let points = report.timeline.iter().copied();
    let mut quiet =
        points.filter(|point| (SILENCE_SECS.0 + FADES_SECS..SILENCE_SECS.1).contains(&point.secs));
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

/// A short run of the reference network: up to fourteen liars, each scenario in turn, and
/// splits of up to half of the run.
fn short(seed: u64) -> SimSettings {
    SimSettings {
        equivocators: (seed % (LIARS_MAX as u64 + 1)) as usize,
        long_splits: seed.is_multiple_of(2),
        secs: 240,
        ..voting(seed, SCENARIOS[(seed / 2 % 4) as usize], VALIDATORS)
    }
}

/// Runs these seeds, all of which must keep the rules.
fn hold(seeds: impl Iterator<Item = u64>) {
    let reports: Vec<Report> = seeds.map(|seed| check(short(seed))).collect();
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    // Without trouble the checks would show nothing.
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

// A hundred seeds in four tests, which run in parallel.

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
    let first = fresh_seed();
    hold(first..first + 25);
}

#[test]
fn other_fresh_seeds_hold() {
    let first = fresh_seed() + 1_000_000_000;
    hold(first..first + 25);
}

#[test]
fn votes_run_the_same_way_again() {
    let storm = |seed| {
        check(SimSettings {
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

fn with_fault(seed: u64, fault: InjectedFault) -> SimSettings {
    SimSettings {
        fault: Some(fault),
        secs: 1_200,
        ..voting(seed, Scenario::Storm, 7)
    }
}

#[test]
fn votes_that_are_not_durable_are_found() {
    let found = find_violation(1..=40, |seed| with_fault(seed, InjectedFault::ForgetVotes));
    // A validator that first receives its own forgotten vote stops instead of voting again.
    let signs = ["rule", "is not on its record"];
    assert!(
        signs.iter().any(|sign| found.what.contains(sign)),
        "{found}"
    );
}

#[test]
fn votes_that_leave_before_they_are_on_record_are_found() {
    let found = find_violation(1..=1, |seed| with_fault(seed, InjectedFault::SignFirst));
    assert!(found.what.contains("rule 4"), "{found}");
}
