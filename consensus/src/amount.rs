//! Money: whole grains, 100,000,000 to the PIT (protocol §1).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Grains in one PIT.
pub const GRAINS_PER_PIT: u64 = 100_000_000;

/// Decimal places of a PIT.
const DECIMALS: usize = 8;

/// An amount of money in grains, never above [`Amount::MAX_MONEY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(u64);

/// A number of grains above [`Amount::MAX_MONEY`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{found} grains is more than there can ever be ({})", Amount::MAX_MONEY.grains())]
pub struct AmountOutOfRangeError {
    pub found: u128,
}

/// A text is not an amount in PIT.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseAmountError {
    /// The text is not digits with at most one decimal point.
    #[error("{found:?} is not an amount: write PIT as digits with a decimal point, such as 1.25")]
    Malformed {
        /// The text, cut to 40 characters.
        found: String,
    },
    /// The text has more than eight decimals.
    #[error("{found:?} has more than 8 decimals: the smallest unit is 0.00000001 PIT (1 grain)")]
    TooPrecise {
        /// The text, cut to 40 characters.
        found: String,
    },
    /// The amount exceeds [`Amount::MAX_MONEY`].
    #[error("{found:?} PIT is more than there can ever be (2,000,000,000 PIT)")]
    OutOfRange {
        /// The text, cut to 40 characters.
        found: String,
    },
}

impl Amount {
    /// No money.
    pub const ZERO: Self = Self(0);
    /// The limit of every amount and every balance: 2,000,000,000 PIT (protocol §1).
    pub const MAX_MONEY: Self = Self(2_000_000_000 * GRAINS_PER_PIT);

    /// An amount of whole grains.
    ///
    /// # Errors
    /// [`AmountOutOfRangeError`] above [`Amount::MAX_MONEY`].
    pub fn from_grains(grains: u64) -> Result<Self, AmountOutOfRangeError> {
        if grains > Self::MAX_MONEY.0 {
            return Err(AmountOutOfRangeError {
                found: u128::from(grains),
            });
        }
        Ok(Self(grains))
    }

    /// The number of grains.
    #[must_use]
    pub const fn grains(self) -> u64 {
        self.0
    }

    /// The sum, unless it exceeds [`Amount::MAX_MONEY`].
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let sum = self.0.checked_add(other.0)?;
        Self::from_grains(sum).ok()
    }

    /// The sum, or [`Amount::MAX_MONEY`] if the sum exceeds that.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        self.checked_add(other).unwrap_or(Self::MAX_MONEY)
    }

    /// The difference, unless it is negative.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The exact sum of many amounts.
    ///
    /// # Errors
    /// [`AmountOutOfRangeError`] above [`Amount::MAX_MONEY`].
    pub fn sum(amounts: impl IntoIterator<Item = Self>) -> Result<Self, AmountOutOfRangeError> {
        let total = amounts.into_iter().fold(0u128, |sum, amount| {
            sum.saturating_add(u128::from(amount.0))
        });
        u64::try_from(total)
            .ok()
            .and_then(|grains| Self::from_grains(grains).ok())
            .ok_or(AmountOutOfRangeError { found: total })
    }
}

impl fmt::Display for Amount {
    /// PIT with exact decimals, at least two: `50.00`, `0.00000001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.checked_div(GRAINS_PER_PIT).unwrap_or(0);
        let fraction = self.0.checked_rem(GRAINS_PER_PIT).unwrap_or(0);
        let digits = format!("{fraction:08}");
        let trimmed = digits.trim_end_matches('0');
        f.pad(&format!("{whole}.{trimmed:0<2}"))
    }
}

impl FromStr for Amount {
    type Err = ParseAmountError;

    /// Reads PIT with up to eight decimals, such as `1`, `0.5` or `12.00000001`.
    fn from_str(text: &str) -> Result<Self, ParseAmountError> {
        let found = || text.chars().take(40).collect::<String>();
        let malformed = || ParseAmountError::Malformed { found: found() };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let all_digits =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) {
            return Err(malformed());
        }
        if fraction.len() > DECIMALS {
            return Err(ParseAmountError::TooPrecise { found: found() });
        }
        let out_of_range = || ParseAmountError::OutOfRange { found: found() };
        let whole: u64 = whole.parse().map_err(|_| out_of_range())?;
        let fraction: u64 = format!("{fraction:0<8}").parse().map_err(|_| malformed())?;
        whole
            .checked_mul(GRAINS_PER_PIT)
            .and_then(|grains| grains.checked_add(fraction))
            .and_then(|grains| Self::from_grains(grains).ok())
            .ok_or_else(out_of_range)
    }
}
