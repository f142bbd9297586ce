//! The difficulty rule: ASERT relative to the parent (protocol §7).
//!
//! [`expected_bits`] is the rule: it looks at a block's parent and grandparent.
//! [`asert`] is the general aserti3-2d function, with which published test vectors can
//! be computed. Both share their arithmetic.

use ruint::aliases::U512;

use crate::genesis::ConsensusParams;
use crate::target::{CompactTarget, Target};

/// One, as a fixed-point number with 16 fractional bits.
const RADIX: i128 = 65_536;
/// The highest exponent after a pause. The next target is then 2² = four times easier
/// (protocol §7).
const MAX_EXPONENT: i128 = 2 * RADIX;

/// The ancestors of a block, as far as the rule depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ancestors {
    /// The parent's time, Unix seconds.
    pub parent_time: u32,
    /// The parent's compact target.
    pub parent_bits: CompactTarget,
    /// The grandparent's time; `None` if the parent is the genesis block.
    pub grandparent_time: Option<u32>,
}

/// The pace of an ASERT schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsertPace {
    /// Intended seconds between blocks.
    pub interval_secs: u64,
    /// Seconds behind schedule that double the target.
    pub half_life_secs: u64,
}

/// The compact target that a block must carry (protocol §7). The block at height 1
/// keeps that of the genesis.
#[must_use]
pub fn expected_bits(params: &ConsensusParams, ancestors: &Ancestors) -> CompactTarget {
    let Some(grandparent_time) = ancestors.grandparent_time else {
        return ancestors.parent_bits;
    };
    // A parent on the chain has canonical bits, so the limit is never used.
    let parent_target = ancestors
        .parent_bits
        .to_target()
        .unwrap_or(params.pow_limit);
    let elapsed = i128::from(ancestors.parent_time).saturating_sub(i128::from(grandparent_time));
    let pace = AsertPace {
        interval_secs: u64::from(params.block_interval_secs),
        half_life_secs: u64::from(params.half_life_secs),
    };
    let exponent = exponent(elapsed, 0, pace).min(MAX_EXPONENT);
    scale(parent_target, exponent, params.pow_limit).to_compact()
}

/// The aserti3-2d target `height_diff` blocks above an anchor, `time_diff`
/// seconds after the anchor's parent.
#[must_use]
pub fn asert(
    anchor: Target,
    time_diff: i128,
    height_diff: i128,
    pace: AsertPace,
    limit: Target,
) -> Target {
    scale(anchor, exponent(time_diff, height_diff, pace), limit)
}

/// How many half-lives the chain is behind its schedule, times 65,536, truncated
/// toward zero.
fn exponent(time_diff: i128, height_diff: i128, pace: AsertPace) -> i128 {
    let due = i128::from(pace.interval_secs).saturating_mul(height_diff.saturating_add(1));
    time_diff
        .saturating_sub(due)
        .saturating_mul(RADIX)
        .checked_div(i128::from(pace.half_life_secs))
        .unwrap_or(0)
}

/// `target · 2^(exponent / 65,536)` by the published cubic approximation, at least 1
/// and at most `limit`.
fn scale(target: Target, exponent: i128, limit: Target) -> Target {
    let shift = exponent >> 16;
    // The low 16 bits are the fractional part, 0 to 65,535.
    let fraction = u128::try_from(exponent & 0xffff).unwrap_or(0);
    let square = fraction.saturating_mul(fraction);
    let cube = square.saturating_mul(fraction);
    let factor = 195_766_423_245_049_u128
        .saturating_mul(fraction)
        .saturating_add(971_821_376_u128.saturating_mul(square))
        .saturating_add(5_127_u128.saturating_mul(cube))
        .saturating_add(1 << 47)
        >> 48;
    let factor = factor.saturating_add(65_536);

    let product = U512::from(target.number()).saturating_mul(U512::from(factor));
    let distance = usize::try_from(shift.unsigned_abs()).unwrap_or(usize::MAX);
    let shifted = if shift < 0 {
        product.wrapping_shr(distance.min(512))
    } else {
        match product.checked_shl(distance.min(512)) {
            Some(number) => number,
            None => return limit,
        }
    };
    let number = shifted.wrapping_shr(16);
    if number > U512::from(limit.number()) {
        return limit;
    }
    Target::new(number.saturating_to()).unwrap_or_else(|| smallest(limit))
}

/// The smallest target, 1.
fn smallest(limit: Target) -> Target {
    Target::new(ruint::aliases::U256::from(1u8)).unwrap_or(limit)
}
