//! Proofs of misbehaviour as they are kept: kind, time, and the two signed
//! things that can't both be honest.

use pithead_consensus::encoding::Reader;
use pithead_consensus::{Certificate, Decode, DecodeError, Encode, Evidence};

use crate::store::{Snapshot, StoreError, Table};

/// Proofs kept of one validator's misbehaviour: one suffices.
pub const PROOFS_OF_ONE_MAX: usize = 16;
/// Pairs of conflicting certificates kept.
pub const CONFLICTS_MAX: usize = 16;
/// Most proofs read back: of every validator of the largest network.
const READ_MAX: usize = 1_000 * PROOFS_OF_ONE_MAX + CONFLICTS_MAX;
const KIND_VOTES: u8 = 0;
const KIND_CERTIFICATES: u8 = 1;

/// Something that no honest validators can have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Two votes of one validator (protocol §9, rules 1 and 2).
    Votes(Box<Evidence>),
    /// Two certificates that conflict: the earlier one first.
    Certificates(Box<Certificate>, Box<Certificate>),
}

/// A proof, and when this node came to keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptProof {
    /// Unix seconds.
    pub time: u64,
    /// The proof.
    pub proof: Proof,
}

impl Encode for KeptProof {
    fn encode_to(&self, out: &mut Vec<u8>) {
        let kind = match &self.proof {
            Proof::Votes(_) => KIND_VOTES,
            Proof::Certificates(..) => KIND_CERTIFICATES,
        };
        out.push(kind);
        out.extend_from_slice(&self.time.to_le_bytes());
        match &self.proof {
            Proof::Votes(evidence) => evidence.encode_to(out),
            Proof::Certificates(first, second) => {
                first.encode_to(out);
                second.encode_to(out);
            }
        }
    }
}

impl Decode for KeptProof {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = reader.u8("kind of proof")?;
        let time = reader.u64("time")?;
        let proof = match kind {
            KIND_VOTES => Proof::Votes(Box::new(Evidence::decode_from(reader)?)),
            KIND_CERTIFICATES => Proof::Certificates(
                Box::new(Certificate::decode_from(reader)?),
                Box::new(Certificate::decode_from(reader)?),
            ),
            other => {
                return Err(DecodeError::BadValue {
                    field: "kind of proof",
                    found: u64::from(other),
                    expected: "0 or 1",
                });
            }
        };
        Ok(Self { time, proof })
    }
}

/// Whether a proof is not among these, and may be kept beside them.
pub(super) fn has_room<'a>(kept: impl Iterator<Item = &'a KeptProof>, proof: &Proof) -> bool {
    let mut of_its_kind = 0;
    for kept in kept {
        let (akin, same) = match (&kept.proof, proof) {
            (Proof::Votes(a), Proof::Votes(b)) => {
                (a.validator() == b.validator(), same_votes(a, b))
            }
            (Proof::Certificates(a, b), Proof::Certificates(c, d)) => {
                (true, (a.link(), b.link()) == (c.link(), d.link()))
            }
            _ => (false, false),
        };
        if same {
            return false;
        }
        of_its_kind += usize::from(akin);
    }
    of_its_kind
        < match proof {
            Proof::Votes(_) => PROOFS_OF_ONE_MAX,
            Proof::Certificates(..) => CONFLICTS_MAX,
        }
}

/// Whether two proofs are of the same pair of votes, however signed.
fn same_votes(a: &Evidence, b: &Evidence) -> bool {
    let links = |evidence: &Evidence| {
        let (first, second) = evidence.approvals();
        let mut links = [first.approval.link, second.approval.link];
        links.sort();
        links
    };
    a.validator() == b.validator() && links(a) == links(b)
}

/// Every proof on record, oldest first.
pub(super) fn read_all(from: &dyn Snapshot) -> Result<Vec<KeptProof>, StoreError> {
    let found = from.range(Table::Evidence, &[], &[0xff; 9], READ_MAX, false)?;
    found
        .into_iter()
        .map(|(_, bytes)| {
            KeptProof::decode(&bytes)
                .map_err(|error| StoreError::Damaged(format!("proof: {error}")))
        })
        .collect()
}
