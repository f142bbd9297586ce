//! The networks that the tests and the longer run examine. Start reading at [`late_votes`].

use crate::network::{Conduct, Group, Network};
use crate::rule::Rule;
use crate::tree::{Fork, Tree};
use crate::votes::Validators;

/// Two branches from the genesis on.
pub const TWO_BRANCHES: &[Fork] = &[Fork { from: 0, height: 0 }];
/// Two branches from the genesis on, and a third that leaves the first one after block 1.
pub const THREE_BRANCHES: &[Fork] = &[Fork { from: 0, height: 0 }, Fork { from: 0, height: 1 }];

/// What a run may build.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The branches.
    pub forks: &'static [Fork],
    /// The height up to which the adversary acts.
    pub top: u8,
    /// The `K` of the rule.
    pub reorg_max: u8,
    /// How many blocks may be found off the followed chain.
    pub off_best_max: u8,
}

/// A network in which each block is a checkpoint. Room for four more blocks is left, in which
/// finality may go on.
#[must_use]
pub fn network(rule: Rule, quorum: usize, groups: Vec<Group>, bounds: Bounds) -> Network {
    let count = groups.iter().map(|group| group.size).sum();
    Network {
        tree: Tree::new(bounds.forks, bounds.top + 4, 1),
        validators: Validators { count, quorum },
        groups,
        rule,
        reorg_max: bounds.reorg_max,
        top: bounds.top,
        off_best_max: bounds.off_best_max,
    }
}

fn group(size: usize, conduct: Conduct) -> Group {
    Group { size, conduct }
}

/// Seven validators, quorum 5: four are online and vote promptly, some are merely late, and the
/// others are away.
#[must_use]
pub fn late_votes(rule: Rule, late: usize, bounds: Bounds) -> Network {
    let mut groups = vec![group(4, Conduct::Prompt)];
    groups.resize(1 + late, group(1, Conduct::Delayed));
    groups.push(group(3 - late, Conduct::Away));
    network(rule, 5, groups, bounds)
}

/// Seven validators, quorum 5: three and one vote or miss their chance as the adversary likes, one
/// is late and free, and two are away.
#[must_use]
pub fn uneven_votes(rule: Rule, bounds: Bounds) -> Network {
    let groups = vec![
        group(3, Conduct::Honest),
        group(1, Conduct::Honest),
        group(1, Conduct::Late),
        group(2, Conduct::Away),
    ];
    network(rule, 5, groups, bounds)
}

/// Four validators, quorum 3. Some break the rules; the others are free within them.
#[must_use]
pub fn offenders(rule: Rule, offending: usize, bounds: Bounds) -> Network {
    let mut groups = vec![group(1, Conduct::Offending); offending];
    groups.resize(4, group(1, Conduct::Late));
    network(rule, 3, groups, bounds)
}
