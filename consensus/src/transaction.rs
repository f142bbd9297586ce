//! Transactions: their encoding and what identifies them (protocol §3).

use crate::address::Address;
use crate::amount::Amount;
use crate::encoding::{Decode, DecodeError, Encode, Reader};
use crate::hash::{BlockHash, Hash256, Txid, sha256};
use crate::key::{MODULUS_LEN, PublicKey, SIGNATURE_LEN, Signature, SigningDomain};
use crate::merkle;

/// The only transaction version.
pub const TRANSACTION_VERSION: u8 = 1;
/// The only kind: a transfer.
pub const KIND_TRANSFER: u8 = 0;
/// Most outputs of a transaction (protocol §3).
pub const MAX_OUTPUTS: usize = 255;
/// Most bytes of data (protocol §3).
pub const MAX_DATA_BYTES: usize = 1_024;
/// Most bytes of an encoded signed transaction (protocol §3).
pub const MAX_TRANSACTION_BYTES: usize = 16_384;
/// Bytes of a signed transaction with no outputs, no data and no key:
/// version, kind, sender, sequence, fee, two counts, key flag, signature.
pub const MIN_TRANSACTION_BYTES: usize = 1 + 1 + 32 + 8 + 8 + 2 + 2 + 1 + SIGNATURE_LEN;
/// Bytes of an encoded output.
pub const OUTPUT_BYTES: usize = 32 + 8;

/// Weight of an account change, bytes (docs/node-policy.md): of 2,000,000 bytes of a block of the
/// built-in networks, each of its 12,000 account changes has so many, rounded down.
pub const WEIGHT_PER_ACCOUNT_CHANGE: usize = 2_000_000 / 12_000;

/// One payment within a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Output {
    pub recipient: Address,
    /// At least one grain.
    pub amount: Amount,
}

/// What the sender signs: a transfer (protocol §3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TransactionBody {
    pub sender: Address,
    /// The sender's transaction counter.
    pub sequence: u64,
    /// The miner of the block earns it.
    pub fee: Amount,
    /// The payments, 1 to 255.
    pub outputs: Vec<Output>,
    /// Any data, at most 1,024 bytes.
    pub data: Vec<u8>,
}

/// A transfer with its signature and, the first time, the sender's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SignedTransaction {
    pub body: TransactionBody,
    /// The sender's key, present if and only if the sequence is 0.
    pub key: Option<PublicKey>,
    /// Signature of [`TransactionBody::signing_message`].
    pub signature: Signature,
}

impl TransactionBody {
    /// The bytes that are signed: the domain-separated body (protocol §2, §3).
    #[must_use]
    pub fn signing_message(&self, genesis_hash: &BlockHash) -> Vec<u8> {
        SigningDomain::Transaction.message(genesis_hash, &self.encode())
    }

    /// SHA-256 of the signed message, without the randomised signature.
    #[must_use]
    pub fn txid(&self, genesis_hash: &BlockHash) -> Txid {
        Txid(sha256(&self.signing_message(genesis_hash)))
    }

    /// Sum of the outputs and the fee; `None` above [`Amount::MAX_MONEY`].
    #[must_use]
    pub fn total(&self) -> Option<Amount> {
        let amounts = self.outputs.iter().map(|output| output.amount);
        Amount::sum(amounts.chain([self.fee])).ok()
    }

    /// How many accounts the transaction counts as changing (protocol §4): its sender and one for
    /// each output, even if two of them are the same account.
    #[must_use]
    pub fn account_changes(&self) -> usize {
        self.outputs.len().saturating_add(1)
    }

    /// What the signed transaction takes of a block, in bytes: its size, or the share of a block's
    /// account changes that it takes, whichever is more. Fees are paid for the weight
    /// (docs/node-policy.md). It is no rule of consensus.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.account_changes()
            .saturating_mul(WEIGHT_PER_ACCOUNT_CHANGE)
            .max(self.signed_size())
    }

    /// Bytes that the signed transaction will take.
    #[must_use]
    pub fn signed_size(&self) -> usize {
        let key = if self.sequence == 0 { MODULUS_LEN } else { 0 };
        self.outputs
            .len()
            .saturating_mul(OUTPUT_BYTES)
            .saturating_add(self.data.len())
            .saturating_add(key)
            .saturating_add(MIN_TRANSACTION_BYTES)
    }
}

impl SignedTransaction {
    /// The txid of the transaction on the chain with this genesis.
    #[must_use]
    pub fn txid(&self, genesis_hash: &BlockHash) -> Txid {
        self.body.txid(genesis_hash)
    }

    /// The transaction's leaf in the transactions root. Unlike the txid it covers
    /// the signature (protocol §4).
    #[must_use]
    pub fn leaf_hash(&self) -> Hash256 {
        merkle::leaf_hash(&self.encode())
    }

    /// Encoded size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let key = if self.key.is_some() { MODULUS_LEN } else { 0 };
        self.body
            .outputs
            .len()
            .saturating_mul(OUTPUT_BYTES)
            .saturating_add(self.body.data.len())
            .saturating_add(key)
            .saturating_add(MIN_TRANSACTION_BYTES)
    }
}

impl Encode for TransactionBody {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.push(TRANSACTION_VERSION);
        out.push(KIND_TRANSFER);
        out.extend_from_slice(&self.sender.0);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.fee.grains().to_le_bytes());
        // A body beyond the limits can be built, but not decoded: its counts saturate
        // instead of wrapping round to a valid value.
        let outputs = u16::try_from(self.outputs.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&outputs.to_le_bytes());
        for output in &self.outputs {
            out.extend_from_slice(&output.recipient.0);
            out.extend_from_slice(&output.amount.grains().to_le_bytes());
        }
        let data = u16::try_from(self.data.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&data.to_le_bytes());
        out.extend_from_slice(&self.data);
    }
}

impl Decode for TransactionBody {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.expect("transaction version", TRANSACTION_VERSION, "1")?;
        reader.expect("transaction kind", KIND_TRANSFER, "0 (transfer)")?;
        let sender = Address(reader.array("sender")?);
        let sequence = reader.u64("sequence")?;
        let fee = reader.amount("fee")?;
        let count = within("output count", reader.u16("output count")?, MAX_OUTPUTS)?;
        // Reserves no more room than the rest of the input can fill.
        let room = reader.left().checked_div(OUTPUT_BYTES).unwrap_or(0);
        let mut outputs = Vec::with_capacity(count.min(room));
        for _ in 0..count {
            outputs.push(Output {
                recipient: Address(reader.array("recipient")?),
                amount: reader.amount("amount")?,
            });
        }
        let data_len = within("data length", reader.u16("data length")?, MAX_DATA_BYTES)?;
        let data = reader.bytes(data_len, "data")?.to_vec();
        Ok(Self {
            sender,
            sequence,
            fee,
            outputs,
            data,
        })
    }
}

impl Encode for SignedTransaction {
    fn encode_to(&self, out: &mut Vec<u8>) {
        self.body.encode_to(out);
        match &self.key {
            Some(key) => {
                out.push(1);
                out.extend_from_slice(key.modulus());
            }
            None => out.push(0),
        }
        out.extend_from_slice(self.signature.0.as_slice());
    }
}

impl Decode for SignedTransaction {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let body = TransactionBody::decode_from(reader)?;
        let key = match reader.u8("key flag")? {
            0 => None,
            1 => Some(PublicKey::from_modulus(
                &reader.array::<MODULUS_LEN>("public key")?,
            )?),
            other => {
                return Err(DecodeError::BadValue {
                    field: "key flag",
                    found: u64::from(other),
                    expected: "0 or 1",
                });
            }
        };
        let signature = Signature(Box::new(reader.array("signature")?));
        Ok(Self {
            body,
            key,
            signature,
        })
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        // # Consensus: §3 "signed transaction at most 16,384 bytes".
        if bytes.len() > MAX_TRANSACTION_BYTES {
            return Err(DecodeError::OverLimit {
                field: "transaction size",
                found: bytes.len(),
                max: MAX_TRANSACTION_BYTES,
            });
        }
        let mut reader = Reader::new(bytes);
        let transaction = Self::decode_from(&mut reader)?;
        reader.finish()?;
        Ok(transaction)
    }
}

fn within(field: &'static str, found: u16, max: usize) -> Result<usize, DecodeError> {
    let found = usize::from(found);
    if found > max {
        Err(DecodeError::OverLimit { field, found, max })
    } else {
        Ok(found)
    }
}
