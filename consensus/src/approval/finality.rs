//! Which checkpoints are approved and which are final, from the links of
//! checked certificates (protocol §9). Fork choice asks here for the last final
//! block and the highest approved checkpoint.

use std::collections::BTreeMap;

use thiserror::Error;

use super::vote::offence;
use super::{Checkpoint, Link};
use crate::height::Height;

/// A certificate can't count yet (protocol §11: not yet): never punished.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FinalityError {
    /// §9: the source must be approved.
    #[error("source {} at height {} is not approved", source_checkpoint.hash, source_checkpoint.height)]
    SourceNotApproved {
        /// The certificate's source.
        source_checkpoint: Checkpoint,
    },
}

/// What a certificate brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: its link was known.
    Known,
    /// Its target is approved.
    Approved,
    /// Its target is approved and its source final.
    Final,
    /// It conflicts with an earlier one: keep both, stop finalising, alarm.
    Conflict {
        /// The earlier link.
        earlier: Link,
    },
}

/// The approved checkpoints of a node, and what follows from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finality {
    interval: u32,
    genesis: Checkpoint,
    /// Links of the certificates by target height.
    links: BTreeMap<Height, Link>,
    last_final: Checkpoint,
    conflict: Option<(Link, Link)>,
}

/// The checkpoint that a certificate makes final: its source, if its target is
/// the next checkpoint after it. `None` for a link that skips a checkpoint.
#[must_use]
pub fn finalised_by(interval: u32, link: &Link) -> Option<Checkpoint> {
    // # Consensus: §9 "final once the next checkpoint after it is approved with
    // it as source".
    let next = link.source.height.0.checked_add(u64::from(interval))?;
    (link.target.height.0 == next).then_some(link.source)
}

/// Whether two certificates conflict: quorums that overlap in honest validators
/// can't have signed both links, so rule 1 or 2 was broken by many.
#[must_use]
pub fn certificates_conflict(a: &Link, b: &Link) -> bool {
    offence(a, b).is_some()
}

impl Finality {
    /// At the start: the genesis is approved and final.
    #[must_use]
    pub fn new(checkpoint_interval: u32, genesis: Checkpoint) -> Self {
        Self {
            interval: checkpoint_interval,
            genesis,
            links: BTreeMap::new(),
            last_final: genesis,
            conflict: None,
        }
    }

    /// The last final block: never reorganised away.
    #[must_use]
    pub fn last_final(&self) -> Checkpoint {
        self.last_final
    }

    /// The highest approved checkpoint: the source of a validator's next vote.
    #[must_use]
    pub fn highest_approved(&self) -> Checkpoint {
        self.links
            .last_key_value()
            .map_or(self.genesis, |(_, link)| link.target)
    }

    /// Whether a checkpoint is approved.
    #[must_use]
    pub fn is_approved(&self, checkpoint: &Checkpoint) -> bool {
        // # Consensus: §9 "Genesis is approved and final".
        *checkpoint == self.genesis
            || self
                .links
                .get(&checkpoint.height)
                .is_some_and(|link| link.target == *checkpoint)
    }

    /// The two links that conflict, once there are such.
    #[must_use]
    pub fn conflict(&self) -> Option<(Link, Link)> {
        self.conflict
    }

    /// The links of all certificates, ascending by target height.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// An earlier link that conflicts with this one. Links surround each other
    /// only where the target of one lies between the ends of the other or above,
    /// so that in a chain of any length few are looked at.
    fn conflicting(&self, link: &Link) -> Option<Link> {
        self.links
            .range(link.source.height..)
            .map(|(_, earlier)| earlier)
            .find(|earlier| certificates_conflict(earlier, link))
            .copied()
    }

    /// Takes in the link of a certificate that has been checked.
    ///
    /// After a conflict nothing more is approved or finalised: the chain follows
    /// proof of work from there (protocol §9).
    ///
    /// # Errors
    /// [`FinalityError::SourceNotApproved`]: its source's certificate must come
    /// first.
    pub fn accept(&mut self, link: Link) -> Result<Outcome, FinalityError> {
        if self.links.get(&link.target.height) == Some(&link) {
            return Ok(Outcome::Known);
        }
        // # Consensus: §9 "source approved".
        if !self.is_approved(&link.source) {
            return Err(FinalityError::SourceNotApproved {
                source_checkpoint: link.source,
            });
        }
        // # Consensus: §9 "Two conflicting certificates: keep both as evidence,
        // stop finalising, raise an alarm, follow proof of work".
        if let Some(earlier) = self.conflicting(&link) {
            self.conflict.get_or_insert((earlier, link));
            return Ok(Outcome::Conflict { earlier });
        }
        if let Some((earlier, _)) = self.conflict {
            return Ok(Outcome::Conflict { earlier });
        }
        self.links.insert(link.target.height, link);
        match finalised_by(self.interval, &link) {
            Some(last) if last.height > self.last_final.height => {
                self.last_final = last;
                Ok(Outcome::Final)
            }
            _ => Ok(Outcome::Approved),
        }
    }
}
