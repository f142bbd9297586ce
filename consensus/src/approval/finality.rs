//! Which checkpoints are approved and which are final (protocol §9). [`Finality`] takes
//! the links of checked certificates and knows neither signatures nor the chain. Fork
//! choice asks it for the last final block and the highest approved checkpoint.
//!
//! A chain has ever more links. [`Finality`] needs only the last ones in memory: its
//! caller keeps all of them, gives the others through [`Links`], and calls
//! [`Finality::trim`] now and then.

use std::collections::BTreeMap;

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

/// The links that a [`Finality`] took in and no longer holds. It asks for nothing else, so an
/// answer may come from a collection of all links.
pub trait Links {
    /// The link with the highest target at or below a height.
    fn at_or_below(&self, height: Height) -> Option<Link>;

    /// The link with the lowest target at or above a height.
    fn at_or_above(&self, height: Height) -> Option<Link>;

    /// The highest final checkpoint at or below a height; `None` stands for the genesis.
    fn final_at(&self, height: Height) -> Option<Checkpoint>;
}

/// No links: for a [`Finality`] that is never trimmed.
#[derive(Debug, Clone, Copy)]
pub struct NoLinks;

impl Links for NoLinks {
    fn at_or_below(&self, _: Height) -> Option<Link> {
        None
    }

    fn at_or_above(&self, _: Height) -> Option<Link> {
        None
    }

    fn final_at(&self, _: Height) -> Option<Checkpoint> {
        None
    }
}

/// The approved checkpoints that a node knows, and the final ones among them.
///
/// No two links here conflict: one that would is not taken in. So their sources rise with
/// their targets, because a link with a higher target and a lower source would surround the
/// other. A new link therefore conflicts with none if it does not conflict with the one at its
/// target height and with its two neighbours: of the links below, the nearest has the highest
/// source, and of the links above, the nearest has the lowest. This needs three lookups in a
/// chain of any length, however far down the source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finality {
    interval: u32,
    genesis: Checkpoint,
    /// The links with a target at or above `floor`, by target height.
    links: BTreeMap<Height, Link>,
    /// The final checkpoints at or above `floor`, without the genesis.
    path: BTreeMap<Height, Checkpoint>,
    /// Links and final checkpoints below this height are looked up elsewhere.
    floor: Height,
    highest_approved: Checkpoint,
    last_final: Checkpoint,
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
            path: BTreeMap::new(),
            floor: Height::GENESIS,
            highest_approved: genesis,
            last_final: genesis,
            conflict: None,
        }
    }

    /// The state of a collection of links that has been taken in before. `recent` are the ones
    /// with the highest targets.
    #[must_use]
    pub fn resume(
        checkpoint_interval: u32,
        genesis: Checkpoint,
        last_final: Checkpoint,
        recent: &[Link],
    ) -> Self {
        let by_height = recent.iter().map(|link| (link.target.height, *link));
        let links: BTreeMap<_, _> = by_height.collect();
        let (lowest, highest) = (links.first_key_value(), links.last_key_value());
        Self {
            floor: lowest.map_or(Height::GENESIS, |(height, _)| *height),
            highest_approved: highest.map_or(genesis, |(_, link)| link.target),
            last_final,
            links,
            ..Self::new(checkpoint_interval, genesis)
        }
    }

    /// Forgets all links but the `keep` with the highest targets, and the final checkpoints as
    /// far down. From now on `older` must be given to every method that takes it.
    pub fn trim(&mut self, keep: usize) {
        let surplus = self.links.len().saturating_sub(keep);
        for _ in 0..surplus {
            if let Some((height, _)) = self.links.pop_first() {
                self.floor = self.floor.max(height.next());
            }
        }
        self.path = self.path.split_off(&self.floor);
    }

    /// The genesis, which is approved and final from the start.
    #[must_use]
    pub fn genesis(&self) -> Checkpoint {
        self.genesis
    }

    /// The last final block, which is never reorganised away.
    #[must_use]
    pub fn last_final(&self) -> Checkpoint {
        self.last_final
    }

    /// The highest approved checkpoint, which is the source of a validator's next vote.
    #[must_use]
    pub fn highest_approved(&self) -> Checkpoint {
        self.highest_approved
    }

    /// Whether a checkpoint is approved.
    #[must_use]
    pub fn is_approved(&self, older: &dyn Links, checkpoint: &Checkpoint) -> bool {
        // # Consensus: §9 "The genesis is approved and final".
        *checkpoint == self.genesis
            || self
                .link_at(older, checkpoint.height)
                .is_some_and(|link| link.target == *checkpoint)
    }

    /// The two links that conflict, if a conflict is known.
    #[must_use]
    pub fn conflict(&self) -> Option<(Link, Link)> {
        self.conflict
    }

    /// The links that are held, ascending by target height: all of them unless some were trimmed.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    fn link_at(&self, older: &dyn Links, height: Height) -> Option<Link> {
        self.at_or_below(older, height)
            .filter(|link| link.target.height == height)
    }

    /// The link with the highest target at or below a height.
    #[must_use]
    pub fn at_or_below(&self, older: &dyn Links, height: Height) -> Option<Link> {
        let held = self.links.range(..=height).next_back();
        held.map(|(_, link)| *link).or_else(|| {
            let below = self.floor.checked_sub(1)?;
            older.at_or_below(height.min(below))
        })
    }

    /// The link with the lowest target at or above a height.
    #[must_use]
    pub fn at_or_above(&self, older: &dyn Links, height: Height) -> Option<Link> {
        let below_floor = if height < self.floor {
            older.at_or_above(height)
        } else {
            None
        };
        below_floor
            .filter(|link| link.target.height < self.floor)
            .or_else(|| self.links.range(height..).next().map(|(_, link)| *link))
    }

    /// The highest final checkpoint at or below a height that certificates name: the last
    /// final block or an ancestor of it. The ancestors of a final block are final.
    #[must_use]
    pub fn final_at(&self, older: &dyn Links, height: Height) -> Checkpoint {
        if height >= self.last_final.height {
            return self.last_final;
        }
        let held = self.path.range(..=height).next_back();
        held.map(|(_, checkpoint)| *checkpoint)
            .or_else(|| older.final_at(height))
            .unwrap_or(self.genesis)
    }

    /// The final checkpoints above a height that are held, ascending. Before [`Self::trim`], these
    /// are all that became final since that height was the last final one.
    pub fn final_above(&self, height: Height) -> impl Iterator<Item = Checkpoint> + '_ {
        self.path
            .range(height.next()..)
            .map(|(_, checkpoint)| *checkpoint)
    }

    /// Links that conflict with this one, at most `max`: the one at its target, then those above
    /// it, nearest first, then those below it, nearest first.
    #[must_use]
    pub fn conflicting(&self, older: &dyn Links, link: &Link, max: usize) -> Vec<Link> {
        let target = link.target.height;
        let clash = |found: &Link| certificates_conflict(found, link);
        let here = self.link_at(older, target).filter(clash);
        // Sources rise with targets: the first link that does not surround this one ends those
        // that do, and likewise below.
        let mut height = Some(target.next());
        let above = std::iter::from_fn(|| {
            let found = self.at_or_above(older, height?)?;
            height = Some(found.target.height.next());
            clash(&found).then_some(found)
        })
        .fuse();
        let mut height = target.checked_sub(1);
        let below = std::iter::from_fn(|| {
            let found = self.at_or_below(older, height?)?;
            height = found.target.height.checked_sub(1);
            clash(&found).then_some(found)
        })
        .fuse();
        here.into_iter()
            .chain(above)
            .chain(below)
            .take(max)
            .collect()
    }

    /// The outcome of [`Self::accept_after`] for a link, if it had accepted those of `before`
    /// first. With it a node can make certificates durable before it shows anyone what
    /// follows from them.
    ///
    /// # Errors
    /// As [`Self::accept_after`].
    pub fn check(
        &self,
        older: &dyn Links,
        before: &BTreeMap<Height, Link>,
        link: &Link,
    ) -> Result<Outcome, FinalityError> {
        let known = |height: Height| {
            let found = self.link_at(older, height);
            found.or_else(|| before.get(&height).copied())
        };
        let here = known(link.target.height);
        if here == Some(*link) {
            return Ok(Outcome::Known);
        }
        // # Consensus: §9 "If its source is not approved yet, the certificate is
        // not yet valid".
        let approved = link.source == self.genesis
            || known(link.source.height).is_some_and(|found| found.target == link.source);
        if !approved {
            return Err(FinalityError::SourceNotApproved {
                source_checkpoint: link.source,
            });
        }
        // # Consensus: §9 "Two conflicting certificates are kept as evidence: the
        // node stops finalising, raises an alarm and goes on by proof of work".
        let target = link.target.height;
        let staged_above = before
            .range(target.next()..)
            .next()
            .map(|(_, found)| *found);
        let staged_below = before.range(..target).next_back().map(|(_, found)| *found);
        let below = target.checked_sub(1);
        let neighbours = [
            here,
            self.at_or_above(older, target.next()),
            staged_above,
            below.and_then(|height| self.at_or_below(older, height)),
            staged_below,
        ];
        let earlier = neighbours
            .into_iter()
            .flatten()
            .find(|found| certificates_conflict(found, link))
            .or(self.conflict.map(|(earlier, _)| earlier));
        if let Some(earlier) = earlier {
            return Ok(Outcome::Conflict { earlier });
        }
        Ok(match finalised_by(self.interval, link) {
            Some(last) if last.height > self.last_final.height => Outcome::Final,
            _ => Outcome::Approved,
        })
    }

    /// Takes in a link where all earlier ones are held, because none was trimmed.
    ///
    /// # Errors
    /// As [`Self::accept_after`].
    pub fn accept(&mut self, link: Link) -> Result<Outcome, FinalityError> {
        debug_assert_eq!(self.floor, Height::GENESIS, "nothing was trimmed");
        self.accept_after(&NoLinks, link)
    }

    /// Takes in the link of a certificate that has been checked.
    ///
    /// After a conflict nothing more becomes approved or final. The chain goes on by
    /// proof of work (protocol §9).
    ///
    /// # Errors
    /// [`FinalityError::SourceNotApproved`] if the certificate of its source has not
    /// come yet.
    pub fn accept_after(
        &mut self,
        older: &dyn Links,
        link: Link,
    ) -> Result<Outcome, FinalityError> {
        let outcome = self.check(older, &BTreeMap::new(), &link)?;
        match outcome {
            Outcome::Known => {}
            Outcome::Conflict { earlier } => {
                self.conflict.get_or_insert((earlier, link));
            }
            Outcome::Approved => self.take(link),
            Outcome::Final => {
                self.take(link);
                self.finalise(older, link.source);
            }
        }
        Ok(outcome)
    }

    /// Adds a link. One below the floor is among the older ones.
    fn take(&mut self, link: Link) {
        if link.target.height >= self.floor {
            self.links.insert(link.target.height, link);
        }
        if link.target.height > self.highest_approved.height {
            self.highest_approved = link.target;
        }
    }

    /// Moves the last final block up, and notes which approved checkpoints that it passes
    /// are its ancestors. The new one descends from the one before: without a
    /// conflict, every chain of links up passes through it.
    fn finalise(&mut self, older: &dyn Links, last: Checkpoint) {
        let mut at = last;
        while at.height > self.last_final.height {
            self.path.insert(at.height, at);
            match self.link_at(older, at.height) {
                Some(link) => at = link.source,
                None => break,
            }
        }
        self.last_final = last;
    }
}
