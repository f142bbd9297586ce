//! The requests and responses of docs/protocol.md §13, "Between nodes", in the consensus
//! encoding. Each starts with a kind byte. It knows no transport: framing is the network
//! shell's.
//!
//! The decoder compares every length with its limit, and with what is left of the input, before
//! it allocates anything. Start reading at [`Request`] and [`Response`].

use std::collections::HashSet;

use pithead_consensus::approval::SIGNED_APPROVAL_BYTES;
use pithead_consensus::block::EMPTY_BLOCK_BYTES;
use pithead_consensus::encoding::Reader;
use pithead_consensus::transaction::MIN_TRANSACTION_BYTES;
use pithead_consensus::{
    Block, BlockHash, BlockHeader, Certificate, Checkpoint, Decode, DecodeError, Encode, Height,
    SignedApproval, SignedTransaction, Txid, Work,
};

/// Most headers in an answer (protocol §13).
pub const HEADERS_MAX: usize = 2_000;
/// Most hashes in a locator (protocol §13).
pub const LOCATOR_MAX: usize = 101;
/// Most block hashes or txids in a request (protocol §13).
pub const IDS_MAX: usize = 1_000;
/// Most txids in an answer to [`Request::Mempool`].
pub const MEMPOOL_IDS_MAX: usize = 50_000;
/// Most bytes of blocks or transactions in an answer, each with its length. A single item may
/// be larger.
pub const CONTENT_BYTES_MAX: usize = 4 << 20;
/// Most approvals in an answer to [`Request::Approvals`].
pub const APPROVALS_MAX: usize = 2_000;
/// Bytes of a certificate with one approval, which is the smallest.
const CERTIFICATE_BYTES_MIN: usize = 1 + 80 + 4 + APPROVAL_BYTES;
/// Bytes of one approval in a certificate: the validator and the signature.
pub(super) const APPROVAL_BYTES: usize = 32 + 256;
/// Most bytes of an encoded request: the kind, a count and the ids.
pub const REQUEST_BYTES_MAX: usize = 3 + 32 * IDS_MAX;
/// Bytes of an encoded [`Status`].
const STATUS_BYTES: usize = 32 + 8 + 32 + 8 + 32;
/// Bytes of an encoded header (protocol §4).
const HEADER_BYTES: usize = 80;
/// Bytes of the length in front of each block or transaction.
const LENGTH_BYTES: usize = 4;

/// Most bytes of an encoded response on a network whose blocks take up to
/// `max_block_bytes`.
#[must_use]
pub const fn response_bytes_max(max_block_bytes: u32) -> usize {
    let block = max_block_bytes as usize;
    let content = if block > CONTENT_BYTES_MAX {
        block
    } else {
        CONTENT_BYTES_MAX
    };
    // The kind, the count and one length.
    content.saturating_add(3 + LENGTH_BYTES)
}

/// A node's claim about its best chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Hash of the tip.
    pub best_hash: BlockHash,
    /// Height of the tip.
    pub height: Height,
    /// Work of the chain up to the tip.
    pub chain_work: Work,
    /// The highest approved checkpoint that the node knows (protocol §9).
    pub approved: Checkpoint,
}

/// A request to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Tells the asker's status and asks for the peer's.
    Status(Status),
    /// The headers after the first locator hash that is on the peer's best chain.
    Headers {
        /// Hashes of the asker's chain, highest first.
        locator: Vec<BlockHash>,
        /// The last header wanted, if there is one.
        stop: Option<BlockHash>,
    },
    /// The blocks with these hashes.
    Blocks(Vec<BlockHash>),
    /// The pending transactions with these ids.
    Transactions(Vec<Txid>),
    /// The ids of all pending transactions.
    Mempool,
    /// Approvals with a target above this height.
    Approvals(Height),
    /// Certificates of checkpoints above this height.
    Certificates(Height),
}

/// The answer to a request. Each kind of request has its kind of response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Headers`]: each is the child of the one before.
    Headers(Vec<BlockHeader>),
    /// To [`Request::Blocks`]: the blocks that the peer has, in the order asked.
    Blocks(Vec<Block>),
    /// To [`Request::Transactions`]: the transactions that are pending, in the order asked.
    Transactions(Vec<SignedTransaction>),
    /// To [`Request::Mempool`]: the highest fee rate first.
    Mempool(Vec<Txid>),
    /// To [`Request::Approvals`]: the highest target first.
    Approvals(Vec<SignedApproval>),
    /// To [`Request::Certificates`]: the lowest target first, up to 4 MiB.
    Certificates(Vec<Certificate>),
}

const KIND_STATUS: u8 = 0;
const KIND_HEADERS: u8 = 1;
const KIND_BLOCKS: u8 = 2;
const KIND_TRANSACTIONS: u8 = 3;
const KIND_MEMPOOL: u8 = 4;
const KIND_APPROVALS: u8 = 5;
const KIND_CERTIFICATES: u8 = 6;

impl Request {
    /// Most bytes of an encoded answer to this request, on a network where any answer may have
    /// up to `max`.
    #[must_use]
    pub fn response_bytes_max(&self, max: usize) -> usize {
        match self {
            Self::Status(_) => 1 + STATUS_BYTES,
            Self::Headers { .. } => 3 + HEADER_BYTES * HEADERS_MAX,
            Self::Mempool => 5 + 32 * MEMPOOL_IDS_MAX,
            Self::Approvals(_) => 3 + SIGNED_APPROVAL_BYTES * APPROVALS_MAX,
            Self::Blocks(_) | Self::Transactions(_) | Self::Certificates(_) => max,
        }
    }

    /// The kind byte, with which the encoding starts.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Status(_) => KIND_STATUS,
            Self::Headers { .. } => KIND_HEADERS,
            Self::Blocks(_) => KIND_BLOCKS,
            Self::Transactions(_) => KIND_TRANSACTIONS,
            Self::Mempool => KIND_MEMPOOL,
            Self::Approvals(_) => KIND_APPROVALS,
            Self::Certificates(_) => KIND_CERTIFICATES,
        }
    }
}

impl Response {
    /// The kind byte: that of the request which this response answers.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Status(_) => KIND_STATUS,
            Self::Headers(_) => KIND_HEADERS,
            Self::Blocks(_) => KIND_BLOCKS,
            Self::Transactions(_) => KIND_TRANSACTIONS,
            Self::Mempool(_) => KIND_MEMPOOL,
            Self::Approvals(_) => KIND_APPROVALS,
            Self::Certificates(_) => KIND_CERTIFICATES,
        }
    }
}

impl Encode for Status {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.reserve(STATUS_BYTES);
        out.extend_from_slice(&self.best_hash.0);
        out.extend_from_slice(&self.height.0.to_le_bytes());
        out.extend_from_slice(&self.chain_work.to_be_bytes());
        out.extend_from_slice(&self.approved.height.0.to_le_bytes());
        out.extend_from_slice(&self.approved.hash.0);
    }
}

impl Decode for Status {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            best_hash: BlockHash(reader.array("best hash")?),
            height: Height(reader.u64("height")?),
            chain_work: Work::from_be_bytes(reader.array("chain work")?),
            approved: Checkpoint {
                height: Height(reader.u64("approved height")?),
                hash: BlockHash(reader.array("approved hash")?),
            },
        })
    }
}

impl Encode for Request {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.push(self.kind());
        match self {
            Self::Status(status) => status.encode_to(out),
            Self::Headers { locator, stop } => {
                let locator = locator.get(..LOCATOR_MAX).unwrap_or(locator);
                out.push(u8::try_from(locator.len()).unwrap_or(u8::MAX));
                locator.iter().for_each(|hash| out.extend(hash.0));
                out.extend(stop.map_or([0; 32], |hash| hash.0));
            }
            Self::Blocks(hashes) => put_ids(out, hashes.iter().map(|hash| hash.0)),
            Self::Transactions(txids) => put_ids(out, txids.iter().map(|txid| txid.0)),
            Self::Mempool => {}
            Self::Approvals(above) | Self::Certificates(above) => {
                out.extend_from_slice(&above.0.to_le_bytes());
            }
        }
    }
}

impl Decode for Request {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("kind of request")? {
            KIND_STATUS => Self::Status(Status::decode_from(reader)?),
            KIND_HEADERS => {
                let count = usize::from(reader.u8("locator count")?);
                let locator = hashes(reader, "locator count", count, LOCATOR_MAX)?;
                let stop: [u8; 32] = reader.array("stop hash")?;
                Self::Headers {
                    locator: locator.into_iter().map(BlockHash).collect(),
                    stop: (stop != [0; 32]).then_some(BlockHash(stop)),
                }
            }
            KIND_BLOCKS => Self::Blocks(ids(reader)?.into_iter().map(BlockHash).collect()),
            KIND_TRANSACTIONS => Self::Transactions(ids(reader)?.into_iter().map(Txid).collect()),
            KIND_MEMPOOL => Self::Mempool,
            KIND_APPROVALS => Self::Approvals(Height(reader.u64("height")?)),
            KIND_CERTIFICATES => Self::Certificates(Height(reader.u64("height")?)),
            other => return Err(unknown_kind("kind of request", other)),
        })
    }
}

impl Encode for Response {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.push(self.kind());
        match self {
            Self::Status(status) => status.encode_to(out),
            Self::Headers(headers) => {
                put_count(out, headers.len());
                headers.iter().for_each(|header| header.encode_to(out));
            }
            Self::Blocks(blocks) => put_items(out, blocks),
            Self::Transactions(transactions) => put_items(out, transactions),
            Self::Mempool(txids) => {
                let count = u32::try_from(txids.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&count.to_le_bytes());
                txids.iter().for_each(|txid| out.extend(txid.0));
            }
            Self::Approvals(approvals) => {
                put_count(out, approvals.len());
                approvals
                    .iter()
                    .for_each(|approval| approval.encode_to(out));
            }
            Self::Certificates(certificates) => put_items(out, certificates),
        }
    }
}

impl Decode for Response {
    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("kind of response")? {
            KIND_STATUS => Self::Status(Status::decode_from(reader)?),
            KIND_HEADERS => {
                let count = usize::from(reader.u16("header count")?);
                check_count(reader, "header count", count, HEADERS_MAX, HEADER_BYTES)?;
                let headers = (0..count).map(|_| BlockHeader::decode_from(reader));
                Self::Headers(headers.collect::<Result<_, _>>()?)
            }
            KIND_BLOCKS => Self::Blocks(items(reader, "block count", EMPTY_BLOCK_BYTES)?),
            KIND_TRANSACTIONS => {
                let least = MIN_TRANSACTION_BYTES;
                Self::Transactions(items(reader, "transaction count", least)?)
            }
            KIND_MEMPOOL => {
                let count = usize::try_from(reader.u32("txid count")?).unwrap_or(usize::MAX);
                let txids = hashes(reader, "txid count", count, MEMPOOL_IDS_MAX)?;
                Self::Mempool(txids.into_iter().map(Txid).collect())
            }
            KIND_APPROVALS => {
                let count = usize::from(reader.u16("approval count")?);
                let each = SIGNED_APPROVAL_BYTES;
                check_count(reader, "approval count", count, APPROVALS_MAX, each)?;
                let approvals = (0..count).map(|_| SignedApproval::decode_from(reader));
                Self::Approvals(approvals.collect::<Result<_, _>>()?)
            }
            KIND_CERTIFICATES => {
                let least = CERTIFICATE_BYTES_MIN;
                Self::Certificates(items(reader, "certificate count", least)?)
            }
            other => return Err(unknown_kind("kind of response", other)),
        })
    }
}

fn unknown_kind(field: &'static str, found: u8) -> DecodeError {
    DecodeError::BadValue {
        field,
        found: u64::from(found),
        expected: "0 to 6",
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    out.extend_from_slice(&count.to_le_bytes());
}

fn put_ids(out: &mut Vec<u8>, ids: impl ExactSizeIterator<Item = [u8; 32]>) {
    put_count(out, ids.len());
    ids.for_each(|id| out.extend(id));
}

fn put_items<T: Encode>(out: &mut Vec<u8>, items: &[T]) {
    put_count(out, items.len());
    for item in items {
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        item.encode_to(out);
        let length = out.len().saturating_sub(start + LENGTH_BYTES);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        if let Some(slot) = out.get_mut(start..start + LENGTH_BYTES) {
            slot.copy_from_slice(&length.to_le_bytes());
        }
    }
}

/// Compares a count with its limit, and with how many items the rest of the input can hold, so
/// that it is safe to allocate.
fn check_count(
    reader: &Reader<'_>,
    field: &'static str,
    found: usize,
    limit: usize,
    item_bytes: usize,
) -> Result<(), DecodeError> {
    let max = limit.min(reader.left() / item_bytes.max(1));
    if found > max {
        return Err(DecodeError::OverLimit { field, found, max });
    }
    Ok(())
}

fn hashes(
    reader: &mut Reader<'_>,
    field: &'static str,
    count: usize,
    limit: usize,
) -> Result<Vec<[u8; 32]>, DecodeError> {
    check_count(reader, field, count, limit, 32)?;
    (0..count).map(|_| reader.array("hash")).collect()
}

/// Decodes the ids of a request. Each may occur once: a repeated one would only fill the answer.
fn ids(reader: &mut Reader<'_>) -> Result<Vec<[u8; 32]>, DecodeError> {
    let count = usize::from(reader.u16("id count")?);
    let ids = hashes(reader, "id count", count, IDS_MAX)?;
    let distinct: HashSet<&[u8; 32]> = ids.iter().collect();
    if distinct.len() < ids.len() {
        return Err(DecodeError::OverLimit {
            field: "id count",
            found: ids.len(),
            max: distinct.len(),
        });
    }
    Ok(ids)
}

/// Decodes items that each have their length in front. An item must fill its length exactly.
fn items<T: Decode>(
    reader: &mut Reader<'_>,
    field: &'static str,
    item_bytes: usize,
) -> Result<Vec<T>, DecodeError> {
    let count = usize::from(reader.u16(field)?);
    let least = item_bytes.saturating_add(LENGTH_BYTES);
    check_count(reader, field, count, IDS_MAX, least)?;
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        let length = usize::try_from(reader.u32("length")?).unwrap_or(usize::MAX);
        items.push(T::decode(reader.bytes(length, "item")?)?);
    }
    Ok(items)
}
