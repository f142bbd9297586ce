//! How numbers, amounts, times, hashes and data look as text. It knows nothing
//! of the API's messages: `show` has those.

use pithead_consensus::Amount;
use pithead_consensus::amount::GRAINS_PER_PIT;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// An amount, exact in both units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Money {
    /// The amount in grains, 10^-8 PIT.
    pub(crate) grains: u64,
    /// The amount in PIT, with exact decimals.
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

/// Grains as PIT, without the unit. Amounts above all money that there can be,
/// which only a broken node tells, have a text, too.
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

/// A time for JSON: `null` if there is none.
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

/// A number of bytes, rounded: `640 B`, `1.31 MB`.
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

/// A duration of the API in milliseconds.
pub(crate) fn milliseconds(span: &prost_types::Duration) -> f64 {
    span.seconds as f64 * 1_000.0 + f64::from(span.nanos) / 1_000_000.0
}

/// The first and the last digits of a hash. The last ones matter: hashes of blocks
/// start with zeros.
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

/// A number with its noun: `1 block`, `2 blocks`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

/// Attached data as quoted text if it is printable, else as hex.
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
