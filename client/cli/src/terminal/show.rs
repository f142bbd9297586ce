//! What the API's messages look like: the stable JSON that `--json` prints, and
//! a few sentences about them. Names of JSON fields are part of the command's
//! interface: add fields, never rename one.

use pithead_api::v1;
use serde::Serialize;

use super::finality::{self, ApprovalJson};
use super::words::{Money, counted, iso_option, milliseconds};

/// A block header as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct HeaderJson {
    hash: String,
    height: u64,
    version: u32,
    previous_hash: String,
    merkle_root: String,
    time: Option<String>,
    bits: String,
    nonce: u32,
    target: String,
    difficulty: f64,
    chain_work: String,
}

impl From<&v1::BlockHeader> for HeaderJson {
    fn from(header: &v1::BlockHeader) -> Self {
        Self {
            hash: header.hash.clone(),
            height: header.height,
            version: header.version,
            previous_hash: header.previous_hash.clone(),
            merkle_root: header.merkle_root.clone(),
            time: iso_option(header.time.as_ref()),
            bits: format!("{:08x}", header.bits),
            nonce: header.nonce,
            target: header.target.clone(),
            difficulty: header.difficulty,
            chain_work: header.chain_work.clone(),
        }
    }
}

/// A block as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct BlockJson {
    header: Option<HeaderJson>,
    reward_address: Option<String>,
    transactions_root: Option<String>,
    state_root: Option<String>,
    extra_nonce: Option<String>,
    transaction_count: u32,
    subsidy: Money,
    fees: Money,
    size_bytes: u32,
    best_chain: bool,
    confirmations: u64,
    matured_reward_height: Option<u64>,
    finality: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    approvals: Vec<ApprovalJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    txids: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    transactions: Vec<TransactionJson>,
}

impl From<&v1::Block> for BlockJson {
    fn from(block: &v1::Block) -> Self {
        let commitment = block.commitment.as_ref();
        let part =
            |get: fn(&v1::BlockCommitment) -> &String| commitment.map(|one| get(one).clone());
        Self {
            header: block.header.as_ref().map(Into::into),
            reward_address: part(|one| &one.reward_address),
            transactions_root: part(|one| &one.transactions_root),
            state_root: part(|one| &one.state_root),
            extra_nonce: part(|one| &one.extra_nonce),
            transaction_count: block.transaction_count,
            subsidy: block.subsidy.into(),
            fees: block.fees.into(),
            size_bytes: block.size_bytes,
            best_chain: block.best_chain,
            confirmations: block.confirmations,
            matured_reward_height: block.matured_reward_height,
            finality: finality::word(block.finality()),
            approvals: block.approvals.iter().map(Into::into).collect(),
            txids: block.txids.clone(),
            transactions: block.transactions.iter().map(Into::into).collect(),
        }
    }
}

/// An output of a transaction as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct OutputJson {
    recipient: String,
    amount: Money,
}

/// A transaction as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct TransactionJson {
    txid: String,
    sender: String,
    sequence: u64,
    fee: Money,
    outputs: Vec<OutputJson>,
    amount: Money,
    data_hex: String,
    size_bytes: u32,
}

impl From<&v1::Transaction> for TransactionJson {
    fn from(transaction: &v1::Transaction) -> Self {
        let output = |output: &v1::TransactionOutput| OutputJson {
            recipient: output.recipient.clone(),
            amount: output.amount.into(),
        };
        Self {
            txid: transaction.txid.clone(),
            sender: transaction.sender.clone(),
            sequence: transaction.sequence,
            fee: transaction.fee.into(),
            outputs: transaction.outputs.iter().map(output).collect(),
            amount: paid(transaction).into(),
            data_hex: hex::encode(&transaction.data),
            size_bytes: transaction.size_bytes,
        }
    }
}

/// Sum of a transaction's payments, without the fee.
pub(crate) fn paid(transaction: &v1::Transaction) -> u64 {
    let amounts = transaction.outputs.iter().map(|output| output.amount);
    amounts.fold(0, u64::saturating_add)
}

/// Where a transaction stands, as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct StatusJson {
    state: &'static str,
    confirmations: u64,
    block_hash: Option<String>,
    block_height: Option<u64>,
    position: Option<u32>,
    block_time: Option<String>,
    received_time: Option<String>,
    detail: Option<String>,
}

impl From<&v1::TransactionStatus> for StatusJson {
    fn from(status: &v1::TransactionStatus) -> Self {
        let mined = !status.block_hash.is_empty();
        Self {
            state: state_name(status.state()),
            confirmations: status.confirmations,
            block_hash: mined.then(|| status.block_hash.clone()),
            block_height: mined.then_some(status.block_height),
            position: mined.then_some(status.position),
            block_time: iso_option(status.block_time.as_ref()),
            received_time: iso_option(status.received_time.as_ref()),
            detail: (!status.detail.is_empty()).then(|| status.detail.clone()),
        }
    }
}

/// The state of a transaction in one word.
pub(crate) fn state_name(state: v1::TransactionState) -> &'static str {
    use v1::TransactionState as State;
    match state {
        State::Unspecified => "unknown",
        State::Pending => "pending",
        State::Mined => "mined",
        State::Approved => "approved",
        State::Final => "final",
        State::Replaced => "replaced",
        State::Dropped => "dropped",
    }
}

/// Where a transaction stands, in a sentence.
pub(crate) fn status_sentence(status: &v1::TransactionStatus) -> String {
    use v1::TransactionState as State;
    let state = state_name(status.state());
    match status.state() {
        State::Pending | State::Unspecified => state.to_owned(),
        State::Mined | State::Approved | State::Final => format!(
            "{state} in block {}, {}",
            status.block_height,
            counted(status.confirmations, "confirmation")
        ),
        State::Replaced => format!("replaced by {}", status.detail),
        State::Dropped => format!("dropped: {}", status.detail),
    }
}

/// The round-trip time to a peer, or a dash if it was not measured.
pub(crate) fn peer_latency(peer: &v1::Peer) -> String {
    let latency = peer.latency.as_ref();
    latency.map_or_else(
        || "–".to_owned(),
        |latency| format!("{:.1} ms", milliseconds(latency)),
    )
}
