//! Genesis files that are refused.

use pithead_consensus::CompactTarget;
use pithead_consensus::address::ParseAddressError;
use pithead_consensus::genesis::{
    AllocationEntry, GenesisError, GenesisFile, Network, ValidatorEntry,
};
use pithead_consensus::target::CompactTargetError;
use pithead_consensus::{Address, AddressPrefix, Amount};

use pithead_testkit::key;

/// The dev network with something changed.
fn refused(change: impl FnOnce(&mut GenesisFile)) -> GenesisError {
    let mut file = Network::Dev.genesis_file();
    assert!(file.check().is_ok());
    change(&mut file);
    file.check().unwrap_err()
}

fn text(address: &Address) -> String {
    address.to_text(&AddressPrefix::new("dpit").unwrap())
}

fn allocation(index: usize, amount: &str) -> AllocationEntry {
    AllocationEntry {
        address: text(&key(index).address),
        amount: amount.to_owned(),
    }
}

fn validator(index: usize) -> ValidatorEntry {
    ValidatorEntry {
        address: text(&key(index).address),
        public_key: hex::encode(key(index).public.modulus()),
    }
}

#[test]
fn rejects_bad_toml() {
    let good = Network::Dev.genesis_file().to_toml().unwrap();
    assert!(GenesisFile::from_toml(&good).is_ok());
    let unknown = format!("{good}\nmax_blok_bytes = 1\n");
    let missing = good.replace("half_life_secs", "# half_life_secs");
    let negative = good.replace("reward_maturity = 0", "reward_maturity = -1");
    let large = good.replace("reward_maturity = 0", "reward_maturity = 4294967296");
    for text in ["", "name =", "[[", &unknown, &missing, &negative, &large] {
        let result = GenesisFile::from_toml(text);
        assert!(matches!(result, Err(GenesisError::BadToml(_))), "{text}");
    }
}

#[test]
fn rejects_bad_name() {
    for name in ["", "tab\t", "naïve", &"x".repeat(33)] {
        let error = GenesisError::BadName {
            found: name.to_owned(),
        };
        assert_eq!(refused(|file| file.name = name.to_owned()), error);
    }
}

#[test]
fn rejects_bad_address() {
    let prefix = refused(|file| file.address_prefix = "D".to_owned());
    assert!(matches!(
        prefix,
        GenesisError::BadAddress {
            error: ParseAddressError::BadPrefix { .. },
            ..
        }
    ));
    let foreign = AllocationEntry {
        address: key(0).address.to_text(&AddressPrefix::new("pit").unwrap()),
        amount: "1".to_owned(),
    };
    assert!(matches!(
        refused(|file| file.allocations = vec![foreign]),
        GenesisError::BadAddress {
            error: ParseAddressError::WrongNetwork { .. },
            ..
        }
    ));
}

#[test]
fn rejects_bad_target() {
    assert_eq!(
        refused(|file| file.bits = 0),
        GenesisError::BadTarget {
            field: "bits",
            error: CompactTargetError::Zero { bits: 0 },
        }
    );
    assert_eq!(
        refused(|file| file.pow_limit_bits = 0xff12_3456),
        GenesisError::BadTarget {
            field: "pow_limit_bits",
            error: CompactTargetError::Overflow { bits: 0xff12_3456 },
        }
    );
}

#[test]
fn rejects_target_above_limit() {
    let error = GenesisError::TargetAboveLimit {
        bits: CompactTarget(0x207f_ffff),
        limit: CompactTarget(0x1e0f_ffff),
    };
    let found = refused(|file| {
        file.bits = 0x207f_ffff;
        file.pow_limit_bits = 0x1e0f_ffff;
    });
    assert_eq!(found, error);
}

type Set = fn(&mut GenesisFile, u32);

/// Fields with a range: how to set one, and the nearest numbers below and above the range, or two
/// above it.
const RANGES: [(&str, Set, u32, u32); 8] = [
    (
        "block_interval_secs",
        |file, n| file.block_interval_secs = n,
        0,
        86_401,
    ),
    (
        "half_life_secs",
        |file, n| file.half_life_secs = n,
        0,
        31_536_001,
    ),
    (
        "max_future_secs",
        |file, n| file.max_future_secs = n,
        0,
        86_401,
    ),
    (
        "max_block_bytes",
        |file, n| file.max_block_bytes = n,
        32_767,
        3_500_001,
    ),
    (
        "max_account_changes",
        |file, n| file.max_account_changes = n,
        255,
        100_001,
    ),
    (
        "min_opening_amount",
        |file, n| file.min_opening_amount = n,
        0,
        100_000_001,
    ),
    (
        "reward_maturity",
        |file, n| file.reward_maturity = n,
        1_001,
        u32::MAX,
    ),
    (
        "checkpoint_interval",
        |file, n| file.checkpoint_interval = n,
        0,
        100_001,
    ),
];

#[test]
fn rejects_out_of_range() {
    for (name, set, low, high) in RANGES {
        for number in [low, high] {
            match refused(|file| set(file, number)) {
                GenesisError::OutOfRange {
                    field,
                    found,
                    min,
                    max,
                } => {
                    assert_eq!((field, found), (name, u64::from(number)));
                    assert!(found < min || found > max);
                }
                other => panic!("{other}"),
            }
        }
    }
    let crowd = vec![validator(0); 1_001];
    assert!(matches!(
        refused(|file| file.validators = crowd),
        GenesisError::OutOfRange {
            field: "number of validators",
            found: 1_001,
            ..
        }
    ));
}

#[test]
fn rejects_bad_allocation() {
    for amount in ["0", "0.00", "-1", "much", "1.123456789", "2000000001"] {
        let found = refused(|file| file.allocations = vec![allocation(0, amount)]);
        assert!(
            matches!(found, GenesisError::BadAllocation { .. }),
            "{amount}: {found}"
        );
    }
}

#[test]
fn rejects_duplicate_allocation() {
    let error = GenesisError::DuplicateAllocation {
        address: text(&key(0).address),
    };
    let twice = vec![allocation(0, "1"), allocation(1, "1"), allocation(0, "2")];
    assert_eq!(refused(|file| file.allocations = twice), error);
}

#[test]
fn rejects_too_much_allocated() {
    let error = GenesisError::TooMuchAllocated {
        found: u128::from(Amount::MAX_MONEY.grains()) + 1,
    };
    let allocations = vec![allocation(0, "2000000000"), allocation(1, "0.00000001")];
    assert_eq!(refused(|file| file.allocations = allocations), error);
}

#[test]
fn rejects_bad_validator_key() {
    let even = format!("{}e", &validator(0).public_key[..511]);
    for public_key in ["", "zz", "00", &validator(0).public_key[2..], &even] {
        let entry = ValidatorEntry {
            public_key: public_key.to_owned(),
            ..validator(0)
        };
        let found = refused(|file| file.validators = vec![entry]);
        assert!(
            matches!(found, GenesisError::BadValidatorKey { .. }),
            "{found}"
        );
    }
}

#[test]
fn rejects_validator_address_mismatch() {
    let error = GenesisError::ValidatorAddressMismatch {
        found: validator(1).address,
        expected: validator(0).address,
    };
    let entry = ValidatorEntry {
        address: validator(1).address,
        ..validator(0)
    };
    assert_eq!(refused(|file| file.validators = vec![entry]), error);
}

#[test]
fn rejects_duplicate_validator() {
    let error = GenesisError::DuplicateValidator {
        address: validator(0).address,
    };
    let twice = vec![validator(0), validator(1), validator(0)];
    assert_eq!(refused(|file| file.validators = twice), error);
}

#[test]
fn rejects_unsafe_quorum() {
    for count in 1..=8 {
        let with = |quorum| {
            let mut file = Network::Dev.genesis_file();
            file.validators = (0..count).map(validator).collect();
            file.approval_quorum = quorum;
            file.check()
        };
        let validators = u32::try_from(count).unwrap();
        for quorum in 0..=validators + 1 {
            let safe = 3 * quorum > 2 * validators && quorum <= validators;
            match with(quorum) {
                Ok(genesis) => assert!(safe, "{quorum} of {}", genesis.validators.len()),
                Err(GenesisError::UnsafeQuorum { least, .. }) => {
                    assert!(!safe, "{quorum} of {count}");
                    assert!(with(u32::try_from(least).unwrap()).is_ok());
                    assert!(with(u32::try_from(least - 1).unwrap()).is_err());
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn rejects_quorum_without_validators() {
    let error = GenesisError::QuorumWithoutValidators { quorum: 3 };
    assert_eq!(refused(|file| file.approval_quorum = 3), error);
}
