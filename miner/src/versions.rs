//! The versions that a header may carry (BIP 320): bits of it that miners may
//! set as they like, handed to kernels in groups, since versions have most of
//! the work in common.

use pithead_consensus::block::VERSION_ROLL_MASK;

/// All versions of one header, in groups.
#[derive(Debug, Clone)]
pub(crate) struct RolledVersions {
    base: u32,
    mask: u32,
    group: u32,
    next: u32,
    count: u32,
}

impl RolledVersions {
    /// The versions that differ from `base` in bits of `mask` only, in groups of
    /// `group`. Bits that the rules fix are never rolled, whatever the mask says.
    pub(crate) fn new(base: u32, mask: u32, group: usize) -> Self {
        let mask = mask & VERSION_ROLL_MASK;
        Self {
            base,
            mask,
            group: u32::try_from(group).unwrap_or(u32::MAX).max(1),
            next: 0,
            // At most 2^16: the mask has no more bits.
            count: 1u32 << mask.count_ones(),
        }
    }

    /// Puts the next group into `versions`; `false` if there is none.
    pub(crate) fn next_group(&mut self, versions: &mut Vec<u32>) -> bool {
        versions.clear();
        let end = self.next.saturating_add(self.group).min(self.count);
        versions.extend((self.next..end).map(|index| self.version(index)));
        self.next = end;
        !versions.is_empty()
    }

    /// The version of an index: its bits are spread over those of the mask.
    /// Index 0 is the base itself.
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
        // Bits that the rules fix don't count.
        assert_eq!(all(0x2000_0000, !VERSION_ROLL_MASK, 0), [0x2000_0000]);
    }

    #[test]
    fn groups_need_not_divide_the_versions() {
        let versions = all(0x2000_0000, 0b111 << 13, 3);
        assert_eq!(versions.len(), 8);
        assert_eq!(versions[5], 0x2000_0000 | 0b101 << 13);
    }
}
