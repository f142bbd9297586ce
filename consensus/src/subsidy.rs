//! The subsidy schedule: halved every four calendar years (protocol §6).

use time::OffsetDateTime;

use crate::amount::{Amount, GRAINS_PER_PIT};

/// The first year of the schedule; years before it get the same subsidy.
const FIRST_YEAR: i32 = 2023;
/// Calendar years between halvings.
const YEARS_PER_HALVING: i32 = 4;
/// 50 PIT, in grains.
const INITIAL_GRAINS: u64 = 50 * GRAINS_PER_PIT;

/// The calendar year (UTC) of a Unix time.
#[must_use]
pub fn year(unix_secs: u32) -> i32 {
    // Every u32 is a date between 1970 and 2106, so the fallback is never used.
    OffsetDateTime::from_unix_timestamp(i64::from(unix_secs)).map_or(FIRST_YEAR, |date| date.year())
}

/// The money that a block issues. Its parent's time decides, not the wall clock nor
/// its own time (protocol §6).
#[must_use]
pub fn subsidy(parent_time: u32) -> Amount {
    subsidy_of_year(year(parent_time))
}

/// The money that a block issues if its parent's time is in this calendar year.
#[must_use]
pub fn subsidy_of_year(year: i32) -> Amount {
    let years = year.saturating_sub(FIRST_YEAR).max(0);
    let halvings = years.checked_div(YEARS_PER_HALVING).unwrap_or(0);
    let grains = u32::try_from(halvings)
        .ok()
        .and_then(|halvings| INITIAL_GRAINS.checked_shr(halvings))
        .unwrap_or(0);
    Amount::from_grains(grains).unwrap_or(Amount::ZERO)
}
