//! Networks that an adversary attacks: one that sees all honest nodes and decides by that.

use pithead_sim::{AdversaryKind, LATE_VOTES_UNDO_MAX, Report, SimSettings};

use crate::support::{check, fresh_seed};

fn attack(seed: u64, adversary: AdversaryKind) -> Report {
    check(SimSettings::attacked(seed, adversary))
}

#[test]
fn late_votes_never_undo_more_than_8_blocks() {
    for seed in 1..=4 {
        let report = attack(seed, AdversaryKind::LateVotes);
        // Without late votes and the moves that they bring about, the check would show nothing.
        assert!(report.late_votes > 0, "{report}");
        assert!(report.deepest_reorganisation >= 3, "{report}");
        assert_eq!(report.contradictions, 0, "nobody can be accused");
        let deepest = report.deepest_reorganisation;
        assert!(deepest <= LATE_VOTES_UNDO_MAX, "{deepest} blocks undone");
    }
}

/// Six of seven validators vote honestly, so that finality must go on once the adversary rests.
#[test]
fn votes_and_blocks_at_random_leave_no_node_behind() {
    let first = fresh_seed();
    for seed in (1..=4).chain(first..first + 2) {
        let report = attack(seed, AdversaryKind::Wanderer);
        assert!(report.late_votes > 0, "{report}");
        assert_eq!(report.finality_conflicts, 0, "{report}");
        assert!(report.final_height > 0, "{report}");
    }
}

#[test]
fn attacks_run_the_same_way_again() {
    let once = || attack(7, AdversaryKind::Wanderer);
    assert_eq!(once(), once());
}
