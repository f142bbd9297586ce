//! Divides the extra nonces among the workers, so that no two workers try one header.

/// One worker's part of the 2^32 extra nonces.
///
/// The worker does not start over with new work, but goes on with its next extra nonce.
/// Work that a node sends twice under two names is therefore not searched twice.
#[derive(Debug)]
pub(super) struct ExtraNonces {
    first: u32,
    count: u32,
    used: u32,
}

impl ExtraNonces {
    /// The part of the worker `index` out of `workers`. The first extra nonce is `start`
    /// modulo the size of the part.
    ///
    /// Example: of 4 workers, worker 1 has 2^30 − 1 extra nonces, from 2^30 − 1 on.
    pub(super) fn of_worker(index: usize, workers: usize, start: u32) -> Self {
        let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
        let index = u32::try_from(index).unwrap_or(0) % workers;
        let count = u32::MAX / workers;
        Self {
            first: index * count,
            count,
            used: start % count,
        }
    }

    /// The next extra nonce. After the last one of the part comes the first.
    pub(super) fn next(&mut self) -> [u8; 4] {
        let extra_nonce = self.first + self.used;
        self.used = (self.used + 1) % self.count;
        extra_nonce.to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn extra_nonces_of_workers_never_meet() {
        for workers in [1usize, 2, 3, 7, 64, 1_000] {
            let parts: Vec<_> = (0..workers)
                .map(|index| ExtraNonces::of_worker(index, workers, 0xffff_fff0))
                .collect();
            for part in &parts {
                assert!(part.used < part.count);
            }
            for pair in parts.windows(2) {
                assert!(pair[0].first + (pair[0].count - 1) < pair[1].first);
            }
            let last = &parts[workers - 1];
            assert!(last.first.checked_add(last.count - 1).is_some());
        }
    }

    #[test]
    fn extra_nonces_start_over_within_their_part() {
        let mut part = ExtraNonces {
            first: 10,
            count: 3,
            used: 0,
        };
        let seen: Vec<u32> = (0..5).map(|_| u32::from_le_bytes(part.next())).collect();
        assert_eq!(seen, [10, 11, 12, 10, 11]);
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 3);
    }
}
