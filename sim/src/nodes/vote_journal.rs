//! A validator's vote journal on a simulated disk, and the list of everything that the
//! validator's key has really signed.
//!
//! The disk can fail while a vote is written. The list of signatures survives every
//! crash: it is what the simulation knows, not what the node knows. The rules that votes
//! must keep are in `model::vote_rules`. Start reading at [`SimVoteJournal`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pithead_consensus::{Link, VoteRecord};
use pithead_core::finality::{JournalError, VoteJournal};

use crate::model::vote_rules;
use crate::rng::SimRng;
use crate::settings::InjectedFault;

/// Probability that a process dies while it writes a vote, in runs with crashes. In half
/// of these cases the vote is torn and so not written; in the other half it is written.
const DIES_AT_VOTE: f64 = 0.02;
/// How many votes a crash takes from a journal with [`InjectedFault::ForgetVotes`].
const FORGOTTEN_VOTES: usize = 3;
/// The most signatures within one event. A validator votes for two heights at a time,
/// and again after each certificate that its vote completes.
const SIGNATURES_PER_EVENT_MAX: usize = 64;

/// The vote journal of one validator. Clones share one disk, which outlives the node's
/// crashes.
#[derive(Clone)]
pub(crate) struct SimVoteJournal(Arc<Mutex<JournalState>>);

/// A vote that was written during the current event.
#[derive(Clone, Copy)]
pub(crate) struct CastVote {
    pub(crate) vote: Link,
    /// How many effects the node had produced before it wrote the vote.
    pub(crate) effects_before: usize,
}

struct JournalState {
    /// The votes on disk.
    votes: Vec<Link>,
    /// With [`InjectedFault::SignFirst`]: votes that reach the disk only after the
    /// current event.
    late: Vec<Link>,
    /// Every vote that the key has ever signed.
    signed: Vec<Link>,
    /// The votes of the current event.
    cast: Vec<CastVote>,
    /// Effects that the node has produced during the current event.
    effects: usize,
    /// Signatures that the key has made during the current event.
    signatures: usize,
    /// The first thing that the signer was asked for and that an honest validator must
    /// never sign, in words.
    violation: Option<String>,
    rng: SimRng,
    /// Whether the process may die while it writes a vote.
    crashes: bool,
    fault: Option<InjectedFault>,
    /// Whether the process has died while it wrote a vote.
    died: bool,
}

impl SimVoteJournal {
    /// The empty journal of the validator on node `index`. `crashes` says whether the
    /// process may die while it writes a vote.
    pub(crate) fn new(
        seed: u64,
        index: usize,
        crashes: bool,
        fault: Option<InjectedFault>,
    ) -> Self {
        Self(Arc::new(Mutex::new(JournalState {
            votes: Vec::new(),
            late: Vec::new(),
            signed: Vec::new(),
            cast: Vec::new(),
            effects: 0,
            signatures: 0,
            violation: None,
            rng: SimRng::new(seed, &format!("votes {index}")),
            crashes,
            fault,
            died: false,
        })))
    }

    // A panic leaves the state consistent: each change under the lock is complete.
    fn state(&self) -> MutexGuard<'_, JournalState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node is about to handle an event: the counts of the last event start again.
    pub(crate) fn begin_event(&self) {
        let mut state = self.state();
        let late = std::mem::take(&mut state.late);
        state.votes.extend(late);
        state.cast.clear();
        state.effects = 0;
        state.signatures = 0;
    }

    /// Counts an effect of the node. Returns whether its process had died before.
    pub(crate) fn count_effect(&self) -> bool {
        let mut state = self.state();
        state.effects += 1;
        state.died
    }

    /// The votes that were written during the current event.
    pub(crate) fn votes_cast(&self) -> Vec<CastVote> {
        self.state().cast.clone()
    }

    /// Whether the process has died while it wrote a vote.
    pub(crate) fn has_died(&self) -> bool {
        self.state().died
    }

    /// Takes out what the signer was asked for against the rules, in words.
    pub(crate) fn take_violation(&self) -> Option<String> {
        self.state().violation.take()
    }

    /// Whether a vote is on disk.
    pub(crate) fn contains(&self, vote: &Link) -> bool {
        self.state().votes.contains(vote)
    }

    /// The height of the highest target that the key has signed; 0 without votes.
    pub(crate) fn highest_target(&self) -> u64 {
        let state = self.state();
        let targets = state.signed.iter().map(|vote| vote.target.height.0);
        targets.max().unwrap_or(0)
    }

    /// From now on the process no longer dies while it writes votes.
    pub(crate) fn stop_crashes(&self) {
        self.state().crashes = false;
    }

    /// The process crashes. A durable journal keeps its votes; with
    /// [`InjectedFault::ForgetVotes`] it loses the last ones.
    pub(crate) fn crash(&self) {
        let mut state = self.state();
        state.died = false;
        state.late.clear();
        if state.fault == Some(InjectedFault::ForgetVotes) {
            let kept = state.votes.len().saturating_sub(FORGOTTEN_VOTES);
            state.votes.truncate(kept);
        }
    }

    /// The record that the node reads when it starts. Only with an injected fault can
    /// votes on disk contradict each other; then the earlier vote counts.
    pub(crate) fn read_back(&self) -> VoteRecord {
        let mut record = VoteRecord::default();
        for vote in &self.state().votes {
            let _ = record.record(*vote);
        }
        record
    }

    /// The signer signs a vote. An honest validator never contradicts itself, so the
    /// vote is compared with all earlier ones.
    ///
    /// # Panics
    /// After too many signatures within one event. The node would not return from it,
    /// and only a panic ends the run then.
    pub(crate) fn note_signed(&self, vote: &Link) {
        let mut state = self.state();
        state.signatures += 1;
        let endless = state.signatures > SIGNATURES_PER_EVENT_MAX;
        let contradiction = state
            .signed
            .iter()
            .find_map(|earlier| Some((*earlier, vote_rules::broken_rule(earlier, vote)?)));
        if let Some((earlier, rule)) = contradiction {
            let (earlier, later) = (
                vote_rules::describe_vote(&earlier),
                vote_rules::describe_vote(vote),
            );
            let what = format!("an honest validator signed {earlier} and then {later}: {rule}");
            state.violation.get_or_insert(what);
        }
        if !state.signed.contains(vote) {
            state.signed.push(*vote);
        }
        drop(state);
        assert!(
            !endless,
            "it signs more than {SIGNATURES_PER_EVENT_MAX} votes within one event"
        );
    }

    /// The signer was given a message that is no vote of its own validator.
    pub(crate) fn note_foreign(&self) {
        let what = "its signer was given a message that is no approval of its own validator";
        self.state().violation.get_or_insert(what.to_owned());
    }
}

impl VoteJournal for SimVoteJournal {
    fn append(&mut self, vote: &Link) -> Result<(), JournalError> {
        let mut state = self.state();
        let dies = state.crashes && state.rng.happens(DIES_AT_VOTE);
        let torn = dies && state.rng.happens(0.5);
        let effects_before = state.effects;
        state.cast.push(CastVote {
            vote: *vote,
            effects_before,
        });
        if state.fault == Some(InjectedFault::SignFirst) {
            state.late.push(*vote);
        } else if !torn {
            state.votes.push(*vote);
        }
        state.died |= dies;
        if dies {
            return Err(JournalError("the process dies here".to_owned()));
        }
        Ok(())
    }
}
