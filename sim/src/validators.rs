//! Validators in the simulation: their keys, vote records that crash, those that
//! vote for everything, and what must hold whatever they do (protocol §9).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pithead_consensus::approval::vote::offence;
use pithead_consensus::key::{MODULUS_LEN, SIGNATURE_LEN};
use pithead_consensus::{
    Address, Approval, BlockHash, Checkpoint, Height, Link, PublicKey, Signature, SignedApproval,
    VoteRecord,
};
use pithead_node::finality::{FinalityStatus, JournalError, Proof, Signer, VoteJournal, Voter};
use pithead_node::sync::Gossip;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{Pss, RsaPrivateKey};
use sha2::{Digest as _, Sha256};

use crate::dice::Dice;
use crate::member::Message;
use crate::settings::Plant;
use crate::wallets::KEYS;
use crate::world::{Happening, SECOND_US, Simulation, Violation};

/// Most validators of a run.
pub(crate) const VALIDATORS_MAX: usize = 25;
const KEY_BITS: usize = 2048;
/// Bytes of a salt (protocol §2).
const SALT_BYTES: usize = 32;
/// Part of the votes at whose writing the process dies, where nodes crash: half
/// of them before the vote is on record, half after.
const DIES_AT_VOTE: f64 = 0.02;
/// Votes that a record loses in a crash, if it is not written durably.
const FORGOTTEN_VOTES: usize = 3;
/// How long liars take to vote for a block, microseconds.
const LIARS_TAKE_US: u64 = 300_000;
/// Checkpoints that the approved one may be behind the tip once everything is well
/// again.
const LAG_CHECKPOINTS_MAX: u64 = 12;

/// A validator's key.
pub(crate) struct ValidatorKey {
    private: RsaPrivateKey,
    pub(crate) public: PublicKey,
    pub(crate) address: Address,
}

/// The keys, the same in every run: the published test keys, then others made
/// from their number.
pub(crate) fn keys() -> &'static [ValidatorKey] {
    static ALL: OnceLock<Vec<ValidatorKey>> = OnceLock::new();
    ALL.get_or_init(|| {
        std::thread::scope(|scope| {
            let makers: Vec<_> = (0..VALIDATORS_MAX)
                .map(|number| scope.spawn(move || make_key(number)))
                .collect();
            let made = makers.into_iter().filter_map(|maker| maker.join().ok());
            made.flatten().collect()
        })
    })
}

fn make_key(number: usize) -> Option<ValidatorKey> {
    let private = match KEYS.get(number) {
        Some(pem) => RsaPrivateKey::from_pkcs8_pem(pem).ok()?,
        None => {
            let mut dice = Dice::new(number as u64, "validator key");
            RsaPrivateKey::new(&mut dice, KEY_BITS).ok()?
        }
    };
    let mut modulus = private.n().to_bytes_be();
    while modulus.len() < MODULUS_LEN {
        modulus.insert(0, 0);
    }
    let public = PublicKey::from_modulus(&modulus).ok()?;
    Some(ValidatorKey {
        address: Address::of_key(&public),
        private,
        public,
    })
}

impl ValidatorKey {
    /// Signs with a salt from the message, so that a run replays exactly. (The
    /// node's own signer draws its salts from the system.)
    fn sign(&self, message: &[u8]) -> Option<Signature> {
        let hash = Sha256::digest(message);
        let (seed, _) = hash.split_first_chunk::<8>()?;
        let mut dice = Dice::new(u64::from_le_bytes(*seed), "salt");
        let padding = Pss::new_with_salt::<Sha256>(SALT_BYTES);
        let signature = self.private.sign_with_rng(&mut dice, padding, &hash).ok()?;
        let signature: [u8; SIGNATURE_LEN] = signature.try_into().ok()?;
        Some(Signature(Box::new(signature)))
    }
}

/// A validator's vote record, and everything that its honest key ever signed.
#[derive(Clone)]
pub(crate) struct Record(Arc<Mutex<RecordInner>>);

struct RecordInner {
    votes: Vec<Link>,
    signed: Vec<Link>,
    dice: Dice,
    crashes: bool,
    /// The process has died at a vote.
    died: bool,
}

impl Record {
    fn new(seed: u64, index: usize, crashes: bool) -> Self {
        Self(Arc::new(Mutex::new(RecordInner {
            votes: Vec::new(),
            signed: Vec::new(),
            dice: Dice::new(seed, &format!("votes {index}")),
            crashes,
            died: false,
        })))
    }

    // Each change is whole.
    fn inner(&self) -> MutexGuard<'_, RecordInner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the process has died at a vote since this was last asked.
    pub(crate) fn take_death(&self) -> bool {
        std::mem::take(&mut self.inner().died)
    }

    /// A crash: a record on disk stays; one that is not durable does not.
    pub(crate) fn crash(&self, plant: Option<Plant>) {
        if plant == Some(Plant::ForgetVotes) {
            let mut inner = self.inner();
            let kept = inner.votes.len().saturating_sub(FORGOTTEN_VOTES);
            inner.votes.truncate(kept);
        }
    }

    fn read_back(&self) -> VoteRecord {
        let mut record = VoteRecord::default();
        for link in &self.inner().votes {
            // A faulty run may hold votes that contradict; the first stand.
            let _ = record.record(*link);
        }
        record
    }
}

impl VoteJournal for Record {
    fn append(&mut self, link: &Link) -> Result<(), JournalError> {
        let mut inner = self.inner();
        let dies = inner.crashes && inner.dice.happens(DIES_AT_VOTE);
        let before = dies && inner.dice.happens(0.5);
        if !before {
            inner.votes.push(*link);
        }
        inner.died |= dies;
        if dies {
            return Err(JournalError("the process dies here".to_owned()));
        }
        Ok(())
    }
}

/// The key of a node.
struct NodeSigner(&'static ValidatorKey);

impl Signer for NodeSigner {
    fn address(&self) -> Address {
        self.0.address
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, String> {
        self.0
            .sign(message)
            .ok_or_else(|| "the key does not sign".to_owned())
    }
}

/// What is known of finality in a run.
#[derive(Debug, Default)]
pub(crate) struct FinalityWatch {
    /// Every block that was final anywhere, by height.
    last_final: BTreeMap<u64, BlockHash>,
    /// How often a node saw certificates conflict.
    pub(crate) conflicts: u64,
    /// Votes by liars.
    pub(crate) lies: u64,
}

impl Simulation {
    /// The record of a node that is a validator.
    pub(crate) fn record_of(&self, index: usize) -> Option<Record> {
        let validators = self.settings.validators;
        let crashes = self.weather.crash_secs.is_finite();
        (index < validators).then(|| Record::new(self.settings.seed, index, crashes))
    }

    /// Whether a validator's node votes honestly, now.
    fn votes(&self, index: usize) -> bool {
        let settings = &self.settings;
        let liar = index < settings.equivocators;
        // The silent ones are the last.
        let silent = index + settings.silent >= settings.validators;
        let away = silent && self.now_us < settings.secs * SECOND_US / 2;
        !liar && !away
    }

    pub(crate) fn voter(&self, index: usize) -> Option<Voter> {
        let record = self.members.get(index)?.record.clone()?;
        if !self.votes(index) {
            return None;
        }
        let key = keys().get(index)?;
        let votes = record.read_back();
        Some(Voter::new(
            Box::new(NodeSigner(key)),
            Box::new(record),
            votes,
        ))
    }

    /// The silent validators come back.
    pub(crate) fn wake_silent(&mut self) -> Result<(), Violation> {
        let validators = self.settings.validators;
        for index in validators.saturating_sub(self.settings.silent)..validators {
            if self.members[index].node.is_some() {
                self.crash_now(index)?;
            }
        }
        Ok(())
    }

    /// A validator's vote left its node: no honest one ever contradicts itself.
    pub(crate) fn check_vote(
        &mut self,
        index: usize,
        signed: &SignedApproval,
    ) -> Result<(), Violation> {
        let own = keys().get(index).map(|key| key.address);
        // What is passed on for others, or is a liar's, is none of its own.
        if own != Some(signed.approval.validator) || index < self.settings.equivocators {
            return Ok(());
        }
        let Some(record) = self.members[index].record.clone() else {
            return Ok(());
        };
        let link = signed.approval.link;
        let mut inner = record.inner();
        let broken = inner
            .signed
            .iter()
            .find_map(|earlier| offence(earlier, &link).map(|rule| (*earlier, rule)));
        if inner.signed.last() != Some(&link) {
            inner.signed.push(link);
        }
        drop(inner);
        match broken {
            None => Ok(()),
            Some((earlier, rule)) => {
                let what = format!(
                    "an honest validator voted {} → {} and then {} → {}: {rule:?}",
                    earlier.source.height,
                    earlier.target.height,
                    link.source.height,
                    link.target.height
                );
                Err(self.violation(Some(index), what))
            }
        }
    }

    /// Finality moved at an honest node: all that is final lies on one chain.
    pub(crate) fn check_final(
        &mut self,
        index: usize,
        status: &FinalityStatus,
    ) -> Result<(), Violation> {
        if status.conflict {
            return self.check_conflict(index);
        }
        let Checkpoint { height, hash } = status.last_final;
        // What was final lies on one chain already: its neighbours decide.
        let known = &self.finality.last_final;
        let below = known.range(..=height.0).next_back();
        let above = known.range(height.0.saturating_add(1)..).next();
        let conflict = [below, above].into_iter().flatten().find(|(at, other)| {
            let (low, low_hash, top) = if **at <= height.0 {
                (**at, **other, &hash)
            } else {
                (height.0, hash, *other)
            };
            self.ledger.ancestor(top, low) != Some(low_hash)
        });
        let conflict = conflict.map(|(at, other)| (*at, *other));
        if conflict.is_none() {
            self.finality.last_final.insert(height.0, hash);
        }
        match conflict {
            None => Ok(()),
            Some((other_height, other)) if !self.is_beyond_repair() => {
                let what = format!(
                    "two conflicting blocks are final: {other} at height {other_height} and {hash} at height {height}"
                );
                Err(self.violation(Some(index), what))
            }
            Some(_) => {
                self.finality.conflicts += 1;
                Ok(())
            }
        }
    }

    /// More validators lie than two quorums must share.
    fn is_beyond_repair(&self) -> bool {
        let (validators, quorum) = (self.settings.validators, self.settings.quorum());
        self.settings.equivocators >= (2 * quorum).saturating_sub(validators)
    }

    /// Two certificates conflict: allowed only if enough lie, and then the proofs
    /// name them.
    fn check_conflict(&mut self, index: usize) -> Result<(), Violation> {
        if !self.is_beyond_repair() {
            return Err(self.violation(Some(index), "two certificates conflict"));
        }
        self.finality.conflicts += 1;
        let accused = self.accused(index);
        let shared = 2 * self.settings.quorum() - self.settings.validators;
        if accused.len() < shared {
            let what = format!(
                "after a conflict its proofs name {} validators, fewer than {shared}",
                accused.len()
            );
            return Err(self.violation(Some(index), what));
        }
        Ok(())
    }

    fn accused(&self, index: usize) -> std::collections::BTreeSet<Address> {
        let Some(node) = &self.members[index].node else {
            return std::collections::BTreeSet::new();
        };
        let state = node.finality().read();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let proofs = state.proofs().iter();
        proofs
            .filter_map(|kept| match &kept.proof {
                Proof::Votes(evidence) => Some(evidence.validator()),
                Proof::Certificates(..) => None,
            })
            .collect()
    }

    /// No honest validator is ever accused; and where enough vote, finality has
    /// followed the tip.
    pub(crate) fn check_finality_at_end(&mut self) -> Result<(), Violation> {
        let settings = self.settings.clone();
        if settings.validators == 0 {
            return Ok(());
        }
        for index in 0..self.members.len() {
            if !self.members[index].is_honest() {
                continue;
            }
            let accused = self.accused(index);
            let honest = settings.equivocators..settings.validators;
            let mut honest = honest.filter_map(|number| Some(keys().get(number)?.address));
            if let Some(address) = honest.find(|address| accused.contains(address)) {
                let what = format!("it accuses {address:?}, an honest validator");
                return Err(self.violation(Some(index), what));
            }
            let Some(node) = &self.members[index].node else {
                continue;
            };
            let status = {
                let state = node.finality().read();
                state.unwrap_or_else(PoisonError::into_inner).status()
            };
            let tip = node.chain().tip().height.0;
            // What is approved, since after a long wait the first vote skips
            // checkpoints, and only the next one makes it final.
            let lag = tip.saturating_sub(status.approved.height.0);
            let most = LAG_CHECKPOINTS_MAX * u64::from(settings.checkpoint_interval);
            // Liars may refuse to vote for what the others need.
            let enough = settings.validators - settings.equivocators >= settings.quorum();
            if enough && lag > most && !status.conflict {
                let what = format!(
                    "what is approved is {lag} blocks behind its tip at height {tip}, more than {most}"
                );
                return Err(self.violation(Some(index), what));
            }
        }
        Ok(())
    }

    /// A block was found: liars vote for every checkpoint that there is.
    pub(crate) fn tempt_liars(&mut self, height: u64, hash: BlockHash) {
        let interval = u64::from(self.settings.checkpoint_interval);
        if self.settings.equivocators > 0 && height.is_multiple_of(interval) {
            self.after(LIARS_TAKE_US, Happening::Equivocate(height, hash));
        }
    }

    /// The liars approve a block, from whatever its finder's side has approved, and
    /// let both sides of a split know.
    pub(crate) fn equivocate(&mut self, height: u64, hash: BlockHash) -> Result<(), Violation> {
        let target = Checkpoint {
            height: Height(height),
            hash,
        };
        let Some(source) = self.source_for(&target) else {
            return Ok(());
        };
        let genesis = self.genesis.params.genesis_hash;
        for number in 0..self.settings.equivocators {
            let Some(key) = keys().get(number) else {
                continue;
            };
            let approval = Approval {
                validator: key.address,
                link: Link { source, target },
            };
            let Some(signature) = key.sign(&approval.signing_message(&genesis)) else {
                continue;
            };
            self.finality.lies += 1;
            let signed = SignedApproval {
                approval,
                signature,
            };
            let message = Arc::new(Message::new(Gossip::Approval(Box::new(signed))));
            for side in [0, 1] {
                self.slip(side, &message);
            }
        }
        Ok(())
    }

    /// The highest approved checkpoint, at any honest node, that the target
    /// builds on.
    fn source_for(&self, target: &Checkpoint) -> Option<Checkpoint> {
        self.members
            .iter()
            .filter(|member| member.is_honest())
            .filter_map(|member| {
                let state = member.node.as_ref()?.finality().read();
                let approved = state
                    .unwrap_or_else(PoisonError::into_inner)
                    .status()
                    .approved;
                let below = approved.height < target.height;
                let on_chain =
                    self.ledger.ancestor(&target.hash, approved.height.0) == Some(approved.hash);
                (below && on_chain).then_some(approved)
            })
            .max()
    }

    /// Gives a message to some node of a side, as if a neighbour had sent it.
    fn slip(&mut self, side: u8, message: &Arc<Message>) {
        let all: Vec<(usize, pithead_node::sync::PeerKey)> = (0..self.members.len())
            .filter(|index| self.side[*index] == side && self.members[*index].is_honest())
            .filter_map(|index| {
                let (peer, _) = self.members[index].links.first_key_value()?;
                Some((index, *peer))
            })
            .collect();
        if let Some((index, peer)) = self.dice.liars.pick(&all) {
            self.after(1_000, Happening::Gossip(index, peer, Arc::clone(message)));
        }
    }
}
