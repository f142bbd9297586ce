//! The subsidy schedule (§6).

use pithead_consensus::Amount;
use pithead_consensus::subsidy::{subsidy, subsidy_of_year, year};

/// The first second of years in which the subsidy halves, from `date -u`.
const HALVINGS: [(u32, &str, &str); 4] = [
    (1_798_761_600, "50.00", "25.00"), // 2027
    (1_924_992_000, "25.00", "12.50"), // 2031
    (2_051_222_400, "12.50", "6.25"),  // 2035
    (2_177_452_800, "6.25", "3.125"),  // 2039
];

#[test]
fn the_subsidy_halves_at_the_first_second_of_the_year() {
    for (first_second, before, after) in HALVINGS {
        assert_eq!(subsidy(first_second - 1).to_string(), before);
        assert_eq!(subsidy(first_second).to_string(), after);
        assert_eq!(year(first_second), year(first_second - 1) + 1);
    }
    assert_eq!(
        subsidy(0).to_string(),
        "50.00",
        "before 2023 counts as 2023"
    );
    assert_eq!(year(u32::MAX), 2106);
}

#[test]
fn the_subsidy_ends_after_64_halvings() {
    let mut last = Amount::MAX_MONEY;
    for halving in 0..64 {
        let first = 2023 + 4 * halving;
        for offset in 0..4 {
            assert_eq!(subsidy_of_year(first + offset), subsidy_of_year(first));
        }
        let grains = 5_000_000_000_u64 >> halving;
        assert_eq!(subsidy_of_year(first).grains(), grains);
        assert!(subsidy_of_year(first) < last || grains == 0);
        last = subsidy_of_year(first);
    }
    for year in [2023 + 256, 3000, i32::MAX] {
        assert_eq!(subsidy_of_year(year), Amount::ZERO);
    }
    for year in [i32::MIN, -1, 1970, 2022, 2023, 2026] {
        assert_eq!(subsidy_of_year(year).to_string(), "50.00");
    }
}
