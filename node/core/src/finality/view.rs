//! Which checkpoints are approved and which are final, as certificates have shown so far
//! (protocol §9). The node knows this in one place, [`super::FinalityState`]. Everything else
//! asks through a [`FinalityView`] and keeps no copy (ADR 11).
//!
//! The view knows neither the chain nor the approvals that are still gathering. Start reading at
//! [`FinalityView`].

use std::fmt;
use std::sync::Arc;

use pithead_consensus::approval::finality::{FinalityError, Links, NoLinks, Outcome};
use pithead_consensus::approval::vote_sources::VoteSources;
use pithead_consensus::fork_choice::{ChainFinality, Ground};
use pithead_consensus::{Checkpoint, ConsensusParams, Finality, Height, Link};

use super::archive::Archive;
use crate::store::schema;
use crate::store::{Snapshot, StoreError};

/// The outcome of all certificates in three values, as effects and the API report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinalityStatus {
    /// The highest approved checkpoint.
    pub approved: Checkpoint,
    /// The last final block: the chain never reorganises below it.
    pub last_final: Checkpoint,
    /// Whether two certificates conflict. From then on no further block becomes final.
    pub conflict: bool,
}

impl FinalityStatus {
    /// The checkpoint that the best chain should contain if there is a choice: the highest
    /// approved one or, after a conflict, the last final one.
    #[must_use]
    pub fn preferred(&self) -> Checkpoint {
        if self.conflict {
            self.last_final
        } else {
            self.approved
        }
    }
}

/// The approved and the final checkpoints at one moment.
///
/// A view never changes: the next certificate leads to another view. Cloning one is cheap, and it
/// holds no lock. A view should not outlive the event or the request that it serves.
///
/// A view holds the last [`LINKS_IN_MEMORY_MAX`] links, and looks older ones up in the store.
/// Certificates that came after the view are in the store too, but they change nothing about what
/// was final. A question has no way to fail: a caller asks [`Self::sound`] before it acts on the
/// answers.
#[derive(Clone, PartialEq, Eq)]
pub struct FinalityView {
    finality: Arc<Finality>,
    /// `None` if all links are in memory, as in tests.
    archive: Option<Arc<Archive>>,
    /// From which approved sources the validators have voted.
    sources: Arc<VoteSources>,
    /// How many certificates this view rests on: two views of one node with the same number have
    /// the same approved checkpoints.
    certificates: u64,
}

/// Links that stay in memory: 150 bytes each. A certificate that arrives while a view is alive
/// copies them.
pub const LINKS_IN_MEMORY_MAX: usize = 256;

impl FinalityView {
    /// The view that these links give.
    #[must_use]
    pub fn new(finality: Finality) -> Self {
        Self {
            certificates: finality.links().count() as u64,
            finality: Arc::new(finality),
            archive: None,
            sources: Arc::default(),
        }
    }

    /// The view of a store that holds every link in this state.
    pub(super) fn on(finality: Finality, archive: Archive) -> Self {
        Self {
            archive: Some(Arc::new(archive)),
            ..Self::new(finality)
        }
    }

    /// Whether the answers so far are true: no look-up in the store has failed.
    ///
    /// # Errors
    /// [`StoreError`] if one has. Nothing may be decided by this view then.
    pub fn sound(&self) -> Result<(), StoreError> {
        self.archive
            .as_ref()
            .map_or(Ok(()), |archive| archive.sound())
    }

    /// Where the links are that memory does not hold.
    pub(super) fn older(&self) -> &dyn Links {
        match &self.archive {
            Some(archive) => archive.as_ref(),
            None => &NoLinks,
        }
    }

    /// The same view with these sources of votes.
    #[must_use]
    pub fn with_sources(self, sources: Arc<VoteSources>) -> Self {
        Self { sources, ..self }
    }

    /// The view without any certificate: only the genesis is approved and final.
    #[must_use]
    pub fn of_genesis(params: &ConsensusParams) -> Self {
        let genesis = Checkpoint::genesis(params.genesis_hash);
        Self::new(Finality::new(params.checkpoint_interval, genesis))
    }

    /// The highest approved checkpoint, the last final one, and whether certificates conflict.
    #[must_use]
    pub fn status(&self) -> FinalityStatus {
        FinalityStatus {
            approved: self.finality.highest_approved(),
            last_final: self.finality.last_final(),
            conflict: self.finality.conflict().is_some(),
        }
    }

    /// The last final block: the genesis until a certificate makes another one final.
    #[must_use]
    pub fn last_final(&self) -> Checkpoint {
        self.finality.last_final()
    }

    /// How many certificates this view rests on. What a caller has worked out from the approved
    /// checkpoints holds while this number stays.
    #[must_use]
    pub fn certificates(&self) -> u64 {
        self.certificates
    }

    /// Whether a quorum can still vote on a chain (protocol §8, rule 2).
    #[must_use]
    pub fn votable(&self, chain: &ChainFinality) -> bool {
        // # Consensus: §9 "fork choice (§8) looks at final blocks, work and arrival alone".
        self.conflict().is_some() || chain.votable(&self.sources)
    }

    /// Where a chain stands against the highest approved checkpoint (protocol §8).
    #[must_use]
    pub fn ground(&self, chain: &ChainFinality) -> Ground {
        if self.conflict().is_some() {
            return Ground::Contains;
        }
        chain.ground(self.status().approved.height)
    }

    /// The two links that conflict, the earlier one first, once two certificates do.
    #[must_use]
    pub fn conflict(&self) -> Option<(Link, Link)> {
        self.finality.conflict()
    }

    /// Whether a checkpoint is approved.
    #[must_use]
    pub fn is_approved(&self, checkpoint: &Checkpoint) -> bool {
        self.finality.is_approved(self.older(), checkpoint)
    }

    /// Approved checkpoints at or below a height, highest first.
    pub fn approved_below(&self, height: Height) -> impl Iterator<Item = Checkpoint> + '_ {
        let mut next = Some(height);
        let below = std::iter::from_fn(move || {
            let link = self.finality.at_or_below(self.older(), next?)?;
            next = link.target.height.checked_sub(1);
            Some(link.target)
        });
        below.fuse().chain(std::iter::once(self.genesis()))
    }

    /// The highest final checkpoint at or below a height, on whichever chain it is.
    ///
    /// Final checkpoints descend from one another. A node that has not reached the last final
    /// block yet tells the right chain by the ones before it.
    #[must_use]
    pub fn final_at(&self, height: Height) -> Checkpoint {
        self.finality.final_at(self.older(), height)
    }

    /// The highest final checkpoint up to height `top` that a chain contains, where `contains`
    /// tells whether it contains a given checkpoint. A chain that contains a final checkpoint
    /// contains all lower ones too, and every chain contains the genesis.
    ///
    /// # Errors
    /// The error of `contains`.
    pub fn highest_final<E>(
        &self,
        top: Height,
        contains: impl FnMut(&Checkpoint) -> Result<bool, E>,
    ) -> Result<Checkpoint, E> {
        highest_contained(|height| self.final_at(height), top, contains)
    }

    /// The highest final checkpoint up to height `top` that the best chain contains.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    pub fn highest_final_on_best(
        &self,
        from: &dyn Snapshot,
        top: Height,
    ) -> Result<Checkpoint, StoreError> {
        let found = self.highest_final(top, |checkpoint| {
            schema::is_best(from, &checkpoint.hash, checkpoint.height)
        })?;
        self.sound()?;
        Ok(found)
    }

    fn genesis(&self) -> Checkpoint {
        self.finality.genesis()
    }

    /// The highest approved checkpoint up to height `top` that the best chain contains: the source
    /// of the next vote. The search ends at the last final block at the latest, which the best
    /// chain contains as soon as the node has its blocks.
    ///
    /// # Errors
    /// [`StoreError`] if storage fails.
    pub fn highest_approved_on_best(
        &self,
        from: &dyn Snapshot,
        top: Height,
    ) -> Result<Checkpoint, StoreError> {
        for checkpoint in self.approved_below(top) {
            if schema::is_best(from, &checkpoint.hash, checkpoint.height)? {
                self.sound()?;
                return Ok(checkpoint);
            }
        }
        self.sound()?;
        // Every chain contains the genesis, and `approved_below` ends with it.
        Ok(self.final_at(Height::GENESIS))
    }

    /// The links behind the view, for the questions that only certificates and votes ask.
    pub(super) fn finality(&self) -> &Finality {
        &self.finality
    }

    /// Takes in the link of a checked certificate. Views that were cloned before stay as they are.
    pub(crate) fn accept(&mut self, link: Link) -> Result<Outcome, FinalityError> {
        let archive = self.archive.clone();
        let finality = Arc::make_mut(&mut self.finality);
        let outcome = match archive {
            None => finality.accept(link)?,
            Some(archive) => {
                let outcome = finality.accept_after(archive.as_ref(), link)?;
                finality.trim(LINKS_IN_MEMORY_MAX);
                outcome
            }
        };
        if outcome != Outcome::Known {
            self.certificates = self.certificates.saturating_add(1);
        }
        Ok(outcome)
    }
}

impl fmt::Debug for FinalityView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FinalityView").field(&self.status()).finish()
    }
}

/// The highest checkpoint of a path, up to height `top`, that a chain contains. `at` gives the
/// path's highest checkpoint at or below a height, and the genesis at height 0.
fn highest_contained<E>(
    at: impl Fn(Height) -> Checkpoint,
    top: Height,
    mut contains: impl FnMut(&Checkpoint) -> Result<bool, E>,
) -> Result<Checkpoint, E> {
    let first = at(top);
    if contains(&first)? {
        return Ok(first);
    }
    // The answer lies between a checkpoint that the chain contains and one that it lacks:
    // bisect.
    let (mut held, mut missing) = (at(Height::GENESIS), first.height.0);
    let mut low = 0_u64;
    while missing.saturating_sub(low) > 1 {
        let middle = low.saturating_add(missing.saturating_sub(low) / 2);
        let checkpoint = at(Height(middle));
        if checkpoint == held || contains(&checkpoint)? {
            held = checkpoint;
            low = middle;
        } else {
            missing = checkpoint.height.0;
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use pithead_consensus::BlockHash;

    use super::*;

    #[test]
    fn the_highest_that_a_chain_holds_is_found() {
        let path = [0_u64, 10, 20, 50, 60, 90];
        let at = |height: Height| Checkpoint {
            height: Height(*path.iter().rev().find(|at| **at <= height.0).unwrap()),
            hash: BlockHash([0; 32]),
        };
        for fork in [0, 5, 10, 15, 49, 50, 89, 90, 200] {
            for top in [0, 10, 55, 90, 1_000] {
                let holds = |found: &Checkpoint| Ok::<_, ()>(found.height.0 <= fork);
                let found = highest_contained(at, Height(top), holds).unwrap();
                assert_eq!(found, at(Height(fork.min(top))), "{fork} {top}");
            }
        }
    }

    #[test]
    fn a_view_stays_as_it_was_when_a_certificate_comes() {
        let checkpoint = |height: u64| Checkpoint {
            height: Height(height),
            hash: BlockHash([u8::try_from(height).unwrap(); 32]),
        };
        let link = |source, target| Link {
            source: checkpoint(source),
            target: checkpoint(target),
        };
        let mut view = FinalityView::new(Finality::new(10, checkpoint(0)));
        let before = view.clone();
        view.accept(link(0, 10)).unwrap();
        view.accept(link(10, 20)).unwrap();
        assert_eq!(view.last_final(), checkpoint(10));
        assert_eq!(view.status().preferred(), checkpoint(20));
        assert_eq!(before.status().preferred(), checkpoint(0));
        assert!(!before.is_approved(&checkpoint(10)));
    }
}
