//! Approvals, validators and proofs of misbehaviour (protocol §9), as the API shows them.

use std::collections::{BTreeMap, BTreeSet};

use pithead_api::convert;
use pithead_api::v1;
use pithead_consensus::approval::vote::VoteOffence;
use pithead_consensus::{Address, Certificate, Encode as _, Evidence, Height, Link};
use pithead_core::finality::{KeptProof, Proof, certificate_at};
use pithead_core::store::schema::ChainEntry;
use tonic::Status;

use crate::api::{Api, internal};
use crate::blocks::{entry_by_hash, entry_by_tag};
use crate::page::{page_size, read_token, token};
use crate::reader::ChainReader;
use crate::status;

/// Proofs of a page, unless the caller says otherwise.
const EVIDENCE_PAGE: usize = 100;
/// Most proofs of a page.
const EVIDENCE_PAGE_MAX: usize = 1_000;
/// Bytes of proofs after which a page ends: two certificates of the largest network are half a
/// megabyte.
const EVIDENCE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The approvals of a checkpoint: those that the node has in memory, and those that only the
/// certificate in its store still holds.
pub(crate) fn approvals_of(
    reader: &ChainReader<'_>,
    entry: &ChainEntry,
) -> Result<Vec<v1::Approval>, Status> {
    let certificate = certificate_of(reader, entry)?;
    Ok(approvals_with(reader, entry, certificate.as_ref()))
}

/// The certificate that approves a block, if there is one.
fn certificate_of(
    reader: &ChainReader<'_>,
    entry: &ChainEntry,
) -> Result<Option<Certificate>, Status> {
    let interval = reader.api().engine.genesis().params.checkpoint_interval;
    if entry.height.0.checked_rem(u64::from(interval)) != Some(0) {
        return Ok(None);
    }
    let certificate = certificate_at(reader.snapshot(), entry.height).map_err(internal)?;
    Ok(certificate.filter(|found| found.link().target.hash == entry.hash()))
}

fn approvals_with(
    reader: &ChainReader<'_>,
    entry: &ChainEntry,
    certificate: Option<&Certificate>,
) -> Vec<v1::Approval> {
    let api = reader.api();
    let mut found = api.finality().approvals_of(entry.height, &entry.hash());
    if let Some(certificate) = certificate {
        let known: BTreeSet<_> = found
            .iter()
            .map(|signed| (signed.approval.validator, signed.approval.link))
            .collect();
        let others: Vec<_> = certificate
            .approvals()
            .filter(|signed| !known.contains(&(signed.approval.validator, signed.approval.link)))
            .collect();
        found.extend(others);
    }
    found.sort();
    found
        .iter()
        .map(|signed| api.chain.approval(signed))
        .collect()
}

/// The approvals of a checkpoint that the request names by height, hash or tag.
pub(crate) fn list_approvals(
    reader: &ChainReader<'_>,
    request: &v1::ListApprovalsRequest,
) -> Result<v1::ListApprovalsResponse, Status> {
    use v1::list_approvals_request::Checkpoint;
    let api = reader.api();
    // The last checkpoint at or below a height.
    let last = |height: Height| api.finality().checkpoint_height(height);
    let at_tip = || reader.entry_at(last(reader.tip().height));
    let entry = match &request.checkpoint {
        None => at_tip()?,
        Some(Checkpoint::Height(height)) => reader.entry_at(Height(*height))?,
        Some(Checkpoint::BlockHash(text)) => entry_by_hash(reader, "block_hash", text)?,
        Some(Checkpoint::Tag(tag)) => entry_by_tag(reader, *tag, at_tip)?,
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
    let certificate = certificate_of(reader, &entry)?;
    let best = reader.is_best(&entry.hash(), entry.height)?;
    Ok(v1::ListApprovalsResponse {
        approvals: approvals_with(reader, &entry, certificate.as_ref()),
        checkpoint: Some(reader.header(&entry)),
        finality: reader.finality_of(entry.height, best).into(),
        approval_quorum: api.engine.genesis().params.approval_quorum,
        certificate: certificate
            .map_or_else(Vec::new, |found| found.encode())
            .into(),
    })
}

/// Every validator, with what this node has seen of it.
pub(crate) fn list_validators(api: &Api) -> v1::ListValidatorsResponse {
    let genesis = api.engine.genesis();
    let state = api.finality();
    let mut accused: BTreeMap<Address, u32> = BTreeMap::new();
    for kept in state.proofs() {
        if let Proof::Votes(evidence) = &kept.proof {
            let count = accused.entry(evidence.validator()).or_default();
            *count = count.saturating_add(1);
        }
    }
    let validators = genesis.validators.iter().map(|key| {
        let address = Address::of_key(key);
        let seen = state.seen(&address);
        let (approved, out_of) = state.participation(&address);
        v1::Validator {
            address: api.chain.address_text(&address),
            public_key: key.modulus().to_vec().into(),
            last_approval: seen.map(|seen| api.chain.approval(&seen.approval)),
            last_approval_time: seen.and_then(|seen| seen.time).map(convert::timestamp),
            recent_approvals: u32::try_from(approved).unwrap_or(u32::MAX),
            recent_checkpoints: u32::try_from(out_of).unwrap_or(u32::MAX),
            evidence_count: accused.get(&address).copied().unwrap_or_default(),
            is_this_node: state.own() == Some(address),
        }
    });
    v1::ListValidatorsResponse {
        validators: validators.collect(),
        approval_quorum: genesis.params.approval_quorum,
    }
}

/// The proofs of misbehaviour that this node keeps.
pub(crate) fn list_evidence(
    api: &Api,
    request: &v1::ListEvidenceRequest,
) -> Result<v1::ListEvidenceResponse, Status> {
    let size = page_size(request.page_size, EVIDENCE_PAGE, EVIDENCE_PAGE_MAX);
    let start = read_token::<4>(&request.page_token)?.map_or(0, u32::from_be_bytes) as usize;
    let (page, total) = {
        let state = api.finality();
        let all = state.proofs();
        let page = evidence_page(all.get(start..).unwrap_or_default(), size).to_vec();
        (page, all.len())
    };
    let next = start.saturating_add(page.len());
    let next_page_token = match u32::try_from(next) {
        Ok(next_bytes) if next < total => token(&next_bytes.to_be_bytes()),
        _ => String::new(),
    };
    Ok(v1::ListEvidenceResponse {
        evidence: page.iter().map(|kept| evidence(api, kept)).collect(),
        next_page_token,
    })
}

/// The first of these proofs, at most `size`, and none that exceeds the bytes of a page. The first
/// one is shown whatever its size.
fn evidence_page(proofs: &[KeptProof], size: usize) -> &[KeptProof] {
    let mut bytes = 0_usize;
    let fits = proofs
        .iter()
        .take(size)
        .enumerate()
        .take_while(|(index, kept)| {
            bytes = bytes.saturating_add(kept.encoded_len());
            *index == 0 || bytes <= EVIDENCE_BYTES_MAX
        });
    proofs.get(..fits.count()).unwrap_or_default()
}

fn evidence(api: &Api, kept: &KeptProof) -> v1::Evidence {
    let parts = match &kept.proof {
        Proof::Votes(evidence) => {
            let (first, second) = evidence.approvals();
            ProofParts {
                kind: kind_of(evidence),
                validators: vec![evidence.validator()],
                encoded: [first.encode(), second.encode()],
                links: [first.approval.link, second.approval.link],
            }
        }
        Proof::Certificates(first, second) => {
            let of_second: BTreeSet<Address> = second
                .approvals()
                .map(|each| each.approval.validator)
                .collect();
            let both = first
                .approvals()
                .map(|each| each.approval.validator)
                .filter(|validator| of_second.contains(validator));
            ProofParts {
                kind: v1::EvidenceKind::ConflictingCertificates,
                validators: both.collect(),
                encoded: [first.encode(), second.encode()],
                links: [*first.link(), *second.link()],
            }
        }
    };
    let text = |validator: &Address| api.chain.address_text(validator);
    let [first, second] = parts.encoded;
    let [a, b] = parts.links;
    v1::Evidence {
        kind: parts.kind.into(),
        validators: parts.validators.iter().map(text).collect(),
        first: first.into(),
        second: second.into(),
        first_target_height: a.target.height.0,
        first_target_hash: a.target.hash.to_string(),
        second_target_height: b.target.height.0,
        second_target_hash: b.target.hash.to_string(),
        seen_time: Some(convert::timestamp(kept.time)),
    }
}

/// The parts of a proof of either kind: two votes or two certificates that contradict each other.
struct ProofParts {
    kind: v1::EvidenceKind,
    /// The validators that signed both.
    validators: Vec<Address>,
    encoded: [Vec<u8>; 2],
    links: [Link; 2],
}

fn kind_of(evidence: &Evidence) -> v1::EvidenceKind {
    let (first, second) = evidence.approvals();
    match Evidence::of(first, second).map(|(_, offence)| offence) {
        Some(VoteOffence::SurroundVote) => v1::EvidenceKind::SurroundVote,
        Some(VoteOffence::DoubleVote) => v1::EvidenceKind::DoubleVote,
        None => v1::EvidenceKind::Unspecified,
    }
}
