//! Compares fully valid chains: which one is better (protocol §8).

use std::cmp::Ordering;

use crate::height::Height;
use crate::target::Work;

/// One chain, as far as fork choice depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Height of the highest final block that the chain contains. A node that has not
    /// reached the last final block yet still prefers the chain with the most of the
    /// way to it.
    pub final_height: Height,
    /// Whether the chain contains the highest approved checkpoint.
    pub contains_approved: bool,
    /// Work of the chain.
    pub chain_work: Work,
    /// When the chain's last block arrived at this node: a lower number is earlier.
    pub arrival: u64,
}

/// Orders two chains. The greater one is better: it contains the higher final block; if
/// that is equal, the highest approved checkpoint; then more work; then it was seen
/// first (protocol §8).
#[must_use]
pub fn compare(a: &Candidate, b: &Candidate) -> Ordering {
    a.final_height
        .cmp(&b.final_height)
        .then(a.contains_approved.cmp(&b.contains_approved))
        .then(a.chain_work.cmp(&b.chain_work))
        .then(b.arrival.cmp(&a.arrival))
}
