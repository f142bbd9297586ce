//! A way from the tip to another block: how far it was gone, how much of it may be gone at a time,
//! and what becomes of a long one. Knows neither store nor rules. Start reading at [`Way`].

use std::sync::Arc;

use pithead_consensus::BlockHash;
use pithead_consensus::check::CheckedBlock;

use super::ChainPath;
use crate::store::schema::Staging;

/// How much of a reorganisation is worked out in one go. It ends with the block by which it reaches
/// one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Blocks, disconnected and connected.
    pub blocks: usize,
    /// Bytes of changes, keys and values, that are in memory. Those of one block may come on top:
    /// some 12 MB for 2,000 payments.
    pub bytes: usize,
}

/// What a reorganisation may hold in memory, and how long it may keep the core (node policy).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReorganisationLimits {
    /// A reorganisation within this happens at once.
    pub at_once: Budget,
    /// A longer one goes on by pieces of this size. As many bytes move in one commit afterwards.
    pub piece: Budget,
}

impl Default for ReorganisationLimits {
    fn default() -> Self {
        Self {
            at_once: Budget {
                blocks: 256,
                bytes: 32 << 20,
            },
            piece: Budget {
                blocks: 64,
                bytes: 8 << 20,
            },
        }
    }
}

/// A way from the tip to another block, and how far it was gone.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) path: ChainPath,
    /// How many blocks were disconnected and connected.
    pub(super) done: usize,
    /// The block at the end, if it is in memory.
    pub(super) end: Option<Arc<CheckedBlock>>,
}

/// The next block of a way.
pub(super) enum Step {
    Down(BlockHash),
    Up(BlockHash),
}

impl Way {
    pub(super) fn new(path: ChainPath, end: Option<Arc<CheckedBlock>>) -> Self {
        let done = 0;
        Self { path, done, end }
    }

    pub(super) fn next(&self) -> Option<Step> {
        let (down, up) = (&self.path.down, &self.path.up);
        match self.done.checked_sub(down.len()) {
            None => down.get(self.done).copied().map(Step::Down),
            Some(risen) => up.get(risen).copied().map(Step::Up),
        }
    }

    /// The blocks that were connected, oldest first.
    pub(super) fn connected(&self) -> &[BlockHash] {
        let risen = self.done.saturating_sub(self.path.down.len());
        self.path.up.get(..risen).unwrap_or_default()
    }

    /// The blocks that are still to be connected, oldest first.
    pub(super) fn left(&self) -> &[BlockHash] {
        self.path
            .up
            .get(self.connected().len()..)
            .unwrap_or_default()
    }

    pub(super) fn is_finished(&self) -> bool {
        self.next().is_none()
    }

    pub(super) fn building(&self) -> Option<Staging> {
        let target = *self.path.up.last()?;
        let done = self.done as u64;
        Some(Staging::Building { target, done })
    }
}

/// A long reorganisation: the state of [`Table::Staged`].
#[derive(Debug)]
pub(super) enum LongSwitch {
    /// It is being worked out. No reader sees any of it.
    Building(Box<Way>),
    /// It is in force. Its changes move into their tables.
    Live,
    /// It was given up. Its changes are deleted.
    Clearing,
}

/// What is to be done about chains among the stored ones that are better than the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    Nothing,
    /// There may be one: to be looked at when there is time.
    MayBeBetter,
    /// There is one. New blocks wait until it was looked at.
    IsBetter,
    /// There is one, but the way to it is long, and [`Table::Staged`] is occupied.
    ForRoom,
}
