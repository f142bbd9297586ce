//! Which of several fully valid chains is the best (protocol §8).

use std::cmp::Ordering;

use crate::height::Height;
use crate::target::Work;

/// What the rule looks at, for one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Height of the highest final block that the chain contains. While a node
    /// has not reached the last one, those before it tell the right chain.
    pub final_height: Height,
    /// Whether the chain contains the highest approved checkpoint.
    pub contains_approved: bool,
    /// Work of the chain.
    pub chain_work: Work,
    /// Rank of arrival of its last block at this node: lower was earlier.
    pub arrival: u64,
}

/// Orders two chains: the greater one is better. In order of weight: contains
/// more of what is final, contains the highest approved checkpoint, most work,
/// first seen (protocol §8).
#[must_use]
pub fn compare(a: &Candidate, b: &Candidate) -> Ordering {
    a.final_height
        .cmp(&b.final_height)
        .then(a.contains_approved.cmp(&b.contains_approved))
        .then(a.chain_work.cmp(&b.chain_work))
        .then(b.arrival.cmp(&a.arrival))
}
