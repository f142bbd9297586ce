//! The approvals in memory, found by validator and by link. Knows no certificates. Start reading at
//! [`Pool::insert`].

use std::collections::{BTreeMap, BTreeSet};

use pithead_consensus::{
    Address, Approval, BlockHash, Checkpoint, Height, Link, SignedApproval, VerifiedApproval,
};

/// Most approvals of one validator with one target height. The second one proves an offence; a
/// third one would say nothing new.
const OF_ONE_TARGET_MAX: usize = 2;
/// Most target heights of one validator; a new one displaces the lowest.
const TARGETS_OF_ONE_MAX: usize = 128;

/// Approvals whose signatures were verified.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool {
    links: BTreeMap<Link, BTreeMap<Address, VerifiedApproval>>,
    /// The links of each validator by target height.
    votes: BTreeMap<Address, BTreeMap<Height, BTreeSet<Link>>>,
}

impl Pool {
    pub(super) fn len(&self) -> usize {
        self.links.values().map(BTreeMap::len).sum()
    }

    pub(super) fn contains(&self, validator: &Address, link: &Link) -> bool {
        self.links
            .get(link)
            .is_some_and(|approvals| approvals.contains_key(validator))
    }

    /// Whether there is room for one more approval of a validator with this target height.
    pub(super) fn has_room(&self, validator: &Address, target: Height) -> bool {
        let Some(votes) = self.votes.get(validator) else {
            return true;
        };
        let here = votes.get(&target).map_or(0, BTreeSet::len);
        let lowest = votes.first_key_value().map(|(height, _)| *height);
        here < OF_ONE_TARGET_MAX
            && (here > 0
                || votes.len() < TARGETS_OF_ONE_MAX
                || lowest.is_some_and(|lowest| lowest < target))
    }

    pub(super) fn insert(&mut self, verified: VerifiedApproval) {
        let Approval { validator, link } = verified.signed().approval;
        let votes = self.votes.entry(validator).or_default();
        votes.entry(link.target.height).or_default().insert(link);
        let dropped = if votes.len() > TARGETS_OF_ONE_MAX {
            votes.pop_first().map(|(_, links)| links)
        } else {
            None
        };
        let approvals = self.links.entry(link).or_default();
        approvals.insert(validator, verified);
        for link in dropped.into_iter().flatten() {
            self.remove(&validator, &link);
        }
    }

    fn remove(&mut self, validator: &Address, link: &Link) {
        if let Some(approvals) = self.links.get_mut(link) {
            approvals.remove(validator);
            if approvals.is_empty() {
                self.links.remove(link);
            }
        }
    }

    /// Drops approvals with a target below this height.
    pub(super) fn forget_below(&mut self, height: Height) {
        self.links.retain(|link, _| link.target.height >= height);
        for votes in self.votes.values_mut() {
            *votes = votes.split_off(&height);
        }
        self.votes.retain(|_, votes| !votes.is_empty());
    }

    /// All approvals of one validator.
    pub(super) fn of<'a>(
        &'a self,
        validator: &'a Address,
    ) -> impl Iterator<Item = SignedApproval> + 'a {
        let votes = self.votes.get(validator).into_iter();
        let links = votes.flat_map(|votes| votes.values().flatten());
        links.filter_map(|link| self.signed(validator, link))
    }

    fn signed(&self, validator: &Address, link: &Link) -> Option<SignedApproval> {
        let verified = self.links.get(link)?.get(validator)?;
        Some(verified.signed().clone())
    }

    pub(super) fn count(&self, link: &Link) -> usize {
        self.links.get(link).map_or(0, BTreeMap::len)
    }

    /// The approvals of a link, with the proof that they were verified.
    pub(super) fn verified(&self, link: &Link) -> Vec<VerifiedApproval> {
        let approvals = self.links.get(link).into_iter().flatten();
        approvals.map(|(_, verified)| verified.clone()).collect()
    }

    fn approvals(&self, link: &Link) -> Vec<SignedApproval> {
        let approvals = self.links.get(link).into_iter().flatten();
        approvals
            .map(|(_, verified)| verified.signed().clone())
            .collect()
    }

    /// The links that start at a checkpoint, ascending by target.
    pub(super) fn links_from(&self, source: &Checkpoint) -> Vec<Link> {
        let lowest = Link {
            source: *source,
            target: Checkpoint {
                height: Height(0),
                hash: BlockHash([0; 32]),
            },
        };
        self.links
            .range(lowest..)
            .map(|(link, _)| *link)
            .take_while(|link| link.source == *source)
            .collect()
    }

    /// The validators that approved a checkpoint, whatever the source of their vote.
    pub(super) fn approvers(&self, target: &Checkpoint) -> impl Iterator<Item = Address> {
        self.approvals_of(target)
            .into_iter()
            .map(|each| each.approval.validator)
    }

    /// The approvals of a checkpoint, whatever their source, by validator.
    pub(super) fn approvals_of(&self, target: &Checkpoint) -> Vec<SignedApproval> {
        let mut found = Vec::new();
        for (validator, votes) in &self.votes {
            let links = votes.get(&target.height).into_iter().flatten();
            let of_target = links.filter(|link| link.target == *target);
            found.extend(of_target.filter_map(|link| self.signed(validator, link)));
        }
        found
    }

    /// At most `max` approvals with a target above a height, highest target first.
    pub(super) fn above(&self, height: Height, max: usize) -> Vec<SignedApproval> {
        let mut links: Vec<&Link> = self
            .links
            .keys()
            .filter(|link| link.target.height > height)
            .collect();
        links.sort_by(|a, b| b.target.cmp(&a.target).then(a.source.cmp(&b.source)));
        links
            .into_iter()
            .flat_map(|link| self.approvals(link))
            .take(max)
            .collect()
    }
}
