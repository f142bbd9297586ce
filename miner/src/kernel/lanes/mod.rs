//! SHA-256d of headers in the lanes of vectors. Every instruction works on one nonce in
//! each 32-bit lane.
//!
//! The code is written once for all widths; [`Lanes`] is what a vector type must offer.
//! It is one straight line without loops over rounds, so that every value can stay in a
//! register. Start reading at [`scan`].

mod digest_hash;
mod header_hash;
mod vector;

pub(super) use digest_hash::{expand_digest, last_word_of_second_hash};
pub(super) use header_hash::expand;
pub(super) use vector::Lanes;

use super::Hit;
use super::job::{Job, NonceGroup};

/// Scans as [`Kernel::scan`](super::Kernel::scan) does.
///
/// # Safety
/// The processor must have the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn scan<V: Lanes>(job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
    let schedule = job.schedule();
    // SAFETY: here and below, as required of the caller.
    let limit = unsafe { V::splat(job.target_top()) };
    let mut kw = [limit; 64];
    let mut done = 0;
    while done < count {
        let first = start.wrapping_add(done);
        // SAFETY: as required of the caller.
        let nonce = unsafe { V::nonces(first) };
        // SAFETY: as required of the caller.
        unsafe { expand(schedule, nonce, &mut kw) };
        // Computed outside the inner loop, where the overflow check of debug builds would
        // make the whole loop a tenth slower.
        let left = count - done;
        for midstate in job.midstates() {
            // SAFETY: as required of the caller.
            let digest = unsafe { header_hash::first_hash(schedule, midstate, nonce, &kw) };
            // SAFETY: as required of the caller.
            let last = unsafe { last_word_of_second_hash(digest) };
            let group = NonceGroup {
                version: midstate.version,
                first,
                count: left,
            };
            group.confirm_lanes(job, last.at_most_reversed(limit), hits);
        }
        // The sum exceeds u32::MAX only if `count` is close to it.
        done = done.saturating_add(V::COUNT);
    }
}
