//! The two schedules, subsidy (§6) and difficulty (§7), and the built-in
//! networks (§10).

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use common::key;
use pithead_consensus::difficulty::{Ancestors, asert, expected_bits};
use pithead_consensus::genesis::{AllocationEntry, GenesisFile, Network, ValidatorEntry};
use pithead_consensus::subsidy::{subsidy, subsidy_of_year, year};
use pithead_consensus::{Address, AddressPrefix, Amount, CompactTarget, Target};
use proptest::prelude::*;

const NETWORKS: [Network; 3] = [Network::Main, Network::Test, Network::Dev];

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

#[test]
fn the_networks_are_as_protocol_10_lists_them() {
    let mut hashes = BTreeSet::new();
    for (network, prefix, hashes_log2, numbers) in [
        (
            Network::Main,
            "pit",
            32,
            [10, 3_600, 120, 2_000_000, 100, 10],
        ),
        (
            Network::Test,
            "tpit",
            28,
            [10, 1_800, 120, 2_000_000, 10, 10],
        ),
        (Network::Dev, "dpit", 20, [2, 60, 10, 2_000_000, 0, 1]),
    ] {
        let genesis = network.genesis().unwrap();
        assert_eq!(genesis.name, network.name());
        assert_eq!(genesis.prefix.as_str(), prefix);
        let params = &genesis.params;
        let found = [
            params.block_interval_secs,
            params.half_life_secs,
            params.max_future_secs,
            params.max_block_bytes,
            params.reward_maturity,
            params.checkpoint_interval,
        ];
        assert_eq!(found, numbers);
        let work = genesis
            .block
            .header
            .bits
            .to_target()
            .unwrap()
            .work()
            .to_f64();
        let expected = f64::from(hashes_log2).exp2();
        assert!((work / expected - 1.0).abs() < 0.001, "{work} hashes");
        assert_eq!(genesis.block.header.hash(), params.genesis_hash);
        assert!(genesis.block.transactions.is_empty());
        hashes.insert(params.genesis_hash);
    }
    assert_eq!(hashes.len(), 3);
}

#[test]
fn every_field_of_a_genesis_changes_its_hash() {
    let prefix = AddressPrefix::new("dpit").unwrap();
    let allocation = |index: usize, amount: &str| AllocationEntry {
        address: key(index).address.to_text(&prefix),
        amount: amount.to_owned(),
    };
    let validator = |index: usize| ValidatorEntry {
        address: key(index).address.to_text(&prefix),
        public_key: hex::encode(key(index).public.modulus()),
    };
    let base = GenesisFile {
        allocations: vec![allocation(0, "1")],
        validators: (0..5).map(validator).collect(),
        approval_quorum: 4,
        ..Network::Dev.genesis_file()
    };
    type Change<'a> = (&'a str, Box<dyn Fn(&mut GenesisFile) + 'a>);
    let changes: Vec<Change<'_>> = vec![
        ("name", Box::new(|file| file.name.push('x'))),
        (
            "address_prefix",
            Box::new(|file| {
                file.address_prefix = "epit".to_owned();
                let prefix = AddressPrefix::new("epit").unwrap();
                file.allocations[0].address = key(0).address.to_text(&prefix);
                for (index, entry) in file.validators.iter_mut().enumerate() {
                    entry.address = key(index).address.to_text(&prefix);
                }
            }),
        ),
        ("time", Box::new(|file| file.time += 1)),
        ("bits", Box::new(|file| file.bits -= 1)),
        ("pow_limit_bits", Box::new(|file| file.pow_limit_bits -= 1)),
        (
            "block_interval_secs",
            Box::new(|file| file.block_interval_secs += 1),
        ),
        ("half_life_secs", Box::new(|file| file.half_life_secs += 1)),
        (
            "max_future_secs",
            Box::new(|file| file.max_future_secs += 1),
        ),
        (
            "max_block_bytes",
            Box::new(|file| file.max_block_bytes += 1),
        ),
        (
            "reward_maturity",
            Box::new(|file| file.reward_maturity += 1),
        ),
        (
            "checkpoint_interval",
            Box::new(|file| file.checkpoint_interval += 1),
        ),
        ("approval_quorum", Box::new(|file| file.approval_quorum = 5)),
        (
            "amount",
            Box::new(|file| file.allocations[0].amount = "2".to_owned()),
        ),
        (
            "allocation",
            Box::new(|file| file.allocations.push(allocation(1, "1"))),
        ),
        ("no allocation", Box::new(|file| file.allocations.clear())),
        (
            "validator",
            Box::new(|file| file.validators[4] = validator(5)),
        ),
        (
            "order of validators",
            Box::new(|file| file.validators.swap(0, 1)),
        ),
        (
            "no validators",
            Box::new(|file| {
                file.validators.clear();
                file.approval_quorum = 0;
            }),
        ),
    ];
    // One change for each key of the file at least.
    let keys = base.to_toml().unwrap();
    for line in keys.lines().take_while(|line| !line.is_empty()) {
        let name = line.split(" = ").next().unwrap();
        assert!(
            changes.iter().any(|(field, _)| *field == name),
            "{name} is not tried"
        );
    }
    let mut hashes = BTreeSet::from([base.check().unwrap().params.genesis_hash]);
    for (field, change) in &changes {
        let mut file = base.clone();
        change(&mut file);
        let hash = file.check().unwrap().params.genesis_hash;
        assert!(hashes.insert(hash), "{field} does not change the hash");
    }
    // The order of allocations says nothing.
    let two = |first, second| {
        let allocations = vec![allocation(first, "1"), allocation(second, "1")];
        let file = GenesisFile {
            allocations,
            ..base.clone()
        };
        file.check().unwrap().params.genesis_hash
    };
    assert_eq!(two(0, 1), two(1, 0));
}

#[test]
fn a_genesis_file_survives_toml() {
    for network in NETWORKS {
        let file = network.genesis_file();
        let text = file.to_toml().unwrap();
        assert_eq!(GenesisFile::from_toml(&text), Ok(file));
    }
}

fn ancestors(bits: CompactTarget, elapsed: u32) -> Ancestors {
    Ancestors {
        parent_time: 1_800_000_000 + elapsed,
        parent_bits: bits,
        grandparent_time: Some(1_800_000_000),
    }
}

#[test]
fn the_first_block_keeps_the_target_of_the_genesis() {
    for network in NETWORKS {
        let genesis = network.genesis().unwrap();
        let bits = genesis.block.header.bits;
        let first = Ancestors {
            grandparent_time: None,
            ..ancestors(bits, 0)
        };
        assert_eq!(expected_bits(&genesis.params, &first), bits);
    }
}

#[test]
fn a_pause_makes_the_next_target_four_times_easier_at_most() {
    let params = Network::Main.genesis().unwrap().params;
    let bits = CompactTarget(0x1b00_ffff);
    let week = expected_bits(&params, &ancestors(bits, 7 * 86_400))
        .to_target()
        .unwrap();
    let day = expected_bits(&params, &ancestors(bits, 86_400))
        .to_target()
        .unwrap();
    assert_eq!(week, day);
    let ratio = bits.to_target().unwrap().work().to_f64() / week.work().to_f64();
    assert!((ratio - 4.0).abs() < 0.001, "{ratio}");
}

proptest! {
    #[test]
    fn expected_bits_are_canonical_and_within_the_limit(
        which in 0..3usize,
        number: [u8; 32],
        shift in 0..32usize,
        elapsed in 0..400_000u32,
    ) {
        let params = NETWORKS[which].genesis().unwrap().params;
        let mut number = number;
        number[32 - shift..].fill(0);
        let Some(target) = Target::from_le_bytes(number) else {
            return Ok(());
        };
        let parent = target.min(params.pow_limit).to_compact();
        let next = expected_bits(&params, &ancestors(parent, elapsed));
        let target = next.to_target().unwrap();
        prop_assert!(target <= params.pow_limit);
        // Slower blocks never make the next target harder.
        let later = expected_bits(&params, &ancestors(parent, elapsed + 1));
        prop_assert!(later.to_target().unwrap() >= target);
        // On schedule, or at the limit, nothing moves.
        let even = expected_bits(&params, &ancestors(parent, params.block_interval_secs));
        prop_assert_eq!(even, parent);
    }

    #[test]
    fn asert_takes_any_numbers(
        time: i128,
        height: i128,
        interval: u64,
        half_life: u64,
        anchor: [u8; 32],
        limit: [u8; 32],
    ) {
        if let (Some(anchor), Some(limit)) =
            (Target::from_le_bytes(anchor), Target::from_le_bytes(limit))
        {
            let target = asert(anchor, time, height, interval, half_life, limit);
            prop_assert!(target <= limit);
        }
    }

    #[test]
    fn work_and_target_invert(exponent in 0..255usize, low: u64) {
        let mut number = [0; 32];
        number[..8].copy_from_slice(&(low | 1).to_le_bytes());
        number[exponent / 8] |= 1 << (exponent % 8);
        let target = Target::from_le_bytes(number).unwrap();
        // Rounding down twice can only make it easier, and never changes the work.
        let back = target.work().to_target();
        prop_assert!(back >= target);
        prop_assert_eq!(back.work(), target.work());
    }

    #[test]
    fn amounts_survive_text(grains in 0..=Amount::MAX_MONEY.grains()) {
        let amount = Amount::from_grains(grains).unwrap();
        prop_assert_eq!(amount.to_string().parse::<Amount>(), Ok(amount));
    }

    #[test]
    fn amount_parser_takes_any_text(text in "\\PC*|[0-9.]{0,30}") {
        if let Ok(amount) = text.parse::<Amount>() {
            prop_assert_eq!(amount.to_string().parse::<Amount>(), Ok(amount));
        }
    }

    #[test]
    fn addresses_survive_text(payload: [u8; 32], prefix in "[a-z0-9]{1,16}") {
        let prefix = AddressPrefix::new(&prefix).unwrap();
        let text = Address(payload).to_text(&prefix);
        prop_assert_eq!(Address::from_text(&text, &prefix), Ok(Address(payload)));
        let upper = text.to_ascii_uppercase();
        prop_assert_eq!(Address::from_text(&upper, &prefix), Ok(Address(payload)));
    }

    #[test]
    fn address_parser_takes_any_text(text in "\\PC*|pit1[a-z0-9]{0,70}") {
        let prefix = AddressPrefix::new("pit").unwrap();
        prop_assert!(Address::from_text(&text, &prefix).is_err());
    }
}

#[test]
fn every_single_character_typo_is_refused() {
    let prefix = AddressPrefix::new("pit").unwrap();
    let text = key(0).address.to_text(&prefix);
    let mut tried = 0;
    for place in 0..text.len() {
        for letter in ' '..='~' {
            let typo = format!("{}{letter}{}", &text[..place], &text[place + 1..]);
            if typo != text {
                assert!(Address::from_text(&typo, &prefix).is_err(), "{typo}");
                tried += 1;
            }
        }
        let dropped = format!("{}{}", &text[..place], &text[place + 1..]);
        assert!(Address::from_text(&dropped, &prefix).is_err(), "{dropped}");
        if let Some(next) = text.get(place + 1..place + 2) {
            let swapped = format!(
                "{}{next}{}{}",
                &text[..place],
                &text[place..=place],
                &text[place + 2..]
            );
            assert!(
                swapped == text || Address::from_text(&swapped, &prefix).is_err(),
                "{swapped}"
            );
        }
    }
    assert!(tried > 5_000);
}
