//! Which checkpoints are approved and which are final (protocol §9). [`Finality`] takes
//! the links of checked certificates and knows neither signatures nor the chain. Fork
//! choice asks it for the last final block and the highest approved checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::vote::offence;
use super::{Checkpoint, Link};
use crate::height::Height;

/// A certificate can't count yet (protocol §11: not yet). No peer is penalised for it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FinalityError {
    /// §9: the source is not approved.
    #[error("source {} at height {} is not approved", source_checkpoint.hash, source_checkpoint.height)]
    SourceNotApproved { source_checkpoint: Checkpoint },
}

/// The effect of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No effect: its link was known.
    Known,
    /// Its target is approved.
    Approved,
    /// Its target is approved and its source final.
    Final,
    /// It conflicts with an earlier one. The node keeps both and stops finalising.
    Conflict { earlier: Link },
}

/// The approved checkpoints that a node knows, and the final ones among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finality {
    interval: u32,
    genesis: Checkpoint,
    /// Links of the certificates, by target height.
    links: BTreeMap<Height, Link>,
    last_final: Checkpoint,
    /// Heights below the last final block whose approved checkpoint is not its
    /// ancestor. They are few: validators seldom approve one branch and then leave it.
    off_path: BTreeSet<Height>,
    conflict: Option<(Link, Link)>,
}

/// The checkpoint that a certificate makes final. That is its source, if the target is
/// the next checkpoint after it; `None` for a link that skips a checkpoint.
#[must_use]
pub fn finalised_by(interval: u32, link: &Link) -> Option<Checkpoint> {
    // # Consensus: §9 "final once the next checkpoint after it is approved with
    // it as the source".
    let next = link.source.height.0.checked_add(u64::from(interval))?;
    (link.target.height.0 == next).then_some(link.source)
}

/// Whether two certificates conflict: no validator may sign both links. Any two quorums
/// overlap, so if both certificates exist, many validators broke rule 1 or 2.
#[must_use]
pub fn certificates_conflict(a: &Link, b: &Link) -> bool {
    offence(a, b).is_some()
}

impl Finality {
    /// The state at the start: the genesis is approved and final.
    #[must_use]
    pub fn new(checkpoint_interval: u32, genesis: Checkpoint) -> Self {
        Self {
            interval: checkpoint_interval,
            genesis,
            links: BTreeMap::new(),
            last_final: genesis,
            off_path: BTreeSet::new(),
            conflict: None,
        }
    }

    /// The last final block, which is never reorganised away.
    #[must_use]
    pub fn last_final(&self) -> Checkpoint {
        self.last_final
    }

    /// The highest approved checkpoint, which is the source of a validator's next vote.
    #[must_use]
    pub fn highest_approved(&self) -> Checkpoint {
        self.links
            .last_key_value()
            .map_or(self.genesis, |(_, link)| link.target)
    }

    /// Whether a checkpoint is approved.
    #[must_use]
    pub fn is_approved(&self, checkpoint: &Checkpoint) -> bool {
        // # Consensus: §9 "The genesis is approved and final".
        *checkpoint == self.genesis
            || self
                .links
                .get(&checkpoint.height)
                .is_some_and(|link| link.target == *checkpoint)
    }

    /// The two links that conflict, if a conflict is known.
    #[must_use]
    pub fn conflict(&self) -> Option<(Link, Link)> {
        self.conflict
    }

    /// The links of all certificates, ascending by target height.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Approved checkpoints at or below a height, highest first.
    pub fn approved_below(&self, height: Height) -> impl Iterator<Item = Checkpoint> + '_ {
        let links = self.links.range(..=height).rev();
        links
            .map(|(_, link)| link.target)
            .chain(std::iter::once(self.genesis))
    }

    /// The highest final checkpoint at or below a height that certificates name: the last
    /// final block or an ancestor of it. The ancestors of a final block are final.
    #[must_use]
    pub fn final_at(&self, height: Height) -> Checkpoint {
        self.links
            .range(..=height.min(self.last_final.height))
            .rev()
            .find(|(height, _)| !self.off_path.contains(height))
            .map_or(self.genesis, |(_, link)| link.target)
    }

    /// Earlier links that conflict with this one, nearest target first. It looks only at
    /// links with a target above this one's source, which are few in a chain of any
    /// length: two links surround each other only if one's target lies above the other's
    /// source.
    pub fn conflicting<'a>(&'a self, link: &'a Link) -> impl Iterator<Item = &'a Link> + 'a {
        // A link with a higher target surrounds this one if its source is lower. A link
        // between the ends of this one is surrounded by it.
        self.links
            .range(link.source.height..)
            .rev()
            .map(|(_, earlier)| earlier)
            .filter(|earlier| certificates_conflict(earlier, link))
    }

    /// The outcome of [`Self::accept`] for a link, if it had accepted those of `before`
    /// first. With it a node can make certificates durable before it shows anyone what
    /// follows from them.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub fn check(
        &self,
        before: &BTreeMap<Height, Link>,
        link: &Link,
    ) -> Result<Outcome, FinalityError> {
        let known = |height: &Height| self.links.get(height).or_else(|| before.get(height));
        if known(&link.target.height) == Some(link) {
            return Ok(Outcome::Known);
        }
        // # Consensus: §9 "If its source is not approved yet, the certificate is
        // not yet valid".
        let approved = link.source == self.genesis
            || known(&link.source.height).is_some_and(|found| found.target == link.source);
        if !approved {
            return Err(FinalityError::SourceNotApproved {
                source_checkpoint: link.source,
            });
        }
        // # Consensus: §9 "Two conflicting certificates are kept as evidence: the
        // node stops finalising, raises an alarm and goes on by proof of work".
        let mut staged = before.range(link.source.height..).map(|(_, found)| found);
        let earlier = self
            .conflicting(link)
            .next()
            .or_else(|| staged.find(|found| certificates_conflict(found, link)))
            .copied()
            .or(self.conflict.map(|(earlier, _)| earlier));
        if let Some(earlier) = earlier {
            return Ok(Outcome::Conflict { earlier });
        }
        Ok(match finalised_by(self.interval, link) {
            Some(last) if last.height > self.last_final.height => Outcome::Final,
            _ => Outcome::Approved,
        })
    }

    /// Takes in the link of a certificate that has been checked.
    ///
    /// After a conflict nothing more becomes approved or final. The chain goes on by
    /// proof of work (protocol §9).
    ///
    /// # Errors
    /// [`FinalityError::SourceNotApproved`] if the certificate of its source has not
    /// come yet.
    pub fn accept(&mut self, link: Link) -> Result<Outcome, FinalityError> {
        let outcome = self.check(&BTreeMap::new(), &link)?;
        match outcome {
            Outcome::Known => {}
            Outcome::Conflict { earlier } => {
                self.conflict.get_or_insert((earlier, link));
            }
            Outcome::Approved => {
                self.links.insert(link.target.height, link);
                if link.target.height < self.last_final.height {
                    // It came late, and its target is no ancestor of the last final
                    // block: the links to all of those are known.
                    self.off_path.insert(link.target.height);
                }
            }
            Outcome::Final => {
                self.links.insert(link.target.height, link);
                self.finalise(link.source);
            }
        }
        Ok(outcome)
    }

    /// Moves the last final block up, and notes which approved checkpoints that it passes
    /// are not its ancestors. The new one descends from the one before: without a
    /// conflict, every chain of links up passes through it.
    fn finalise(&mut self, last: Checkpoint) {
        let mut on_path = BTreeSet::new();
        let mut at = last;
        while at.height > self.last_final.height {
            on_path.insert(at.height);
            match self.links.get(&at.height) {
                Some(link) => at = link.source,
                None => break,
            }
        }
        let passed = self.links.range(self.last_final.height..last.height);
        let off = passed
            .map(|(height, _)| *height)
            .filter(|height| *height > self.last_final.height && !on_path.contains(height));
        self.off_path.extend(off.collect::<Vec<_>>());
        self.last_final = last;
    }
}
