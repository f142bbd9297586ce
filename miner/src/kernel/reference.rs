//! The kernel that the others are measured against: the header hash and the
//! target comparison of `pithead_consensus`, nothing precomputed.

use super::{Hit, Job, Kernel};

/// Consensus itself, one header at a time.
#[derive(Debug, Clone, Copy)]
pub struct Reference;

impl Kernel for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn scan(&self, job: &Job, start: u32, count: u32, hits: &mut Vec<Hit>) {
        for step in 0..count {
            let nonce = start.wrapping_add(step);
            for version in job.versions() {
                let hit = Hit { version, nonce };
                if job.target().is_met_by(&job.header(hit).hash()) {
                    hits.push(hit);
                }
            }
        }
    }
}
