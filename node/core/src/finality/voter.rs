//! The key and the vote record of this node's validator: no signature leaves before its vote is on
//! record (protocol §9, rules 1 to 4). Knows neither the chain nor which vote is due. Start reading
//! at [`Voter::cast`].

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use pithead_consensus::{
    Address, Approval, BlockHash, Height, Link, Signature, SignedApproval, VoteRecord,
};
use thiserror::Error;

/// Most checkpoint heights whose arrival is remembered.
const REACHED_MAX: usize = 16;
/// Most votes signed since the start that are remembered. Only the last two checkpoints are ever
/// voted for.
const SIGNED_MAX: usize = 16;
/// Votes that stay in memory one by one: a day of the main network. A floor stands for those
/// below; it forbids more than they do, never less. The journal keeps every vote.
pub(crate) const VOTES_IN_MEMORY_MAX: usize = 1_024;

/// Within this time after the start, no vote skips a checkpoint: other validators may have approved
/// it while this node was away, and this node asks for their approvals first.
const LISTENING_MS: u64 = 5_000;

/// A validator's key.
pub trait Signer: Send {
    /// The address of the key: it identifies the validator.
    fn address(&self) -> Address;

    /// Signs a message (protocol §2).
    ///
    /// # Errors
    /// A message for the operator, if the system gives no randomness.
    fn sign(&self, message: &[u8]) -> Result<Signature, String>;
}

/// Why a vote may not be on record. Its signature must not leave.
#[derive(Debug, Error)]
#[error("the vote record: {0}")]
pub struct JournalError(pub String);

/// Where the votes of a validator are kept.
pub trait VoteJournal: Send {
    /// Puts a vote on record. On return it survives a crash of the process or the machine.
    ///
    /// # Errors
    /// [`JournalError`]: it is unknown whether the vote is on record.
    fn append(&mut self, link: &Link) -> Result<(), JournalError>;

    /// Closes the record for ever, because the key votes elsewhere too: no later start may vote on
    /// it. A record that ends with its process needs to do nothing.
    ///
    /// # Errors
    /// [`JournalError`] if the record stays open.
    fn close(&mut self) -> Result<(), JournalError> {
        Ok(())
    }
}

/// Signs the approvals of this node.
pub struct Voter {
    signer: Box<dyn Signer>,
    journal: Box<dyn VoteJournal>,
    record: VoteRecord,
    /// When the best chain first reached a checkpoint height, milliseconds.
    reached: BTreeMap<Height, u64>,
    /// When this process first had a vote to consider, milliseconds.
    began_ms: Option<u64>,
    /// The votes signed last, oldest first.
    signed: VecDeque<Link>,
}

impl Voter {
    /// A validator whose key has cast the votes of `record`.
    #[must_use]
    pub fn new(signer: Box<dyn Signer>, journal: Box<dyn VoteJournal>, record: VoteRecord) -> Self {
        Self {
            signer,
            journal,
            record,
            reached: BTreeMap::new(),
            began_ms: None,
            signed: VecDeque::new(),
        }
    }

    /// The address of the validator.
    #[must_use]
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// The votes cast so far.
    #[must_use]
    pub fn record(&self) -> &VoteRecord {
        &self.record
    }

    /// The vote cast for this height, if there is one.
    pub(crate) fn vote_at(&self, target: Height) -> Option<Link> {
        let here = |link: &&Link| link.target.height == target;
        let signed = || self.signed.iter().find(here);
        self.record.vote_at(target).or_else(signed).copied()
    }

    /// Whether this process has signed a vote. It never signs one twice, even if a full pool has
    /// dropped the approval since.
    pub(crate) fn has_signed(&self, link: &Link) -> bool {
        self.signed.contains(link)
    }

    /// How long the best chain has had a block of this height, milliseconds.
    pub(crate) fn waited_ms(&mut self, height: Height, now_ms: u64) -> u64 {
        let since = *self.reached.entry(height).or_insert(now_ms);
        if self.reached.len() > REACHED_MAX {
            // Drop the height that was reached first. It need not be the lowest, because a
            // reorganisation may lead to lower heights.
            let others = self.reached.iter().filter(|(other, _)| **other != height);
            let first = others.min_by_key(|(_, since)| **since);
            if let Some(first) = first.map(|(first, _)| *first) {
                self.reached.remove(&first);
            }
        }
        now_ms.saturating_sub(since)
    }

    /// Whether this process has run long enough to know what other validators have approved.
    pub(crate) fn has_listened(&mut self, now_ms: u64) -> bool {
        now_ms.saturating_sub(*self.began_ms.get_or_insert(now_ms)) >= LISTENING_MS
    }

    /// Puts a vote on record, unless it is there, then signs it. The caller has checked that the vote
    /// may be cast; rules 1 and 2 are checked once more right before the signature.
    ///
    /// # Errors
    /// [`JournalError`] if the vote breaks rule 1 or 2, or may not be on record.
    pub(crate) fn cast(
        &mut self,
        link: Link,
        genesis_hash: &BlockHash,
    ) -> Result<SignedApproval, JournalError> {
        #[cfg(feature = "fault-injection")]
        let lenient = crate::fault_injection::record_of_height(&self.record, link.target.height)
            .is_some_and(|fewer| fewer.check(&link).is_ok());
        #[cfg(not(feature = "fault-injection"))]
        let lenient = false;
        if let Err(error) = self.record.check(&link)
            && !lenient
        {
            return Err(JournalError(error.to_string()));
        }
        if self.record.vote_at(link.target.height).is_none() {
            self.journal.append(&link)?;
            // Under fault injection, the record may refuse the vote: then only `signed` knows it.
            let recorded = self.record.record(link);
            if !lenient {
                recorded.map_err(|error| JournalError(error.to_string()))?;
            }
            self.record.keep_highest(VOTES_IN_MEMORY_MAX);
        }
        let approval = Approval {
            validator: self.signer.address(),
            link,
        };
        let message = approval.signing_message(genesis_hash);
        let signature = self.signer.sign(&message).map_err(JournalError)?;
        if self.signed.len() >= SIGNED_MAX {
            self.signed.pop_front();
        }
        self.signed.push_back(link);
        Ok(SignedApproval {
            approval,
            signature,
        })
    }

    /// Checks whether a sound approval from the network shows that this node's key votes elsewhere.
    /// An approval by this key that was not cast here means that another copy of the key is in use,
    /// or that the record is an old copy. Then the vote goes on record, the record is closed, and
    /// the reason why this node must not vote any more is returned.
    pub(crate) fn detect_doppelganger(&mut self, approval: &Approval) -> Option<String> {
        let link = &approval.link;
        if approval.validator != self.signer.address()
            || self.record.accounts_for(link)
            || self.has_signed(link)
        {
            return None;
        }
        let mut failures = String::new();
        // The record refuses a vote that contradicts it. The two together are evidence anyway.
        if self.record.record(*link).is_ok()
            && let Err(error) = self.journal.append(link)
        {
            failures = format!("; {error}");
        }
        if let Err(error) = self.journal.close() {
            failures = format!("{failures}; {error}: do not start this validator again");
        }
        Some(format!(
            "an approval of height {} by this validator's key came from the network and is not on its record: the key votes on another machine too, or the record here is an old copy. This node votes no more. Find the other copy and stop it; then see `pithead-node votes import` and `votes repair`{failures}",
            link.target.height
        ))
    }
}

impl fmt::Debug for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Voter({:?})", self.address())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use pithead_consensus::Checkpoint;
    use pithead_consensus::key::SIGNATURE_LEN;
    use std::sync::{Arc, Mutex};

    const ADDRESS: Address = Address([3; 32]);

    struct Key;

    impl Signer for Key {
        fn address(&self) -> Address {
            ADDRESS
        }

        fn sign(&self, _: &[u8]) -> Result<Signature, String> {
            Ok(Signature(Box::new([1; SIGNATURE_LEN])))
        }
    }

    /// The votes put on record, and whether the record was closed.
    #[derive(Clone, Default)]
    struct Journal(Arc<Mutex<(Vec<Link>, bool)>>);

    impl VoteJournal for Journal {
        fn append(&mut self, link: &Link) -> Result<(), JournalError> {
            self.0.lock().unwrap().0.push(*link);
            Ok(())
        }

        fn close(&mut self) -> Result<(), JournalError> {
            self.0.lock().unwrap().1 = true;
            Ok(())
        }
    }

    fn voter(journal: &Journal) -> Voter {
        Voter::new(
            Box::new(Key),
            Box::new(journal.clone()),
            VoteRecord::default(),
        )
    }

    fn link(source: u64, target: u64) -> Link {
        let checkpoint = |height| Checkpoint {
            height: Height(height),
            hash: BlockHash([height as u8; 32]),
        };
        Link {
            source: checkpoint(source),
            target: checkpoint(target),
        }
    }

    #[test]
    fn waiting_counts_from_the_arrival_at_whatever_height() {
        let mut voter = voter(&Journal::default());
        for height in 100..200 {
            assert_eq!(voter.waited_ms(Height(height), height), 0);
        }
        // A better chain may be lower.
        assert_eq!(voter.waited_ms(Height(50), 1_000), 0);
        assert_eq!(voter.waited_ms(Height(50), 1_400), 400);
        assert_eq!(voter.waited_ms(Height(199), 1_400), 1_201);
        assert!(voter.reached.len() <= REACHED_MAX);
    }

    #[test]
    fn a_vote_is_signed_once_whatever_becomes_of_it() {
        let journal = Journal::default();
        let mut voter = voter(&journal);
        for target in 1..=100 {
            let vote = link(target - 1, target);
            assert!(!voter.has_signed(&vote));
            voter.cast(vote, &BlockHash([0; 32])).unwrap();
            assert!(voter.has_signed(&vote));
            assert_eq!(voter.vote_at(Height(target)), Some(vote));
        }
        assert!(voter.signed.len() <= SIGNED_MAX);
        assert_eq!(journal.0.lock().unwrap().0.len(), 100);
        assert!(voter.cast(link(0, 101), &BlockHash([0; 32])).is_err());
        assert_eq!(journal.0.lock().unwrap().0.len(), 100, "never written");
    }

    #[test]
    fn votes_in_memory_are_bounded_and_still_bar_what_they_barred() {
        let journal = Journal::default();
        let mut voter = voter(&journal);
        let last = VOTES_IN_MEMORY_MAX as u64 + 50;
        for target in 1..=last {
            voter
                .cast(link(target - 1, target), &BlockHash([0; 32]))
                .unwrap();
        }
        assert_eq!(voter.record().len(), VOTES_IN_MEMORY_MAX);
        assert_eq!(journal.0.lock().unwrap().0.len() as u64, last);
        // Each old vote still counts: its target is taken, and nothing may surround it.
        for target in 1..=50 {
            let mut other = link(target - 1, target);
            other.target.hash = BlockHash([99; 32]);
            assert!(voter.cast(other, &BlockHash([0; 32])).is_err());
            let surrounding = link(target.saturating_sub(2), last + 1);
            assert!(voter.cast(surrounding, &BlockHash([0; 32])).is_err());
        }
        assert_eq!(journal.0.lock().unwrap().0.len() as u64, last);
        // An old vote of its own that comes back from the network is no doppelganger.
        let approval = Approval {
            validator: ADDRESS,
            link: link(3, 4),
        };
        assert_eq!(voter.detect_doppelganger(&approval), None);
    }

    #[test]
    fn a_vote_of_ones_own_from_elsewhere_closes_the_record() {
        let approval = |validator, link| Approval { validator, link };
        let journal = Journal::default();
        let mut voter = voter(&journal);
        voter.cast(link(0, 1), &BlockHash([0; 32])).unwrap();
        // This validator's own vote may come back from the network. Votes of other validators
        // prove nothing.
        assert_eq!(
            voter.detect_doppelganger(&approval(ADDRESS, link(0, 1))),
            None
        );
        let other = Address([4; 32]);
        assert_eq!(
            voter.detect_doppelganger(&approval(other, link(0, 2))),
            None
        );
        assert!(!journal.0.lock().unwrap().1);
        let reason = voter
            .detect_doppelganger(&approval(ADDRESS, link(1, 2)))
            .unwrap();
        assert!(reason.contains("height 2"), "{reason}");
        assert_eq!(
            *journal.0.lock().unwrap(),
            (vec![link(0, 1), link(1, 2)], true)
        );
        // A vote that contradicts is not put on record, and stops the validator all the same.
        let mut foreign = link(0, 1);
        foreign.target.hash = BlockHash([9; 32]);
        assert!(
            voter
                .detect_doppelganger(&approval(ADDRESS, foreign))
                .is_some()
        );
        assert_eq!(journal.0.lock().unwrap().0.len(), 2);
    }

    #[cfg(feature = "fault-injection")]
    #[test]
    fn under_fault_injection_a_vote_is_cast_once() {
        let journal = Journal::default();
        let mut voter = voter(&journal);
        voter.cast(link(5, 6), &BlockHash([0; 32])).unwrap();
        crate::fault_injection::allow_surround(true);
        let surrounding = link(0, 7);
        voter.cast(surrounding, &BlockHash([0; 32])).unwrap();
        assert_eq!(voter.vote_at(Height(7)), Some(surrounding));
        assert!(voter.has_signed(&surrounding));
        crate::fault_injection::allow_surround(false);
        assert_eq!(journal.0.lock().unwrap().0, [link(5, 6), surrounding]);
    }
}
