//! Compact targets that no header may carry.

use pithead_consensus::CompactTarget;
use pithead_consensus::target::CompactTargetError;

fn read(bits: u32) -> CompactTargetError {
    CompactTarget(bits).to_target().unwrap_err()
}

#[test]
fn rejects_negative() {
    for bits in [0x0492_3456, 0x01fe_dcba, 0x1d80_ffff, 0xff92_3456] {
        assert_eq!(read(bits), CompactTargetError::Negative { bits });
    }
}

#[test]
fn rejects_zero() {
    for bits in [
        0,
        0x0012_3456,
        0x0180_3456,
        0x0480_0000,
        0x2000_0000,
        0xff00_0000,
    ] {
        assert_eq!(read(bits), CompactTargetError::Zero { bits });
    }
}

#[test]
fn rejects_overflow() {
    for bits in [0xff12_3456, 0x2301_0000, 0x2201_0000, 0x2100_ffff + 1] {
        assert_eq!(read(bits), CompactTargetError::Overflow { bits });
    }
    assert!(CompactTarget(0x2100_ffff).to_target().is_ok());
}

#[test]
fn rejects_not_canonical() {
    for (bits, canonical) in [
        (0x0112_3456, 0x0112_0000),
        (0x0300_1234, 0x0212_3400),
        (0x2000_0001, 0x1e01_0000),
    ] {
        assert_eq!(
            read(bits),
            CompactTargetError::NotCanonical { bits, canonical }
        );
    }
}
