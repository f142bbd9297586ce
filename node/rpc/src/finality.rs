//! What the API shows of finality (protocol §9): how far blocks are secured,
//! approvals, validators, and proofs of misbehaviour.

use std::sync::{PoisonError, RwLockReadGuard};

use pithead_api::convert;
use pithead_api::v1;
use pithead_consensus::approval::vote::Offence;
use pithead_consensus::{Address, Checkpoint, Encode as _, Evidence, Height, Link, SignedApproval};
use tonic::Status;

use super::chain::bad_field;
use super::page::{page_size, slice};
use super::reader::{Reader, internal};
use super::{Api, status};
use pithead_core::finality::{FinalityState, FinalityStatus, KeptProof, Proof, certificate_at};
use pithead_core::store::schema::{self, BlockStatus, ChainEntry};

/// Proofs of a page, unless the caller says otherwise.
const EVIDENCE_PAGE: usize = 100;
/// Most proofs of a page: two certificates of the largest network are half a
/// megabyte.
const EVIDENCE_PAGE_MAX: usize = 1_000;
/// Bytes of proofs after which a page ends.
const EVIDENCE_BYTES_MAX: usize = 2 * 1024 * 1024;

impl Api {
    /// Approvals and what they secure, for reading.
    pub(super) fn finality(&self) -> RwLockReadGuard<'_, FinalityState> {
        self.engine
            .finality_state()
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Approved checkpoints above the last final one that are looked at: there are more
/// only where validators seldom agree.
const APPROVED_LOOKED_AT: usize = 1_000;

/// What a reader knows of finality: that of the moment when it was made, as far
/// as its best chain has it. On the way to the last final block, or on another branch,
/// that is the highest final checkpoint which the chain contains.
#[derive(Debug, Clone, Copy)]
pub(super) struct Secured {
    /// Whether there are validators.
    pub(super) active: bool,
    pub(super) status: FinalityStatus,
    /// Height up to which the best chain is approved.
    approved_to: Height,
    /// Height up to which it is final.
    final_to: Height,
}

impl Secured {
    /// `is_best` says whether a checkpoint is on the best chain, whose tip is at
    /// `tip`. The snapshot behind both must not be older than the state.
    pub(super) fn new(
        state: &FinalityState,
        tip: Height,
        mut is_best: impl FnMut(&Checkpoint) -> Result<bool, Status>,
    ) -> Result<Self, Status> {
        let status = state.status();
        let view = state.view();
        let final_to = view.highest_final(tip, &mut is_best)?.height;
        let mut approved_to = final_to;
        let above = view
            .approved_below(tip)
            .take_while(|checkpoint| checkpoint.height > final_to);
        for checkpoint in above.take(APPROVED_LOOKED_AT) {
            if is_best(&checkpoint)? {
                approved_to = checkpoint.height;
                break;
            }
        }
        Ok(Self {
            active: state.is_active(),
            status,
            approved_to,
            final_to,
        })
    }

    /// How far a block of the best chain is secured.
    pub(super) fn of_height(&self, height: Height) -> v1::Finality {
        if !self.active {
            v1::Finality::Unspecified
        } else if height <= self.final_to {
            v1::Finality::Final
        } else if height <= self.approved_to {
            v1::Finality::Approved
        } else {
            v1::Finality::Pending
        }
    }

    /// Where a transaction stands that is in a block of this height.
    pub(super) fn of_mined(&self, height: Height) -> v1::TransactionState {
        match self.of_height(height) {
            // The genesis block is final everywhere.
            _ if height == Height::GENESIS => v1::TransactionState::Final,
            v1::Finality::Final => v1::TransactionState::Final,
            v1::Finality::Approved => v1::TransactionState::Approved,
            v1::Finality::Pending | v1::Finality::Unspecified => v1::TransactionState::Mined,
        }
    }
}

/// The approvals of a checkpoint: those at hand, and those that only its
/// certificate still holds.
pub(super) fn approvals_of(
    api: &Api,
    reader: &Reader<'_>,
    entry: &ChainEntry,
) -> Result<Vec<v1::Approval>, Status> {
    let hash = entry.hash();
    let mut found = api.finality().approvals_of(entry.height, &hash);
    let certificate = certificate_at(reader.snapshot(), entry.height).map_err(internal)?;
    if let Some(certificate) = certificate.filter(|found| found.link().target.hash == hash) {
        let known = |signed: &SignedApproval| {
            let mut found = found.iter();
            found.any(|other| other.approval == signed.approval)
        };
        let others: Vec<_> = certificate
            .approvals()
            .filter(|signed| !known(signed))
            .collect();
        found.extend(others);
    }
    found.sort();
    Ok(found
        .iter()
        .map(|signed| api.chain.approval(signed))
        .collect())
}

pub(super) fn list_approvals(
    api: &Api,
    reader: &Reader<'_>,
    request: &v1::ListApprovalsRequest,
) -> Result<v1::ListApprovalsResponse, Status> {
    use v1::list_approvals_request::Checkpoint;
    let last = |height: Height| api.finality().checkpoint_height(height);
    let entry = match &request.checkpoint {
        None => reader.entry_at(last(reader.tip().height))?,
        Some(Checkpoint::Height(height)) => reader.entry_at(Height(*height))?,
        Some(Checkpoint::BlockHash(text)) => {
            let hash = convert::block_hash("block_hash", text).map_err(bad_field)?;
            reader
                .entry(&hash)?
                .filter(|entry| entry.status != BlockStatus::Invalid)
                .ok_or_else(|| {
                    status::not_found("BLOCK_NOT_FOUND", format!("no block with hash {text}"))
                })?
        }
        Some(Checkpoint::Tag(tag)) => match v1::BlockTag::try_from(*tag) {
            Ok(v1::BlockTag::Head | v1::BlockTag::Unspecified) => {
                reader.entry_at(last(reader.tip().height))?
            }
            Ok(v1::BlockTag::Approved) => reader.approved()?,
            Ok(v1::BlockTag::Final) => reader.last_final()?,
            Err(_) => return Err(super::chain::no_tag(*tag)),
        },
    };
    if last(entry.height) != entry.height {
        let interval = api.engine.genesis().params.checkpoint_interval;
        return Err(status::invalid(
            "height",
            format!(
                "block {} is no checkpoint: every {interval}th block is one, such as {}",
                entry.height,
                last(entry.height)
            ),
        ));
    }
    let certificate = certificate_at(reader.snapshot(), entry.height).map_err(internal)?;
    let certificate = certificate.filter(|found| found.link().target.hash == entry.hash());
    let best = schema::is_best(reader.snapshot(), &entry.hash(), entry.height).map_err(internal)?;
    Ok(v1::ListApprovalsResponse {
        approvals: approvals_of(api, reader, &entry)?,
        checkpoint: Some(reader.header(&entry)),
        finality: reader.finality_of(entry.height, best).into(),
        approval_quorum: api.engine.genesis().params.approval_quorum,
        certificate: certificate
            .map_or_else(Vec::new, |found| found.encode())
            .into(),
    })
}

pub(super) fn list_validators(api: &Api) -> v1::ListValidatorsResponse {
    let genesis = api.engine.genesis();
    let state = api.finality();
    let validators = genesis.validators.iter().map(|key| {
        let address = Address::of_key(key);
        let seen = state.seen(&address);
        let (approved, out_of) = state.participation(&address);
        let accused = state.proofs().iter().filter(|kept| match &kept.proof {
            Proof::Votes(evidence) => evidence.validator() == address,
            Proof::Certificates(..) => false,
        });
        v1::Validator {
            address: api.chain.address_text(&address),
            public_key: key.modulus().to_vec().into(),
            last_approval: seen.map(|seen| api.chain.approval(&seen.approval)),
            last_approval_time: seen.and_then(|seen| seen.time).map(convert::timestamp),
            recent_approvals: u32::try_from(approved).unwrap_or(u32::MAX),
            recent_checkpoints: u32::try_from(out_of).unwrap_or(u32::MAX),
            evidence_count: u32::try_from(accused.count()).unwrap_or(u32::MAX),
            is_this_node: state.own() == Some(address),
        }
    });
    v1::ListValidatorsResponse {
        validators: validators.collect(),
        approval_quorum: genesis.params.approval_quorum,
    }
}

pub(super) fn list_evidence(
    api: &Api,
    request: &v1::ListEvidenceRequest,
) -> Result<v1::ListEvidenceResponse, Status> {
    let mut size = page_size(request.page_size, EVIDENCE_PAGE, EVIDENCE_PAGE_MAX);
    let all: Vec<v1::Evidence> = {
        let state = api.finality();
        state
            .proofs()
            .iter()
            .map(|kept| evidence(api, kept))
            .collect()
    };
    // Certificates of a large network are large themselves.
    let largest = all.iter().map(|each| each.first.len() + each.second.len());
    let largest = largest.max().unwrap_or(1).max(1);
    size = size.min((EVIDENCE_BYTES_MAX / largest).max(1));
    let (evidence, next_page_token) = slice(all, size, &request.page_token)?;
    Ok(v1::ListEvidenceResponse {
        evidence,
        next_page_token,
    })
}

fn evidence(api: &Api, kept: &KeptProof) -> v1::Evidence {
    let (kind, validators, first, second, links): (_, Vec<Address>, _, _, [Link; 2]) =
        match &kept.proof {
            Proof::Votes(evidence) => {
                let (first, second) = evidence.approvals();
                (
                    kind_of(evidence),
                    vec![evidence.validator()],
                    first.encode(),
                    second.encode(),
                    [first.approval.link, second.approval.link],
                )
            }
            Proof::Certificates(first, second) => {
                let of_second: Vec<Address> = second
                    .approvals()
                    .map(|each| each.approval.validator)
                    .collect();
                let both = first
                    .approvals()
                    .map(|each| each.approval.validator)
                    .filter(|validator| of_second.contains(validator));
                (
                    v1::EvidenceKind::ConflictingCertificates,
                    both.collect(),
                    first.encode(),
                    second.encode(),
                    [*first.link(), *second.link()],
                )
            }
        };
    let text = |validator: &Address| api.chain.address_text(validator);
    let [a, b] = links;
    v1::Evidence {
        kind: kind.into(),
        validators: validators.iter().map(text).collect(),
        first: first.into(),
        second: second.into(),
        first_target_height: a.target.height.0,
        first_target_hash: a.target.hash.to_string(),
        second_target_height: b.target.height.0,
        second_target_hash: b.target.hash.to_string(),
        seen_time: Some(convert::timestamp(kept.time)),
    }
}

fn kind_of(evidence: &Evidence) -> v1::EvidenceKind {
    let (first, second) = evidence.approvals();
    match Evidence::of(first, second).map(|(_, offence)| offence) {
        Some(Offence::SurroundVote) => v1::EvidenceKind::SurroundVote,
        Some(Offence::DoubleVote) => v1::EvidenceKind::DoubleVote,
        None => v1::EvidenceKind::Unspecified,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use pithead_consensus::genesis::Network;
    use pithead_consensus::{BlockHash, Certificate, Decode as _};

    use super::*;
    use pithead_core::store::{Batch, MemoryStore, Store as _};

    fn checkpoint(height: u64) -> Checkpoint {
        Checkpoint {
            height: Height(height),
            hash: BlockHash([u8::try_from(height).unwrap(); 32]),
        }
    }

    /// A state with certificates of 10, 20, 30 and 40: those on record are believed.
    fn state() -> FinalityState {
        let genesis = Network::Main.genesis_file().check().unwrap();
        let store = MemoryStore::new();
        let mut batch = Batch::default();
        let first = Checkpoint::genesis(genesis.params.genesis_hash);
        let path = [
            first,
            checkpoint(10),
            checkpoint(20),
            checkpoint(30),
            checkpoint(40),
        ];
        for pair in path.windows(2) {
            let link = Link {
                source: pair[0],
                target: pair[1],
            };
            let raw = [vec![1], link.encode(), vec![0; 4]].concat();
            pithead_core::finality::put_certificate(
                &mut batch,
                &Certificate::decode(&raw).unwrap(),
            );
        }
        store.commit(&batch).unwrap();
        FinalityState::open(&genesis, store.snapshot().unwrap().as_ref()).unwrap()
    }

    /// How far a chain is secured whose tip is at `tip` and that leaves what is
    /// approved after `fork`.
    fn secured(tip: u64, fork: u64) -> (u64, u64) {
        let is_best = |checkpoint: &Checkpoint| Ok(checkpoint.height.0 <= fork);
        let secured = Secured::new(&state(), Height(tip), is_best).unwrap();
        (secured.approved_to.0, secured.final_to.0)
    }

    #[test]
    fn a_chain_is_secured_as_far_as_it_has_what_is_secured() {
        assert_eq!(secured(45, 45), (40, 30));
        // On the way there.
        assert_eq!(secured(35, 35), (30, 30));
        assert_eq!(secured(29, 29), (20, 20));
        assert_eq!(secured(9, 9), (0, 0));
        // On another branch.
        assert_eq!(secured(45, 35), (30, 30));
        assert_eq!(secured(45, 12), (10, 10));
        assert_eq!(secured(45, 3), (0, 0));
    }
}
