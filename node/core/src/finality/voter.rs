//! A validator's part: what to vote for, and that no signature leaves before the
//! vote is on record (protocol §9, rules 1 to 4).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use pithead_consensus::{
    Address, Approval, BlockHash, Height, Link, Signature, SignedApproval, VoteRecord,
};
use thiserror::Error;

/// Checkpoints whose arrival is remembered.
const REACHED_MAX: usize = 16;
/// Votes signed since the start that are remembered: only the last two
/// checkpoints are ever voted for.
const SIGNED_MAX: usize = 16;

/// No vote skips a checkpoint so soon after the start: others may have approved that one
/// while this node was away, and are asked about it within this time.
const LISTENING_MS: u64 = 5_000;

/// A validator's key.
pub trait Signer: Send {
    /// Its address.
    fn address(&self) -> Address;

    /// Signs a message (protocol §2).
    ///
    /// # Errors
    /// In words, if the system gives no randomness.
    fn sign(&self, message: &[u8]) -> Result<Signature, String>;
}

/// Why a vote is not on record: the signature must not leave then.
#[derive(Debug, Error)]
#[error("the vote record: {0}")]
pub struct JournalError(pub String);

/// Where votes are kept.
pub trait VoteJournal: Send {
    /// Puts a vote on record. It is durable on return: a crash of process or
    /// machine keeps it.
    ///
    /// # Errors
    /// [`JournalError`]; whether the vote is on record is unknown then.
    fn append(&mut self, link: &Link) -> Result<(), JournalError>;

    /// Sees to it that no later start votes on this record, since the key votes
    /// elsewhere too. A record that ends with its process has nothing to do.
    ///
    /// # Errors
    /// [`JournalError`] if the record stays open.
    fn close(&mut self) -> Result<(), JournalError> {
        Ok(())
    }
}

/// Signs this node's approvals.
pub struct Voter {
    signer: Box<dyn Signer>,
    journal: Box<dyn VoteJournal>,
    record: VoteRecord,
    /// When the best chain reached a checkpoint's height, milliseconds.
    reached: BTreeMap<Height, u64>,
    /// When this process first thought of voting, milliseconds.
    began_ms: Option<u64>,
    /// The votes signed last, oldest first.
    signed: VecDeque<Link>,
}

impl Voter {
    /// A validator with the votes that it has cast.
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

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// The votes cast.
    #[must_use]
    pub fn record(&self) -> &VoteRecord {
        &self.record
    }

    /// The vote cast for this height, if one was.
    pub(crate) fn vote_at(&self, target: Height) -> Option<Link> {
        let here = |link: &&Link| link.target.height == target;
        let signed = || self.signed.iter().find(here);
        self.record.vote_at(target).or_else(signed).copied()
    }

    /// Whether this process has signed a vote. Once is enough, whatever became of
    /// the approval since: a full pool may have let it go.
    pub(crate) fn has_signed(&self, link: &Link) -> bool {
        self.signed.contains(link)
    }

    /// How long the best chain has had a block of this height, milliseconds.
    pub(crate) fn waited_ms(&mut self, height: Height, now_ms: u64) -> u64 {
        let since = *self.reached.entry(height).or_insert(now_ms);
        if self.reached.len() > REACHED_MAX {
            // The one that came first, which need not be the lowest: a
            // reorganisation may lead to lower heights.
            let others = self.reached.iter().filter(|(other, _)| **other != height);
            let first = others.min_by_key(|(_, since)| **since);
            if let Some(first) = first.map(|(first, _)| *first) {
                self.reached.remove(&first);
            }
        }
        now_ms.saturating_sub(since)
    }

    /// Whether this process has been at it long enough to know what others have approved.
    pub(crate) fn has_listened(&mut self, now_ms: u64) -> bool {
        now_ms.saturating_sub(*self.began_ms.get_or_insert(now_ms)) >= LISTENING_MS
    }

    /// Puts a vote on record, if it is not there, then signs it. The caller has
    /// checked that it may be cast; rules 1 and 2 are checked here once more,
    /// right before the pen.
    ///
    /// # Errors
    /// [`JournalError`] if it is not on record for sure, or may not be.
    pub(crate) fn cast(
        &mut self,
        link: Link,
        genesis_hash: &BlockHash,
    ) -> Result<SignedApproval, JournalError> {
        #[cfg(feature = "fault-injection")]
        let lenient = crate::fault_injection::forget_others(&self.record, link.target.height)
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
            // With the fault planted, a vote that the record can't hold is known
            // from `signed` alone.
            let recorded = self.record.record(link);
            if !lenient {
                recorded.map_err(|error| JournalError(error.to_string()))?;
            }
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

    /// Looks at a sound approval that came from elsewhere. If it is by this key
    /// but was not cast here, another copy of the key is at work, or the record is
    /// older than its votes: the vote goes on record, the record is closed, and
    /// the reason is returned why this node must not vote any more.
    pub(crate) fn detect_doppelganger(&mut self, approval: &Approval) -> Option<String> {
        let link = &approval.link;
        if approval.validator != self.signer.address()
            || self.record.accounts_for(link)
            || self.has_signed(link)
        {
            return None;
        }
        let mut failures = String::new();
        // One that contradicts the record can't be on it; both are evidence.
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

    /// What was put on record, and whether the record was closed.
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
    fn a_vote_of_ones_own_from_elsewhere_closes_the_record() {
        let approval = |validator, link| Approval { validator, link };
        let journal = Journal::default();
        let mut voter = voter(&journal);
        voter.cast(link(0, 1), &BlockHash([0; 32])).unwrap();
        // One's own comes back, and others' are none of its business.
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
        // One that contradicts is not put on record, and stops it all the same.
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
    fn with_the_fault_planted_a_vote_is_cast_once() {
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
