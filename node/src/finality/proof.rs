//! Proofs of misbehaviour as they are kept: kind, time, and the two signed
//! things that can't both be honest.

use pithead_consensus::encoding::Reader;
use pithead_consensus::{Certificate, Decode, DecodeError, Encode, Evidence};

use super::{CONFLICTS_MAX, PROOFS_OF_ONE_MAX};
use crate::store::{Snapshot, StoreError, Table};

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
