//! From which sources the validators have voted (protocol §8, rule 2). A validator that has
//! voted from a source can't vote for higher targets from a lower source any more. On a
//! chain whose approved checkpoints are all lower, it is stranded. Knows neither signatures
//! nor chains.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::height::Height;

/// The highest approved source from which each validator has voted, as far as a node knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VoteSources {
    /// Most validators that may be stranded on a chain that is votable.
    stranded_max: usize,
    highest: BTreeMap<Address, Height>,
}

impl VoteSources {
    /// Without any vote, for a network of so many validators.
    #[must_use]
    pub fn new(validators: usize, quorum: usize) -> Self {
        Self {
            stranded_max: stranded_max(validators, quorum),
            highest: BTreeMap::new(),
        }
    }

    /// Takes in a vote of a validator from an approved source. The caller sees to it that the
    /// source is approved: a vote from any other source says nothing, because its validator
    /// may have made the source up. Returns whether the validator's highest source rose.
    pub fn note(&mut self, validator: Address, source: Height) -> bool {
        let highest = self.highest.entry(validator).or_default();
        let rises = source > *highest;
        *highest = source.max(*highest);
        rises
    }

    /// The validator's highest source; the genesis if no vote of the validator is known.
    #[must_use]
    pub fn highest(&self, validator: &Address) -> Height {
        self.highest.get(validator).copied().unwrap_or_default()
    }

    /// Whether a chain is votable, where `approved` is the height of the highest approved
    /// checkpoint that the chain contains.
    #[must_use]
    pub fn votable(&self, approved: Height) -> bool {
        // # Consensus: §8 "A chain is votable if at most (n − quorum) / 2 validators have
        // voted from an approved source above the highest approved checkpoint that the chain
        // contains".
        let stranded = self.highest.values().filter(|source| **source > approved);
        stranded.count() <= self.stranded_max
    }
}

/// Most validators that may be stranded on a chain: half of those without which a quorum
/// still comes together. As many others may be silent, and the rest is a quorum.
#[must_use]
pub fn stranded_max(validators: usize, quorum: usize) -> usize {
    validators.saturating_sub(quorum) / 2
}
