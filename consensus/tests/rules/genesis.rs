//! The built-in networks, and what a genesis hash covers (§10).

use std::collections::BTreeSet;

use pithead_consensus::AddressPrefix;
use pithead_consensus::genesis::{AllocationEntry, GenesisFile, Network, ValidatorEntry};

use pithead_testkit::key;

const NETWORKS: [Network; 3] = [Network::Main, Network::Test, Network::Dev];

#[test]
fn the_networks_are_as_protocol_10_lists_them() {
    let mut hashes = BTreeSet::new();
    for (network, prefix, hashes_log2, numbers) in [
        (
            Network::Main,
            "pit",
            32,
            [10, 3_600, 120, 2_000_000, 12_000, 10_000, 100, 10],
        ),
        (
            Network::Test,
            "tpit",
            28,
            [10, 1_800, 120, 2_000_000, 12_000, 10_000, 10, 10],
        ),
        (
            Network::Dev,
            "dpit",
            20,
            [2, 60, 10, 2_000_000, 12_000, 10_000, 0, 1],
        ),
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
            params.max_account_changes,
            u32::try_from(params.min_opening_amount.grains()).unwrap(),
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

fn dev_prefix() -> AddressPrefix {
    AddressPrefix::new("dpit").unwrap()
}

fn allocation(index: usize, amount: &str) -> AllocationEntry {
    AllocationEntry {
        address: key(index).address.to_text(&dev_prefix()),
        amount: amount.to_owned(),
    }
}

fn validator(index: usize) -> ValidatorEntry {
    ValidatorEntry {
        address: key(index).address.to_text(&dev_prefix()),
        public_key: hex::encode(key(index).public.modulus()),
    }
}

/// The dev network with an allocation and five validators.
fn base() -> GenesisFile {
    GenesisFile {
        allocations: vec![allocation(0, "1")],
        validators: (0..5).map(validator).collect(),
        approval_quorum: 4,
        ..Network::Dev.genesis_file()
    }
}

/// Another prefix changes every address with it.
fn rename_prefix(file: &mut GenesisFile) {
    let prefix = AddressPrefix::new("epit").unwrap();
    file.address_prefix = prefix.as_str().to_owned();
    file.allocations[0].address = key(0).address.to_text(&prefix);
    for (index, entry) in file.validators.iter_mut().enumerate() {
        entry.address = key(index).address.to_text(&prefix);
    }
}

/// The name of a change to a genesis file, and the change.
type Change = (&'static str, fn(&mut GenesisFile));

const CHANGES: [Change; 20] = [
    ("name", |file| file.name.push('x')),
    ("address_prefix", rename_prefix),
    ("time", |file| file.time += 1),
    ("bits", |file| file.bits -= 1),
    ("pow_limit_bits", |file| file.pow_limit_bits -= 1),
    ("block_interval_secs", |file| file.block_interval_secs += 1),
    ("half_life_secs", |file| file.half_life_secs += 1),
    ("max_future_secs", |file| file.max_future_secs += 1),
    ("max_block_bytes", |file| file.max_block_bytes += 1),
    ("max_account_changes", |file| file.max_account_changes += 1),
    ("min_opening_amount", |file| file.min_opening_amount += 1),
    ("reward_maturity", |file| file.reward_maturity += 1),
    ("checkpoint_interval", |file| file.checkpoint_interval += 1),
    ("approval_quorum", |file| file.approval_quorum = 5),
    ("amount", |file| file.allocations[0] = allocation(0, "2")),
    ("allocation", |file| {
        file.allocations.push(allocation(1, "1"))
    }),
    ("no allocation", |file| file.allocations.clear()),
    ("validator", |file| file.validators[4] = validator(5)),
    ("order of validators", |file| file.validators.swap(0, 1)),
    ("no validators", |file| {
        file.validators.clear();
        file.approval_quorum = 0;
    }),
];

#[test]
fn every_field_of_a_genesis_changes_its_hash() {
    // Every key of the file has a change.
    let keys = base().to_toml().unwrap();
    for line in keys.lines().take_while(|line| !line.is_empty()) {
        let name = line.split(" = ").next().unwrap();
        assert!(
            CHANGES.iter().any(|(field, _)| *field == name),
            "{name} is not tried"
        );
    }
    let mut hashes = BTreeSet::from([base().check().unwrap().params.genesis_hash]);
    for (field, change) in CHANGES {
        let mut file = base();
        change(&mut file);
        let hash = file.check().unwrap().params.genesis_hash;
        assert!(hashes.insert(hash), "{field} does not change the hash");
    }
}

#[test]
fn the_order_of_allocations_does_not_change_the_hash() {
    let two = |first, second| {
        let allocations = vec![allocation(first, "1"), allocation(second, "1")];
        let file = GenesisFile {
            allocations,
            ..base()
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
