//! The reference kernel, which all others are compared with. It uses the header hash and
//! the target comparison of `pithead_consensus` and precomputes nothing.

use super::{Hit, Job, Kernel};

/// Consensus itself, one header at a time.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceKernel;

impl Kernel for ReferenceKernel {
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
