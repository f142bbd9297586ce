//! The checksum that finds accidental damage: a flipped bit, a block of zeros, bytes in the wrong
//! place. It is fast and no defence against intent. Knows no files. Start reading at [`checksum`].

/// An odd factor with well-mixed bits: the fraction of the golden ratio, 2^64 / φ.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// Starting values of the lanes; any four different numbers would do.
const LANES: [u64; 4] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
];
/// Bytes that the four lanes take in one step.
const STEP_BYTES: usize = 32;

/// The checksum of `bytes` at the place `place`, such as a block's number. It is never zero, so
/// that zero can stand for "never written".
///
/// Each step can be reversed, so a change within 8 aligned bytes always changes the result. Other
/// changes go unnoticed with a chance of 2^-64.
pub(super) fn checksum(place: u64, bytes: &[u8]) -> u64 {
    let mut lanes = LANES;
    let steps = bytes.chunks_exact(STEP_BYTES);
    let rest = steps.remainder();
    for step in steps {
        take(&mut lanes, step);
    }
    if !rest.is_empty() {
        let mut last = [0; STEP_BYTES];
        last[..rest.len()].copy_from_slice(rest);
        take(&mut lanes, &last);
    }
    let mut sum = mix(place, bytes.len() as u64);
    for lane in lanes {
        sum = mix(sum, lane);
    }
    mix(sum, sum >> 32).max(1)
}

fn take(lanes: &mut [u64; 4], step: &[u8]) {
    for (lane, word) in lanes.iter_mut().zip(step.chunks_exact(8)) {
        // Chunks of eight bytes always fit.
        let word = word.try_into().map_or(0, u64::from_le_bytes);
        *lane = mix(*lane, word);
    }
}

fn mix(state: u64, word: u64) -> u64 {
    (state ^ word).wrapping_mul(FACTOR).rotate_left(29)
}

#[cfg(test)]
mod tests {
    use super::checksum;

    #[test]
    fn every_flipped_bit_moved_block_and_other_length_changes_the_sum() {
        let block: Vec<u8> = (0..4_096u32).map(|at| (at * 7 % 251) as u8).collect();
        let sum = checksum(5, &block);
        for bit in 0..block.len() * 8 {
            let mut flipped = block.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(checksum(5, &flipped), sum, "bit {bit}");
        }
        assert_ne!(checksum(6, &block), sum);
        assert_ne!(checksum(5, &block[..4_095]), sum);
        assert_ne!(checksum(0, &[0; 100]), checksum(0, &[0; 101]));
        assert_ne!(checksum(0, &[]), 0);
    }
}
