//! What the model says about each rule of fork choice. Every run visits all states that its network
//! can reach.

use pithead_model::cases::{
    Bounds, THREE_BRANCHES, TWO_BRANCHES, late_votes, offenders, uneven_votes,
};
use pithead_model::explore::{Findings, Questions, explore};
use pithead_model::network::{Network, State};
use pithead_model::rule::Rule;

const STATES_MAX: usize = 200_000;

fn visit(network: &Network, start: State, recovery: bool) -> Findings {
    let found = explore(
        network,
        start,
        Questions {
            recovery,
            states_max: STATES_MAX,
        },
    );
    assert!(found.complete, "more than {STATES_MAX} states");
    found
}

fn two_branches(rule: Rule, top: u8, reorg_max: u8) -> Findings {
    let bounds = Bounds {
        forks: TWO_BRANCHES,
        top,
        reorg_max,
        off_best_max: 2,
    };
    let network = late_votes(rule, 2, bounds);
    visit(&network, network.start(), false)
}

fn three_branches(rule: Rule, top: u8) -> Findings {
    let bounds = Bounds {
        forks: THREE_BRANCHES,
        top,
        reorg_max: 2,
        off_best_max: 6,
    };
    let network = late_votes(rule, 1, bounds);
    visit(&network, network.start(), false)
}

fn uneven(rule: Rule) -> Findings {
    let bounds = Bounds {
        forks: TWO_BRANCHES,
        top: 3,
        reorg_max: 1,
        off_best_max: 6,
    };
    let network = uneven_votes(rule, bounds);
    visit(&network, network.start(), true)
}

fn with_offenders(offending: usize) -> Findings {
    let bounds = Bounds {
        forks: TWO_BRANCHES,
        top: 2,
        reorg_max: 1,
        off_best_max: 0,
    };
    let network = offenders(Rule::HeaviestExcused, offending, bounds);
    visit(&network, network.full_grown(), false)
}

#[test]
fn late_votes_undo_ever_more_if_the_approved_checkpoint_comes_first() {
    let depths = [3, 4, 5].map(|top| two_branches(Rule::ApprovedFirst, top, 2).depth_by_votes());
    assert_eq!(depths, [3, 4, 5], "as deep as the tree");
}

#[test]
fn late_votes_undo_a_bounded_number_of_blocks_under_the_new_rules() {
    for rule in [Rule::Ranked, Rule::HeaviestExcused] {
        let depths = [3, 4, 5].map(|top| two_branches(rule, top, 2).depth_by_votes());
        assert_eq!(depths, [2, 2, 2], "{rule:?}");
    }
}

#[test]
fn a_third_branch_defeats_rules_that_excuse_every_deep_branch() {
    for rule in [Rule::Pairwise, Rule::Ranked] {
        assert_eq!(three_branches(rule, 3).depth_without_gain(), 3, "{rule:?}");
    }
    assert_eq!(three_branches(Rule::HeaviestExcused, 3).depth_by_votes(), 2);
}

#[test]
fn a_deeper_change_of_the_chosen_rule_needs_more_work() {
    let found = three_branches(Rule::HeaviestExcused, 4);
    assert_eq!(found.depth_without_gain(), 2);
    // A heavier chain that was not votable becomes votable.
    assert_eq!(found.depth_by_votes(), 3);
}

#[test]
fn finality_goes_on_from_every_state_once_messages_arrive() {
    let found = uneven(Rule::HeaviestExcused);
    assert_eq!(found.standstill, None);
    assert_eq!(found.unstranded.1, 0, "of {} states", found.unstranded.0);
}

#[test]
fn a_chain_on_which_too_many_are_stranded_is_left_however_deep() {
    // One honest vote from A1 and one late one: more than (7 - 5) / 2 validators are stranded on B.
    assert_eq!(uneven(Rule::HeaviestExcused).depth_by_votes(), 3);
}

#[test]
fn two_finals_need_a_third_of_the_validators_to_offend() {
    assert_eq!(with_offenders(0).conflict, None);
    assert_eq!(with_offenders(1).conflict, None);
    assert!(with_offenders(2).conflict.is_some());
}
