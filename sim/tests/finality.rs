//! Finality in the simulation: validators that crash, lie, are silent or split,
//! over many seeds; and that the rules are what keeps them honest.

#![allow(clippy::unwrap_used)]

use std::time::{SystemTime, UNIX_EPOCH};

use pithead_sim::{Plant, Report, RunError, Scenario, Settings, run};

/// As on the reference network: 20 of 25.
const VALIDATORS: usize = 25;

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

/// Runs it; a failure says how to see it again.
fn check(settings: Settings) -> Report {
    let again = format!(
        "cargo run -p pithead-sim --release -- --seed {} --nodes {} --hours {} --scenario {} --miners {} \
         --payments {} --validators {} --equivocators {} --silent {} --checkpoint-interval {}",
        settings.seed,
        settings.nodes,
        settings.secs as f64 / 3_600.0,
        settings.scenario.name(),
        settings.miners,
        settings.payments_per_hour,
        settings.validators,
        settings.equivocators,
        settings.silent,
        settings.checkpoint_interval,
    );
    match run(settings) {
        Ok(report) => report,
        Err(error) => panic!("{error}\nagain: {again}"),
    }
}

#[test]
fn the_reference_network_finalises() {
    let report = check(voting(1, Scenario::Calm, VALIDATORS));
    assert!(report.height > 20, "{report}");
    assert!(report.final_height + 6 >= report.height, "{report}");
    assert_eq!(report.finality_conflicts, 0);
}

#[test]
fn fourteen_liars_of_twenty_five_make_no_conflict() {
    for (seed, scenario) in [(1, Scenario::Partition), (2, Scenario::Storm)] {
        let report = check(Settings {
            equivocators: 14,
            ..voting(seed, scenario, VALIDATORS)
        });
        assert!(report.double_votes > 100, "{report}");
        assert_eq!(report.finality_conflicts, 0);
    }
}

#[test]
fn fifteen_liars_are_named() {
    // Each run checks that whoever sees a conflict can name fifteen.
    let conflicts: u64 = (1..=3)
        .map(|seed| {
            let settings = Settings {
                equivocators: 15,
                ..voting(seed, Scenario::Partition, VALIDATORS)
            };
            check(settings).finality_conflicts
        })
        .sum();
    assert!(conflicts > 0, "fifteen suffice for a conflict");
}

#[test]
fn six_silent_validators_let_finality_wait_and_no_longer() {
    let silent = |secs| {
        check(Settings {
            silent: 6,
            secs,
            ..voting(3, Scenario::Calm, VALIDATORS)
        })
    };
    let report = silent(600);
    assert!(report.final_height > 0, "{report}");
    assert!(report.final_height + 6 >= report.height, "{report}");
    let others = check(Settings {
        silent: 5,
        ..voting(3, Scenario::Calm, VALIDATORS)
    });
    assert!(
        others.final_height + 6 >= others.height,
        "five may be silent"
    );
}

/// A hundred seeds in all kinds of weather, small networks: six of seven.
#[test]
fn a_hundred_seeds_hold() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let fresh = u64::try_from(clock.as_micros()).unwrap();
    let all = [
        Scenario::Calm,
        Scenario::Rough,
        Scenario::Partition,
        Scenario::Storm,
    ];
    let (mut crashes, mut lies, mut final_height) = (0, 0, 0);
    for number in 0..100_u64 {
        let seed = if number < 50 { number } else { fresh + number };
        let report = check(Settings {
            equivocators: (number % 5) as usize,
            secs: 300,
            ..voting(seed, all[number as usize % all.len()], 7)
        });
        crashes += report.crashes;
        lies += report.double_votes;
        final_height += report.final_height;
    }
    assert!(crashes > 0 && lies > 0 && final_height > 0);
}

/// What the simulation says of a rule that is left out.
fn found(plant: Plant) -> String {
    for seed in 1..=40 {
        let result = run(Settings {
            plant: Some(plant),
            secs: 1_200,
            ..voting(seed, Scenario::Storm, 7)
        });
        match result {
            Ok(_) => {}
            Err(RunError::Violation(violation)) => {
                return format!("seed {seed}: {violation}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("{plant:?} is not found");
}

#[test]
fn votes_that_are_not_durable_are_found() {
    let what = found(Plant::ForgetVotes);
    // Or the validator hears its own forgotten vote first, and stops.
    assert!(
        ["DoubleVote", "SurroundVote", "is not on its record"]
            .iter()
            .any(|sign| what.contains(sign)),
        "{what}"
    );
}
