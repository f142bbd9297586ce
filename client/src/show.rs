//! What the API's messages look like: the stable JSON that `--json` prints, and
//! the words and numbers that people read. Field names here are part of the
//! command's interface: add, never rename.

use pithead_api::v1;
use pithead_consensus::Amount;
use pithead_consensus::amount::GRAINS_PER_PIT;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::finality::{self, ApprovalJson};

/// An amount, exact in both units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Money {
    /// In grains.
    pub(crate) grains: u64,
    /// In PIT, with exact decimals.
    pub(crate) pit: String,
}

impl From<u64> for Money {
    fn from(grains: u64) -> Self {
        Self {
            grains,
            pit: pit(grains),
        }
    }
}

impl From<Amount> for Money {
    fn from(amount: Amount) -> Self {
        amount.grains().into()
    }
}

/// Grains as PIT, without the unit. Also amounts that a broken node makes up
/// have a text.
pub(crate) fn pit(grains: u64) -> String {
    match Amount::from_grains(grains) {
        Ok(amount) => amount.to_string(),
        Err(_) => format!("{}.{:08}", grains / GRAINS_PER_PIT, grains % GRAINS_PER_PIT),
    }
}

/// Grains as PIT, with the unit.
pub(crate) fn pit_unit(grains: u64) -> String {
    format!("{} PIT", pit(grains))
}

/// A time in UTC, ISO 8601, to the second; empty if there is none.
pub(crate) fn iso(time: Option<&prost_types::Timestamp>) -> String {
    time.and_then(|time| OffsetDateTime::from_unix_timestamp(time.seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// The same as JSON has it: null if there is none.
pub(crate) fn iso_option(time: Option<&prost_types::Timestamp>) -> Option<String> {
    let text = iso(time);
    (!text.is_empty()).then_some(text)
}

/// A large number with an SI prefix: `1.23 M`.
pub(crate) fn si(number: f64) -> String {
    const PREFIXES: [&str; 7] = ["", " k", " M", " G", " T", " P", " E"];
    let mut scaled = number;
    let mut prefix = 0;
    while scaled >= 999.995 && prefix + 1 < PREFIXES.len() {
        scaled /= 1_000.0;
        prefix += 1;
    }
    let unit = PREFIXES.get(prefix).copied().unwrap_or_default();
    format!("{scaled:.2}{unit}")
}

/// A hash rate: `1.23 MH/s`.
pub(crate) fn hash_rate(rate: f64) -> String {
    let text = si(rate);
    match text.split_once(' ') {
        Some((number, prefix)) => format!("{number} {prefix}H/s"),
        None => format!("{text} H/s"),
    }
}

/// A number of bytes, for a glance: `640 B`, `1.31 MB`.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        _ => format!("{}B", si(count as f64)),
    }
}

/// Seconds as `1d 2h`, `3h 4m`, `5m 6s` or `7s`.
pub(crate) fn duration(seconds: i64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {seconds}s"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// A time span in milliseconds.
pub(crate) fn milliseconds(span: &prost_types::Duration) -> f64 {
    span.seconds as f64 * 1_000.0 + f64::from(span.nanos) / 1_000_000.0
}

/// A peer's round trip, if it was measured.
pub(crate) fn peer_latency(peer: &v1::Peer) -> String {
    let latency = peer.latency.as_ref();
    latency.map_or_else(
        || "–".to_owned(),
        |latency| format!("{:.1} ms", milliseconds(latency)),
    )
}

/// The first and the last digits of a hash: block hashes start with zeros, and
/// differ at the end.
pub(crate) fn short_hash(hash: &str) -> String {
    match (hash.get(..10), hash.get(hash.len().saturating_sub(8)..)) {
        (Some(start), Some(end)) if hash.len() > 24 => format!("{start}…{end}"),
        _ => hash.to_owned(),
    }
}

/// Prefix, first and last characters of an address.
pub(crate) fn short_address(address: &str) -> String {
    match (
        address.get(..12),
        address.get(address.len().saturating_sub(6)..),
    ) {
        (Some(start), Some(end)) if address.len() > 24 => format!("{start}…{end}"),
        _ => address.to_owned(),
    }
}

/// A header.
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

/// A block.
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

/// One payment.
#[derive(Debug, Serialize)]
pub(crate) struct OutputJson {
    recipient: String,
    amount: Money,
}

/// A transaction.
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

/// Where a transaction stands.
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

/// A state in one word.
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

/// `1 block`, `2 blocks`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

/// Data as text if it is readable text, else as hex.
pub(crate) fn data(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok(text) if !text.chars().any(char::is_control) => format!("{text:?}"),
        _ => format!("0x{}", hex::encode(data)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        assert_eq!(pit(1), "0.00000001");
        assert_eq!(pit(5_000_000_000), "50.00");
        assert_eq!(pit(u64::MAX), "184467440737.09551615");
    }

    #[test]
    fn large_numbers_get_a_prefix() {
        assert_eq!(si(0.0), "0.00");
        assert_eq!(si(999.0), "999.00");
        assert_eq!(si(1_048_576.0), "1.05 M");
        assert_eq!(hash_rate(1_500_000.0), "1.50 MH/s");
        assert_eq!(hash_rate(12.0), "12.00 H/s");
        assert_eq!(si(f64::MAX).split_whitespace().count(), 2);
    }

    #[test]
    fn times_are_utc() {
        let time = prost_types::Timestamp {
            seconds: 1_793_491_200,
            nanos: 0,
        };
        assert_eq!(iso(Some(&time)), "2026-11-01T00:00:00Z");
        assert_eq!(iso(None), "");
    }

    #[test]
    fn durations_name_two_units() {
        assert_eq!(duration(7), "7s");
        assert_eq!(duration(65), "1m 5s");
        assert_eq!(duration(3_660), "1h 1m");
        assert_eq!(duration(90_000), "1d 1h");
    }

    #[test]
    fn data_is_text_only_if_it_can_be_shown() {
        assert_eq!(data(b"rent"), "\"rent\"");
        assert_eq!(data(b"a\x1b[31m"), "0x611b5b33316d");
        assert_eq!(data(&[0xff]), "0xff");
    }

    #[test]
    fn short_forms_leave_short_text_alone() {
        assert_eq!(short_hash("abc"), "abc");
        assert_eq!(
            short_hash(&"é".repeat(40)),
            format!("{}…{}", "é".repeat(5), "é".repeat(4))
        );
    }
}
