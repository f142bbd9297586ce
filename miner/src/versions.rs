//! Version rolling (BIP 320): the versions that a header may carry, in groups.
//!
//! A miner may set some bits of the version freely. Kernels get several versions at a
//! time, because the versions share most of the computation. This file knows no
//! kernels and no work.

use pithead_consensus::block::VERSION_ROLL_MASK;

/// All versions of one header, handed out in groups.
#[derive(Debug, Clone)]
pub(crate) struct RolledVersions {
    base: u32,
    mask: u32,
    group: u32,
    next: u32,
    count: u32,
}

impl RolledVersions {
    /// All versions that differ from `base` only in bits of `mask`, in groups of `group`.
    ///
    /// Bits outside [`VERSION_ROLL_MASK`] are never rolled, whatever the mask says.
    pub(crate) fn new(base: u32, mask: u32, group: usize) -> Self {
        let mask = mask & VERSION_ROLL_MASK;
        Self {
            base,
            mask,
            group: u32::try_from(group).unwrap_or(u32::MAX).max(1),
            next: 0,
            // At most 2^16, because `VERSION_ROLL_MASK` has 16 bits.
            count: 1u32 << mask.count_ones(),
        }
    }

    /// Puts the next group into `versions`; `false` after the last group.
    pub(crate) fn next_group(&mut self, versions: &mut Vec<u32>) -> bool {
        versions.clear();
        let end = self.next.saturating_add(self.group).min(self.count);
        versions.extend((self.next..end).map(|index| self.version(index)));
        self.next = end;
        !versions.is_empty()
    }

    /// The version with this index: the bits of the index go to the set bits of the
    /// mask, from the lowest up.
    ///
    /// Example: with mask `0b1010`, indices 0 to 3 flip the bits `0b0000`, `0b0010`,
    /// `0b1000` and `0b1010` of the base.
    fn version(&self, index: u32) -> u32 {
        let mut spread = 0;
        let mut mask = self.mask;
        for bit in 0..self.mask.count_ones() {
            let lowest = mask & mask.wrapping_neg();
            mask ^= lowest;
            if index >> bit & 1 == 1 {
                spread |= lowest;
            }
        }
        self.base ^ spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn all(base: u32, mask: u32, group: usize) -> Vec<u32> {
        let mut rolled = RolledVersions::new(base, mask, group);
        let (mut all, mut versions) = (Vec::new(), Vec::new());
        while rolled.next_group(&mut versions) {
            assert!(versions.len() <= group.max(1));
            all.extend_from_slice(&versions);
        }
        all
    }

    #[test]
    fn every_version_of_the_mask_comes_once() {
        let base = 0x2000_0000;
        let versions = all(base, VERSION_ROLL_MASK, 16);
        assert_eq!(versions[0], base);
        assert_eq!(versions.len(), 1 << 16);
        assert_eq!(versions.iter().collect::<HashSet<_>>().len(), 1 << 16);
        assert!(versions.iter().all(|v| v & !VERSION_ROLL_MASK == base));
    }

    #[test]
    fn without_a_mask_there_is_one_version() {
        assert_eq!(all(0x2000_0000, 0, 16), [0x2000_0000]);
        // Bits outside the rules' mask don't count.
        assert_eq!(all(0x2000_0000, !VERSION_ROLL_MASK, 0), [0x2000_0000]);
    }

    #[test]
    fn groups_need_not_divide_the_versions() {
        let versions = all(0x2000_0000, 0b111 << 13, 3);
        assert_eq!(versions.len(), 8);
        assert_eq!(versions[5], 0x2000_0000 | 0b101 << 13);
    }
}
