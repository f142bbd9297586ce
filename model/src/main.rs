//! The longer run of the model: `cargo run --release -p pithead-model`. It prints one line for each
//! network, and the way to the deepest reorganisation by votes.

use pithead_model::cases::{
    Bounds, THREE_BRANCHES, TWO_BRANCHES, late_votes, offenders, uneven_votes,
};
use pithead_model::explore::{Questions, explore};
use pithead_model::network::{Network, State};
use pithead_model::rule::Rule;

/// No run visits more states. Each takes some 300 bytes.
const STATES_MAX: usize = 5_000_000;

fn main() {
    let rules = [
        Rule::ApprovedFirst,
        Rule::Pairwise,
        Rule::Ranked,
        Rule::HeaviestExcused,
    ];
    for rule in rules {
        for top in [5, 6] {
            let bounds = Bounds {
                forks: TWO_BRANCHES,
                top,
                reorg_max: 2,
                off_best_max: 2,
            };
            let network = late_votes(rule, 2, bounds);
            report("two branches, two late", &network, network.start(), false);
        }
        let bounds = Bounds {
            forks: THREE_BRANCHES,
            top: 4,
            reorg_max: 2,
            off_best_max: 6,
        };
        for late in [1, 2] {
            let network = late_votes(rule, late, bounds);
            let name = format!("three branches, {late} late");
            report(&name, &network, network.start(), false);
        }
        let bounds = Bounds {
            forks: TWO_BRANCHES,
            top: 3,
            reorg_max: 1,
            off_best_max: 6,
        };
        let network = uneven_votes(rule, bounds);
        report("uneven votes", &network, network.start(), true);
        let bounds = Bounds { top: 2, ..bounds };
        for offending in 0..=2 {
            let network = offenders(rule, offending, bounds);
            let name = format!("four validators, {offending} offending");
            report(&name, &network, network.full_grown(), offending == 0);
        }
    }
}

fn report(name: &str, network: &Network, start: State, recovery: bool) {
    let found = explore(
        network,
        start,
        Questions {
            recovery,
            states_max: STATES_MAX,
        },
    );
    println!(
        "{:?}, {name}, height {}, K {}: {} states, {} moves, complete: {}; undone by votes at most {}, without more work {}; \
         finals conflict: {}; finality stops: {}",
        network.rule,
        network.top,
        network.reorg_max,
        found.states,
        found.moves,
        found.complete,
        found.depth_by_votes(),
        found.depth_without_gain(),
        found.conflict.is_some(),
        if recovery {
            found.standstill.is_some().to_string()
        } else {
            "not asked".to_owned()
        },
    );
    for (_, way) in found
        .deepest_by_votes
        .iter()
        .filter(|(deepest, _)| deepest.depth > network.reorg_max)
    {
        println!("    {}", way.join("\n    "));
    }
}
