//! A validator's vote record, on a disk that loses what was being written, and
//! what its key signed in truth.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pithead_consensus::{Link, VoteRecord};
use pithead_core::finality::{JournalError, VoteJournal};

use crate::dice::Dice;
use crate::rules;
use crate::settings::Plant;

/// Part of the votes at whose writing the process dies, where nodes crash: half
/// of them with the vote torn, which leaves it unwritten; half after it.
const DIES_AT_VOTE: f64 = 0.02;
/// Votes that a record loses in a crash, if it is not written durably.
const FORGOTTEN_VOTES: usize = 3;
/// Signatures within one event: a validator votes for two heights at a time, again
/// after each certificate that its vote completes.
const SIGNATURES_OF_ONE_EVENT_MAX: usize = 64;

/// The record of one validator; it outlives the node's crashes.
#[derive(Clone)]
pub(crate) struct Record(Arc<Mutex<Inner>>);

struct Inner {
    /// What is on disk.
    votes: Vec<Link>,
    /// With [`Plant::SignFirst`]: what will be, once this event is over.
    late: Vec<Link>,
    /// Everything that the key ever signed.
    signed: Vec<Link>,
    /// What this event put on record, each with how many effects came before.
    fresh: Vec<(usize, Link)>,
    effects: usize,
    signatures: usize,
    /// What the pen was made to do and must never do.
    broken: Option<String>,
    dice: Dice,
    crashes: bool,
    plant: Option<Plant>,
    /// The process has died at a vote.
    died: bool,
}

impl Record {
    pub(crate) fn new(seed: u64, index: usize, crashes: bool, plant: Option<Plant>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            votes: Vec::new(),
            late: Vec::new(),
            signed: Vec::new(),
            fresh: Vec::new(),
            effects: 0,
            signatures: 0,
            broken: None,
            dice: Dice::new(seed, &format!("votes {index}")),
            crashes,
            plant,
            died: false,
        })))
    }

    // Each change is whole.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node is given an event.
    pub(crate) fn begin(&self) {
        let mut inner = self.inner();
        let late = std::mem::take(&mut inner.late);
        inner.votes.extend(late);
        inner.fresh.clear();
        inner.effects = 0;
        inner.signatures = 0;
    }

    /// The node has let an effect out; returns whether its process had died by then.
    pub(crate) fn effect(&self) -> bool {
        let mut inner = self.inner();
        inner.effects += 1;
        inner.died
    }

    /// What this event put on record, each with how many effects came before.
    pub(crate) fn fresh(&self) -> Vec<(usize, Link)> {
        self.inner().fresh.clone()
    }

    /// Whether the process has died at a vote.
    pub(crate) fn has_died(&self) -> bool {
        self.inner().died
    }

    /// What the pen did against the rules, once.
    pub(crate) fn take_broken(&self) -> Option<String> {
        self.inner().broken.take()
    }

    /// Whether a vote is on disk.
    pub(crate) fn holds(&self, link: &Link) -> bool {
        self.inner().votes.contains(link)
    }

    /// The highest target that the key has signed.
    pub(crate) fn highest_target(&self) -> u64 {
        let inner = self.inner();
        let targets = inner.signed.iter().map(|vote| vote.target.height.0);
        targets.max().unwrap_or(0)
    }

    /// No process dies at its votes any more.
    pub(crate) fn calm(&self) {
        self.inner().crashes = false;
    }

    /// A crash: a record on disk stays; one that is not durable does not.
    pub(crate) fn crash(&self) {
        let mut inner = self.inner();
        inner.died = false;
        inner.late.clear();
        if inner.plant == Some(Plant::ForgetVotes) {
            let kept = inner.votes.len().saturating_sub(FORGOTTEN_VOTES);
            inner.votes.truncate(kept);
        }
    }

    /// What the node finds when it starts. Only a run with a planted fault holds
    /// votes that contradict each other: of those the earlier one stays.
    pub(crate) fn read_back(&self) -> VoteRecord {
        let mut record = VoteRecord::default();
        for link in &self.inner().votes {
            let _ = record.record(*link);
        }
        record
    }

    /// The pen signs a vote: an honest validator never contradicts itself.
    pub(crate) fn note_signed(&self, link: &Link) {
        let mut inner = self.inner();
        inner.signatures += 1;
        let endless = inner.signatures > SIGNATURES_OF_ONE_EVENT_MAX;
        let contradiction = inner
            .signed
            .iter()
            .find_map(|earlier| Some((*earlier, rules::broken(earlier, link)?)));
        if let Some((earlier, rule)) = contradiction {
            let (earlier, later) = (rules::words(&earlier), rules::words(link));
            let what = format!("an honest validator signed {earlier} and then {later}: {rule}");
            inner.broken.get_or_insert(what);
        }
        if !inner.signed.contains(link) {
            inner.signed.push(*link);
        }
        drop(inner);
        // Ends the run, as nothing else would: the node does not come back.
        assert!(!endless, "it signs and signs within one event");
    }

    /// The pen was given something that is no approval of its own.
    pub(crate) fn note_foreign(&self) {
        let what = "its pen was given something other than an approval of its own";
        self.inner().broken.get_or_insert(what.to_owned());
    }
}

impl VoteJournal for Record {
    fn append(&mut self, link: &Link) -> Result<(), JournalError> {
        let mut inner = self.inner();
        let dies = inner.crashes && inner.dice.happens(DIES_AT_VOTE);
        let torn = dies && inner.dice.happens(0.5);
        let effects = inner.effects;
        inner.fresh.push((effects, *link));
        if inner.plant == Some(Plant::SignFirst) {
            inner.late.push(*link);
        } else if !torn {
            inner.votes.push(*link);
        }
        inner.died |= dies;
        if dies {
            return Err(JournalError("the process dies here".to_owned()));
        }
        Ok(())
    }
}
