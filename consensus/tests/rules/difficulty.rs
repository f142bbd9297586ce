//! The difficulty rule and the work of targets (§7).

use pithead_consensus::difficulty::{Ancestors, AsertPace, asert, expected_bits};
use pithead_consensus::genesis::Network;
use pithead_consensus::{CompactTarget, Target};
use proptest::prelude::*;

const NETWORKS: [Network; 3] = [Network::Main, Network::Test, Network::Dev];

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
        // A block that comes on schedule changes nothing.
        let even = expected_bits(&params, &ancestors(parent, params.block_interval_secs));
        prop_assert_eq!(even, parent);
    }

    #[test]
    fn asert_takes_any_numbers(
        (time, height) in any::<(i128, i128)>(),
        (interval_secs, half_life_secs) in any::<(u64, u64)>(),
        anchor: [u8; 32],
        limit: [u8; 32],
    ) {
        if let (Some(anchor), Some(limit)) =
            (Target::from_le_bytes(anchor), Target::from_le_bytes(limit))
        {
            let pace = AsertPace { interval_secs, half_life_secs };
            let target = asert(anchor, time, height, pace, limit);
            prop_assert!(target <= limit);
        }
    }

    #[test]
    fn work_and_target_invert(exponent in 0..255usize, low: u64) {
        let mut number = [0; 32];
        number[..8].copy_from_slice(&(low | 1).to_le_bytes());
        number[exponent / 8] |= 1 << (exponent % 8);
        let target = Target::from_le_bytes(number).unwrap();
        // Two roundings can only make the target easier, and never change the work.
        let back = target.work().to_target();
        prop_assert!(back >= target);
        prop_assert_eq!(back.work(), target.work());
    }
}
