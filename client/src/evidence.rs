//! What a node knows of its network's validators, and the proofs that it holds
//! against them (protocol §9). A proof needs no trust: it is checked here, with
//! the keys whose hashes are the validators' addresses, and whom it accuses is
//! read from what they signed.

use std::collections::BTreeSet;

use pithead_api::v1;
use pithead_consensus::approval::finality::certificates_conflict;
use pithead_consensus::approval::vote::Offence;
use pithead_consensus::genesis::Network;
use pithead_consensus::{
    Address, AddressPrefix, Certificate, Checkpoint, Decode, Evidence, Genesis, PublicKey,
    Validators,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::chain::Chain;
use crate::connection::Client;
use crate::error::ClientError;

/// Proofs asked for at a time.
const PAGE: u32 = 100;
/// Most proofs that are read: a node keeps few for each validator.
const PROOFS_MAX: usize = 10_000;
/// Validators named in a message: two certificates may have a thousand.
const NAMED_MAX: usize = 3;

/// A proof that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvidenceProblem {
    /// The node's list of validators contradicts itself.
    #[error("the node lists {address} with a key that is not its own")]
    BadValidator {
        /// Whose key it is said to be.
        address: String,
    },
    /// A proof of another network.
    #[error("it is of the network with genesis {found}, not {expected}")]
    OtherNetwork {
        /// The genesis that the proof names.
        found: String,
        /// The genesis at hand.
        expected: String,
    },
    /// The bytes are not what the kind says.
    #[error("it can't be read: {0}")]
    Malformed(String),
    /// What is in it does not break a rule, or is not signed by a validator.
    #[error("it proves nothing: {0}")]
    ProvesNothing(String),
    /// It says of itself what its bytes do not show.
    #[error("it names {named}, but its bytes show {shown}")]
    Misnamed {
        /// Whom it accuses, or which block it says was approved.
        named: String,
        /// Who signed, or which block was approved.
        shown: String,
    },
    /// A kind that this program does not know.
    #[error("its kind is unknown to this program")]
    UnknownKind,
}

/// A proof by itself, for a file: with the network's genesis at hand, anyone can
/// check it without a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedProof {
    /// Name of the network.
    pub network: String,
    /// Hash of its genesis block, which every signature in the proof covers.
    pub genesis_hash: String,
    /// `double_vote`, `surround_vote` or `conflicting_certificates`.
    pub kind: String,
    /// Who misbehaved, as the node said. This and the targets are held against the
    /// bytes.
    pub validators: Vec<String>,
    /// Height of what the first approves.
    pub first_target_height: u64,
    /// Hash of what the first approves.
    pub first_target_hash: String,
    /// Height of what the second approves.
    pub second_target_height: u64,
    /// Hash of what the second approves.
    pub second_target_hash: String,
    /// Signed approval or certificate in its consensus encoding (protocol §9).
    pub first_hex: String,
    /// The other.
    pub second_hex: String,
    /// When the node came to keep it, UTC; nothing that could be checked.
    pub seen_time: Option<String>,
}

impl SavedProof {
    /// A proof that a node of this chain served.
    #[must_use]
    pub fn new(proof: &v1::Evidence, chain: &Chain, seen_time: Option<String>) -> Self {
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

    /// Checks it against the validators of a genesis.
    ///
    /// # Errors
    /// [`EvidenceProblem`] says why it proves nothing, or not what it says.
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

/// The kinds of proofs.
const KINDS: [v1::EvidenceKind; 3] = [
    v1::EvidenceKind::DoubleVote,
    v1::EvidenceKind::SurroundVote,
    v1::EvidenceKind::ConflictingCertificates,
];

/// A kind in JSON and in names of files.
#[must_use]
pub fn kind_name(kind: v1::EvidenceKind) -> &'static str {
    match kind {
        v1::EvidenceKind::Unspecified => "unknown",
        v1::EvidenceKind::DoubleVote => "double_vote",
        v1::EvidenceKind::SurroundVote => "surround_vote",
        v1::EvidenceKind::ConflictingCertificates => "conflicting_certificates",
    }
}

impl Client {
    /// The validators of the genesis, in its order, and what the node has seen
    /// of them.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn validators(&self) -> Result<v1::ListValidatorsResponse, ClientError> {
        self.read(|| {
            let mut network = self.network();
            async move { network.list_validators(v1::ListValidatorsRequest {}).await }
        })
        .await
    }

    /// Every proof of misbehaviour that the node keeps, oldest first; 10,000 at
    /// most.
    ///
    /// # Errors
    /// [`ClientError`], from the transport or from the node.
    pub async fn evidence(&self) -> Result<Vec<v1::Evidence>, ClientError> {
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListEvidenceRequest {
                page_size: PAGE,
                page_token,
            };
            let page = self
                .read(|| {
                    let (mut network, request) = (self.network(), request.clone());
                    async move { network.list_evidence(request).await }
                })
                .await?;
            found.extend(page.evidence);
            page_token = page.next_page_token;
            if page_token.is_empty() || found.len() >= PROOFS_MAX {
                found.truncate(PROOFS_MAX);
                return Ok(found);
            }
        }
    }
}

/// The validators as a node lists them, each with the key that is its own.
///
/// # Errors
/// [`EvidenceProblem::BadValidator`].
pub fn validators_of(
    chain: &Chain,
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
    // Votes are checked with four things of a genesis; the others don't matter.
    let mut genesis: Genesis = Network::Dev
        .genesis()
        .map_err(|error| EvidenceProblem::Malformed(error.to_string()))?;
    genesis.params.genesis_hash = chain.genesis_hash;
    genesis.params.checkpoint_interval = parameters.checkpoint_interval.max(1);
    genesis.params.approval_quorum = listed.approval_quorum;
    genesis.validators = keys;
    Ok(Validators::of_genesis(&genesis))
}

/// Checks a proof: signatures, membership, that a rule is broken, and that it
/// names whom and what its bytes show. The prefix is that of the network's addresses.
///
/// # Errors
/// [`EvidenceProblem`] says why it proves nothing, or not what it says.
pub fn check(
    proof: &v1::Evidence,
    validators: &Validators,
    prefix: &AddressPrefix,
) -> Result<(), EvidenceProblem> {
    let nothing = |what: &dyn ToString| EvidenceProblem::ProvesNothing(what.to_string());
    let (accused, targets): (Vec<Address>, [Checkpoint; 2]) = match proof.kind() {
        v1::EvidenceKind::Unspecified => return Err(EvidenceProblem::UnknownKind),
        v1::EvidenceKind::ConflictingCertificates => {
            let first: Certificate = decoded(&proof.first)?;
            let second: Certificate = decoded(&proof.second)?;
            for certificate in [&first, &second] {
                certificate
                    .check(validators)
                    .map_err(|error| nothing(&error))?;
            }
            if !certificates_conflict(first.link(), second.link()) {
                return Err(nothing(&"the two certificates do not conflict"));
            }
            (
                signers_of_both(&first, &second),
                [first.link().target, second.link().target],
            )
        }
        kind => {
            // Two signed approvals one after the other are the encoding of evidence.
            let both = [&proof.first[..], &proof.second[..]].concat();
            let evidence: Evidence = decoded(&both)?;
            let found = evidence
                .check(validators)
                .map_err(|error| nothing(&error))?;
            let claimed = match kind {
                v1::EvidenceKind::DoubleVote => Offence::DoubleVote,
                _ => Offence::SurroundVote,
            };
            if found != claimed {
                return Err(nothing(&"another rule is broken than it says"));
            }
            let (first, second) = evidence.approvals();
            (
                vec![evidence.validator()],
                [first.approval.link.target, second.approval.link.target],
            )
        }
    };
    check_accused(&proof.validators, &accused, prefix)?;
    let [first, second] = targets;
    check_target(proof.first_target_height, &proof.first_target_hash, &first)?;
    check_target(
        proof.second_target_height,
        &proof.second_target_hash,
        &second,
    )
}

/// Who approved two things of which an honest validator approves one at most.
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

/// Whether those named are those who signed, in whichever order.
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

/// Some addresses in words, first those that the other list lacks. Both lists
/// are sorted.
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

/// Whether the block named is the one that was approved.
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
