//! Proofs that validators broke a rule (protocol §9), and checking them. Start
//! with [`check`].
//!
//! A proof needs no trust in the node that served it. The check uses the keys
//! whose hashes are the validators' addresses, and reads the accused validators
//! from the signed bytes, not from what the node says of them. It asks no node.

use std::collections::BTreeSet;

use pithead_api::v1;
use pithead_consensus::approval::finality::certificates_conflict;
use pithead_consensus::approval::vote::VoteOffence;
use pithead_consensus::genesis::Network;
use pithead_consensus::{
    Address, AddressPrefix, Certificate, Checkpoint, Decode, Evidence, Genesis, PublicKey,
    Validators,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::chain::ChainIdentity;

/// Most validators that a message names: two certificates may have a thousand
/// in common.
const NAMED_MAX: usize = 3;

/// Why a proof is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvidenceProblem {
    /// The node's list of validators contradicts itself.
    #[error("the node lists {address} with a key that is not its own")]
    BadValidator {
        /// The validator's address, to which the listed key does not belong.
        address: String,
    },
    /// The proof is about another network.
    #[error("it is of the network with genesis {found}, not {expected}")]
    OtherNetwork {
        /// The genesis that the proof names.
        found: String,
        /// The genesis that the user checks against.
        expected: String,
    },
    /// The bytes are no encoding of what the kind says.
    #[error("it can't be read: {0}")]
    Malformed(String),
    /// The signed messages break no rule, or no validator signed them.
    #[error("it proves nothing: {0}")]
    ProvesNothing(String),
    /// The proof names other validators or blocks than its bytes show.
    #[error("it names {named}, but its bytes show {shown}")]
    Misnamed {
        /// The validators that it accuses, or the block that it says was approved.
        named: String,
        /// The validators that signed, or the block that was approved.
        shown: String,
    },
    /// The proof is of a kind that this program does not know.
    #[error("its kind is unknown to this program")]
    UnknownKind,
}

/// A proof by itself, for a file: with the network's genesis at hand, anyone can
/// check it without a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedProof {
    /// Name of the network, as the node tells it.
    pub network: String,
    /// Hash of its genesis block, which every signature in the proof covers.
    pub genesis_hash: String,
    /// `double_vote`, `surround_vote` or `conflicting_certificates`.
    pub kind: String,
    /// Addresses of the accused validators, as the node said. The check compares
    /// them, and the targets below, with the bytes.
    pub validators: Vec<String>,
    /// Height of the block that the first message approves.
    pub first_target_height: u64,
    /// Hash of the block that the first message approves.
    pub first_target_hash: String,
    /// Height of the block that the second message approves.
    pub second_target_height: u64,
    /// Hash of the block that the second message approves.
    pub second_target_hash: String,
    /// The first signed approval or certificate, in its consensus encoding
    /// (protocol §9).
    pub first_hex: String,
    /// The second one, which contradicts the first.
    pub second_hex: String,
    /// When the node first saw the proof, in UTC. This can't be checked.
    pub seen_time: Option<String>,
}

impl SavedProof {
    /// Takes a proof that a node of this chain served.
    #[must_use]
    pub fn new(proof: &v1::Evidence, chain: &ChainIdentity, seen_time: Option<String>) -> Self {
        Self {
            network: chain.network.clone(),
            genesis_hash: chain.genesis_hash.to_string(),
            kind: kind_name(proof.kind()).to_owned(),
            validators: proof.validators.clone(),
            first_target_height: proof.first_target_height,
            first_target_hash: proof.first_target_hash.clone(),
            second_target_height: proof.second_target_height,
            second_target_hash: proof.second_target_hash.clone(),
            first_hex: hex::encode(&proof.first),
            second_hex: hex::encode(&proof.second),
            seen_time,
        }
    }

    /// Checks the proof against the validators of a genesis.
    ///
    /// # Errors
    /// [`EvidenceProblem`] says why the proof is not believed.
    pub fn check(&self, genesis: &Genesis) -> Result<(), EvidenceProblem> {
        let expected = genesis.params.genesis_hash.to_string();
        if self.genesis_hash != expected {
            return Err(EvidenceProblem::OtherNetwork {
                found: self.genesis_hash.clone(),
                expected,
            });
        }
        let kind = KINDS.iter().find(|kind| kind_name(**kind) == self.kind);
        let bytes = |digits: &str| {
            hex::decode(digits).map_err(|error| EvidenceProblem::Malformed(error.to_string()))
        };
        let proof = v1::Evidence {
            kind: kind.copied().unwrap_or_default().into(),
            validators: self.validators.clone(),
            first: bytes(&self.first_hex)?.into(),
            second: bytes(&self.second_hex)?.into(),
            first_target_height: self.first_target_height,
            first_target_hash: self.first_target_hash.clone(),
            second_target_height: self.second_target_height,
            second_target_hash: self.second_target_hash.clone(),
            ..v1::Evidence::default()
        };
        check(&proof, &Validators::of_genesis(genesis), &genesis.prefix)
    }
}

/// Every kind of proof that a node serves.
const KINDS: [v1::EvidenceKind; 3] = [
    v1::EvidenceKind::DoubleVote,
    v1::EvidenceKind::SurroundVote,
    v1::EvidenceKind::ConflictingCertificates,
];

/// The name of a kind in JSON and in file names, such as `double_vote`.
#[must_use]
pub fn kind_name(kind: v1::EvidenceKind) -> &'static str {
    match kind {
        v1::EvidenceKind::Unspecified => "unknown",
        v1::EvidenceKind::DoubleVote => "double_vote",
        v1::EvidenceKind::SurroundVote => "surround_vote",
        v1::EvidenceKind::ConflictingCertificates => "conflicting_certificates",
    }
}

/// The validators as a node lists them, after a check that each key belongs to
/// the address beside it.
///
/// # Errors
/// [`EvidenceProblem::BadValidator`].
pub fn validators_of(
    chain: &ChainIdentity,
    parameters: &v1::ConsensusParameters,
    listed: &v1::ListValidatorsResponse,
) -> Result<Validators, EvidenceProblem> {
    let mut keys = Vec::with_capacity(listed.validators.len());
    for validator in &listed.validators {
        let bad = || EvidenceProblem::BadValidator {
            address: validator.address.clone(),
        };
        let key = PublicKey::from_modulus(&validator.public_key).map_err(|_| bad())?;
        if chain.address_text(&Address::of_key(&key)) != validator.address {
            return Err(bad());
        }
        keys.push(key);
    }
    // Checking a vote takes four values of a genesis: its hash, the checkpoint
    // interval, the quorum and the keys. The other values may be any network's.
    let mut genesis: Genesis = Network::Dev
        .genesis()
        .map_err(|error| EvidenceProblem::Malformed(error.to_string()))?;
    genesis.params.genesis_hash = chain.genesis_hash;
    genesis.params.checkpoint_interval = parameters.checkpoint_interval.max(1);
    genesis.params.approval_quorum = listed.approval_quorum;
    genesis.validators = keys;
    Ok(Validators::of_genesis(&genesis))
}

/// Checks a proof: the signatures, that validators made them, that they break a
/// rule, and that the proof names the same validators and blocks as its bytes.
/// `prefix` is that of the network's addresses.
///
/// # Errors
/// [`EvidenceProblem`] says why the proof is not believed.
pub fn check(
    proof: &v1::Evidence,
    validators: &Validators,
    prefix: &AddressPrefix,
) -> Result<(), EvidenceProblem> {
    let shown = match proof.kind() {
        v1::EvidenceKind::Unspecified => return Err(EvidenceProblem::UnknownKind),
        v1::EvidenceKind::ConflictingCertificates => certificates(proof, validators)?,
        v1::EvidenceKind::DoubleVote => votes(proof, validators, VoteOffence::DoubleVote)?,
        v1::EvidenceKind::SurroundVote => votes(proof, validators, VoteOffence::SurroundVote)?,
    };
    check_accused(&proof.validators, &shown.accused, prefix)?;
    let [first, second] = shown.targets;
    check_target(proof.first_target_height, &proof.first_target_hash, &first)?;
    check_target(
        proof.second_target_height,
        &proof.second_target_hash,
        &second,
    )
}

/// What the bytes of a proof show once their signatures are checked.
struct Shown {
    /// Addresses of the validators that broke the rule.
    accused: Vec<Address>,
    /// The blocks that the first and the second message approve.
    targets: [Checkpoint; 2],
}

fn proves_nothing(what: &dyn ToString) -> EvidenceProblem {
    EvidenceProblem::ProvesNothing(what.to_string())
}

/// Checks two certificates that should conflict.
fn certificates(proof: &v1::Evidence, validators: &Validators) -> Result<Shown, EvidenceProblem> {
    let first: Certificate = decoded(&proof.first)?;
    let second: Certificate = decoded(&proof.second)?;
    for certificate in [&first, &second] {
        certificate
            .check(validators)
            .map_err(|error| proves_nothing(&error))?;
    }
    if !certificates_conflict(first.link(), second.link()) {
        return Err(proves_nothing(&"the two certificates do not conflict"));
    }
    Ok(Shown {
        accused: signers_of_both(&first, &second),
        targets: [first.link().target, second.link().target],
    })
}

/// Checks two votes of one validator that should break the rule `claimed`.
fn votes(
    proof: &v1::Evidence,
    validators: &Validators,
    claimed: VoteOffence,
) -> Result<Shown, EvidenceProblem> {
    // Two signed approvals one after the other are the encoding of evidence.
    let both = [&proof.first[..], &proof.second[..]].concat();
    let evidence: Evidence = decoded(&both)?;
    let found = evidence
        .check(validators)
        .map_err(|error| proves_nothing(&error))?;
    if found != claimed {
        return Err(proves_nothing(&"another rule is broken than it says"));
    }
    let (first, second) = evidence.approvals();
    Ok(Shown {
        accused: vec![evidence.validator()],
        targets: [first.approval.link.target, second.approval.link.target],
    })
}

/// The validators that signed both of two conflicting certificates. An honest
/// validator signs one of them at most.
fn signers_of_both(first: &Certificate, second: &Certificate) -> Vec<Address> {
    let of_second: BTreeSet<Address> = second
        .approvals()
        .map(|each| each.approval.validator)
        .collect();
    first
        .approvals()
        .map(|each| each.approval.validator)
        .filter(|validator| of_second.contains(validator))
        .collect()
}

/// Compares the accused validators with those that signed, in any order.
fn check_accused(
    named: &[String],
    accused: &[Address],
    prefix: &AddressPrefix,
) -> Result<(), EvidenceProblem> {
    let mut named = named.to_vec();
    let mut shown: Vec<String> = accused
        .iter()
        .map(|address| address.to_text(prefix))
        .collect();
    named.sort();
    shown.sort();
    if named == shown {
        return Ok(());
    }
    Err(EvidenceProblem::Misnamed {
        named: listed(&named, &shown),
        shown: listed(&shown, &named),
    })
}

/// The first addresses of a list in words, beginning with those that the other
/// list lacks. Both lists are sorted.
fn listed(own: &[String], other: &[String]) -> String {
    let (odd, common): (Vec<&String>, Vec<&String>) = own
        .iter()
        .partition(|address| other.binary_search(address).is_err());
    let first: Vec<&str> = odd
        .into_iter()
        .chain(common)
        .map(String::as_str)
        .take(NAMED_MAX)
        .collect();
    match own.len().saturating_sub(first.len()) {
        0 if first.is_empty() => "nobody".to_owned(),
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// Compares the block that a proof names with the one that was approved.
fn check_target(height: u64, hash: &str, shown: &Checkpoint) -> Result<(), EvidenceProblem> {
    let block = |height: u64, hash: &str| format!("block {hash} at height {height}");
    let (shown_height, shown_hash) = (shown.height.0, shown.hash.to_string());
    if height == shown_height && hash == shown_hash {
        return Ok(());
    }
    Err(EvidenceProblem::Misnamed {
        named: block(height, hash),
        shown: block(shown_height, &shown_hash),
    })
}

fn decoded<T: Decode>(bytes: &[u8]) -> Result<T, EvidenceProblem> {
    T::decode(bytes).map_err(|error| EvidenceProblem::Malformed(error.to_string()))
}
