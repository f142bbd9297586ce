//! The kernel that the others are measured against: the header hash and the
//! target comparison of `pithead_consensus`, nothing precomputed.

use super::{Job, Kernel};

/// Consensus itself, one header at a time.
#[derive(Debug, Clone, Copy)]
pub struct Reference;

impl Kernel for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<u32>) {
        for step in 0..count {
            let nonce = start.wrapping_add(step);
            if job.target().is_met_by(&job.header(nonce).hash()) {
                hits.push(nonce);
            }
        }
    }
}
