//! Targets, their compact form, and work (protocol §4, §7).

use std::fmt;

use ruint::aliases::{U256, U512};
use thiserror::Error;

use crate::hash::BlockHash;

/// A 256-bit number, never zero. A block hash, read as a little-endian number, must
/// not exceed it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(U256);

/// The compact form of a target, as a header holds it in `bits`: an exponent byte
/// and a 23-bit mantissa.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CompactTarget(pub u32);

/// The expected number of hashes behind a block or a whole chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Work(U256);

/// A compact target that no header may carry (protocol §7).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CompactTargetError {
    /// The sign bit is set on a mantissa that is not zero.
    #[error("compact target {bits:#010x} is negative")]
    Negative { bits: u32 },
    /// The number is zero.
    #[error("compact target {bits:#010x} is zero")]
    Zero { bits: u32 },
    /// The number does not fit 256 bits.
    #[error("compact target {bits:#010x} overflows 256 bits")]
    Overflow { bits: u32 },
    /// The number has another compact form, which is the canonical one.
    #[error("compact target {bits:#010x} is not canonical: {canonical:#010x} is")]
    NotCanonical { bits: u32, canonical: u32 },
}

impl CompactTarget {
    /// Reads the compact form.
    ///
    /// # Errors
    /// [`CompactTargetError`] if it is negative, zero, overflowing or not the
    /// canonical form of its number (protocol §7).
    pub fn to_target(self) -> Result<Target, CompactTargetError> {
        let bits = self.0;
        let exponent = bits >> 24;
        let mantissa = bits & 0x007f_ffff;
        let value = U256::from(mantissa);
        let shifted = if exponent <= 3 {
            let shift = 3u32.saturating_sub(exponent).saturating_mul(8);
            // Bits that are shifted out here make the form non-canonical. The check
            // below catches that.
            Some(value.wrapping_shr(usize::try_from(shift).unwrap_or(usize::MAX)))
        } else {
            let shift = exponent.saturating_sub(3).saturating_mul(8);
            value.checked_shl(usize::try_from(shift).unwrap_or(usize::MAX))
        };
        // A negative zero counts as zero.
        let is_zero = mantissa == 0 || shifted == Some(U256::ZERO);
        if !is_zero && bits & 0x0080_0000 != 0 {
            return Err(CompactTargetError::Negative { bits });
        }
        let number = match shifted {
            Some(number) => number,
            None if is_zero => U256::ZERO,
            None => return Err(CompactTargetError::Overflow { bits }),
        };
        let target = Target::new(number).ok_or(CompactTargetError::Zero { bits })?;
        let canonical = target.to_compact();
        if canonical != self {
            return Err(CompactTargetError::NotCanonical {
                bits,
                canonical: canonical.0,
            });
        }
        Ok(target)
    }
}

impl Target {
    /// 2^256 − 1, which every hash meets.
    pub const MAX: Self = Self(U256::MAX);

    /// The target with this number; `None` if the number is zero.
    #[must_use]
    pub fn new(number: U256) -> Option<Self> {
        (number != U256::ZERO).then_some(Self(number))
    }

    /// The target as a number.
    #[must_use]
    pub fn number(self) -> U256 {
        self.0
    }

    /// From 32 little-endian bytes; `None` if they are all zero.
    #[must_use]
    pub fn from_le_bytes(bytes: [u8; 32]) -> Option<Self> {
        Self::new(U256::from_le_bytes(bytes))
    }

    /// As 32 little-endian bytes.
    #[must_use]
    pub fn to_le_bytes(self) -> [u8; 32] {
        self.0.to_le_bytes()
    }

    /// The compact form. It keeps the 15 to 23 leading bits and drops the rest.
    #[must_use]
    pub fn to_compact(self) -> CompactTarget {
        let bytes = self.0.bit_len().div_ceil(8);
        let mantissa = if bytes <= 3 {
            let shift = 3usize.saturating_sub(bytes).saturating_mul(8);
            self.0.wrapping_shl(shift)
        } else {
            let shift = bytes.saturating_sub(3).saturating_mul(8);
            self.0.wrapping_shr(shift)
        };
        // At most 24 bits are left, so both conversions hold.
        let mantissa = mantissa.saturating_to::<u32>();
        let exponent = u32::try_from(bytes).unwrap_or(33);
        let (mantissa, exponent) = if mantissa & 0x0080_0000 == 0 {
            (mantissa, exponent)
        } else {
            (mantissa >> 8, exponent.saturating_add(1))
        };
        CompactTarget((exponent << 24) | mantissa)
    }

    /// Whether a block hash is at or below the target (protocol §1).
    #[must_use]
    pub fn is_met_by(self, hash: &BlockHash) -> bool {
        U256::from_le_bytes(hash.0) <= self.0
    }

    /// Expected number of hashes: `floor(2^256 / (target + 1))` (protocol §7).
    #[must_use]
    pub fn work(self) -> Work {
        let divisor = U512::from(self.0).saturating_add(U512::from(1u8));
        let numerator = U512::from(1u8).wrapping_shl(256);
        let quotient = numerator.checked_div(divisor).unwrap_or(U512::ZERO);
        Work(quotient.saturating_to::<U256>())
    }
}

impl Work {
    /// No work, as of the genesis block.
    pub const ZERO: Self = Self(U256::ZERO);

    /// The sum. It would stop at 2^256 − 1, which no chain can reach.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or zero if it would be negative.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// From 32 big-endian bytes.
    #[must_use]
    pub fn from_be_bytes(bytes: [u8; 32]) -> Self {
        Self(U256::from_be_bytes(bytes))
    }

    /// As 32 big-endian bytes.
    #[must_use]
    pub fn to_be_bytes(self) -> [u8; 32] {
        self.0.to_be_bytes()
    }

    /// The target that has this work, as near as integers allow.
    #[must_use]
    pub fn to_target(self) -> Target {
        let numerator = U512::from(1u8).wrapping_shl(256);
        let quotient = numerator
            .checked_div(U512::from(self.0))
            .unwrap_or(U512::MAX)
            .saturating_sub(U512::from(1u8));
        Target::new(quotient.saturating_to::<U256>()).unwrap_or(Target(U256::from(1u8)))
    }

    /// An approximation, for display.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        f64::from(self.0)
    }
}

impl fmt::Display for Target {
    /// Big-endian hex, which the eye can compare with a block hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0.to_be_bytes::<32>()))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

impl fmt::Display for CompactTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl fmt::Debug for CompactTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompactTarget({self})")
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.to_be_bytes()))
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Work({})", self.0)
    }
}
