//! Each validator's vote with the highest approved source. Fork choice counts them (protocol §8,
//! rule 2), peers are given them, and the store keeps them. Start reading at
//! [`LeadingVotes::note`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pithead_consensus::approval::vote_sources::VoteSources;
use pithead_consensus::{Address, Decode as _, Encode as _, SignedApproval, Validators};

use crate::store::{Batch, Snapshot, StoreError, Table};

/// One vote for each validator at most, as many as the genesis has validators.
#[derive(Debug, Clone)]
pub(super) struct LeadingVotes {
    votes: BTreeMap<Address, SignedApproval>,
    sources: Arc<VoteSources>,
    /// Validators whose vote is not on record yet. A vote in a certificate is on record with it.
    unrecorded: BTreeSet<Address>,
}

impl LeadingVotes {
    pub(super) fn new(validators: &Validators) -> Self {
        Self {
            votes: BTreeMap::new(),
            sources: Arc::new(VoteSources::new(validators.len(), validators.quorum())),
            unrecorded: BTreeSet::new(),
        }
    }

    /// Takes in a verified vote from an approved source. `on_record` tells whether the store has
    /// it. Returns whether it leads now.
    pub(super) fn note(&mut self, signed: &SignedApproval, on_record: bool) -> bool {
        let validator = signed.approval.validator;
        let source = signed.approval.link.source.height;
        // Most votes come in a row from one source; those need no copy of the sources.
        if self.votes.contains_key(&validator) && self.sources.highest(&validator) >= source {
            return false;
        }
        Arc::make_mut(&mut self.sources).note(validator, source);
        self.votes.insert(validator, signed.clone());
        if on_record {
            self.unrecorded.remove(&validator);
        } else {
            self.unrecorded.insert(validator);
        }
        true
    }

    /// The sources of all these votes, for fork choice.
    pub(super) fn sources(&self) -> Arc<VoteSources> {
        Arc::clone(&self.sources)
    }

    /// Adds the changes to a batch that put the leading votes on record which are not yet.
    pub(super) fn put_unrecorded(&mut self, batch: &mut Batch) {
        for validator in std::mem::take(&mut self.unrecorded) {
            if let Some(signed) = self.votes.get(&validator) {
                batch.put(Table::LeadingVotes, validator.0, signed.encode());
            }
        }
    }

    /// The votes, by validator.
    pub(super) fn iter(&self) -> impl Iterator<Item = &SignedApproval> {
        self.votes.values()
    }

    /// Whether this very vote leads.
    pub(super) fn contains(&self, signed: &SignedApproval) -> bool {
        let vote = self.votes.get(&signed.approval.validator);
        vote.is_some_and(|vote| vote.approval.link == signed.approval.link)
    }
}

/// The votes on record. There are no more than validators.
pub(super) fn read_all(
    from: &dyn Snapshot,
    validators: &Validators,
) -> Result<Vec<SignedApproval>, StoreError> {
    let damaged = |reason: String| StoreError::Damaged(format!("a validator's vote: {reason}"));
    let found = from.range(
        Table::LeadingVotes,
        &[],
        &[0xff; 33],
        validators.len(),
        false,
    )?;
    let decode = |bytes: &[u8]| {
        let signed = SignedApproval::decode(bytes).map_err(|error| damaged(error.to_string()))?;
        validators
            .check(&signed)
            .map_err(|error| damaged(error.to_string()))?;
        Ok(signed)
    };
    found.iter().map(|(_, bytes)| decode(bytes)).collect()
}
