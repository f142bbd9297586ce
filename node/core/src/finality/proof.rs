//! Proofs of misbehaviour as they are kept: the kind, the time, and two signed things that can't
//! both be honest. Start reading at [`Proof`].

use pithead_consensus::approval::SIGNED_APPROVAL_BYTES;
use pithead_consensus::encoding::Reader;
use pithead_consensus::{Address, Certificate, Decode, DecodeError, Encode, Evidence};

use crate::store::{Snapshot, StoreError, Table};

/// Most proofs that are kept against one validator. One would suffice.
pub const PROOFS_OF_ONE_MAX: usize = 16;
/// Most pairs of conflicting certificates that are kept.
pub const CONFLICTS_MAX: usize = 16;
/// Most proofs that are read back: all that can be kept in a network of 1,000 validators.
const READ_MAX: usize = 1_000 * PROOFS_OF_ONE_MAX + CONFLICTS_MAX;
const KIND_VOTES: u8 = 0;
const KIND_CERTIFICATES: u8 = 1;

/// Two things of which honest validators sign at most one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Two votes of one validator (protocol §9, rules 1 and 2).
    Votes(Box<Evidence>),
    /// Two certificates that conflict, the earlier one first.
    Certificates(Box<Certificate>, Box<Certificate>),
}

/// A proof, and when this node found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptProof {
    /// When the proof was found, Unix seconds.
    pub time: u64,
    pub proof: Proof,
}

impl KeptProof {
    /// About how many bytes the two signed things take.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match &self.proof {
            Proof::Votes(_) => SIGNED_APPROVAL_BYTES.saturating_mul(2),
            Proof::Certificates(first, second) => {
                first.encoded_len().saturating_add(second.encoded_len())
            }
        }
    }
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

/// Whether a proof may be kept beside these: it is not among them, and there is room for its kind.
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

/// Whether there is room for one more pair of votes of a validator.
pub(super) fn has_room_against(kept: &[KeptProof], validator: &Address) -> bool {
    let against = kept.iter().filter(|each| match &each.proof {
        Proof::Votes(evidence) => evidence.validator() == *validator,
        Proof::Certificates(..) => false,
    });
    against.count() < PROOFS_OF_ONE_MAX
}

/// Whether two proofs show the same pair of votes, whatever the signatures.
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
