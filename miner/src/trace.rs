//! A record of everything that the miner searched and handed in.
//!
//! A test reads it to find out whether anything was searched twice, or whether a
//! solution was lost. Tracing is off by default, because it takes a lock and writes a
//! line for each batch.
//!
//! Each line is one event:
//! - `job JOB HEADER VERSIONS TARGET`: a header with version and nonce 0, the versions
//!   that it is tried with, and its share target, all in hex;
//! - `range JOB START COUNT`: nonces that were tried with each of the job's versions;
//! - `hit JOB VERSION NONCE HASH block|share HEIGHT`: a solution;
//! - `answer HASH OUTCOME MS`: the node's answer, or the reason why there is none, and
//!   its time in Unix milliseconds.

use std::fmt::{Display, Write as _};
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pithead_consensus::{BlockHash, BlockHeader, Encode as _, Target};

use crate::solution::Solution;

/// The file that the record goes to.
#[derive(Debug)]
pub struct Trace {
    file: Mutex<BufWriter<File>>,
    jobs: AtomicU64,
}

/// The number of a job in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TracedJob(u64);

impl Trace {
    /// Starts a record in a new file.
    ///
    /// # Errors
    /// The system's error if the file exists already or can't be created.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create_new(path)?;
        Ok(Self {
            file: Mutex::new(BufWriter::new(file)),
            jobs: AtomicU64::new(0),
        })
    }

    /// Records a job that is about to be searched.
    pub fn job(&self, header: &BlockHeader, versions: &[u32], target: &Target) -> TracedJob {
        let number = self.jobs.fetch_add(1, Ordering::Relaxed);
        let bare = BlockHeader {
            version: 0,
            nonce: 0,
            ..*header
        };
        let versions: Vec<String> = versions.iter().map(|v| format!("{v:08x}")).collect();
        let (header, target) = (hex(&bare.encode()), hex(&target.to_le_bytes()));
        let versions = versions.join(",");
        self.write(format_args!("job {number} {header} {versions} {target}"));
        TracedJob(number)
    }

    /// Records nonces that were tried with each of the job's versions.
    pub fn range(&self, job: TracedJob, start: u32, count: u32) {
        self.write(format_args!("range {} {start} {count}", job.0));
    }

    /// Records a solution, before it is handed in.
    pub fn hit(&self, job: TracedJob, solution: &Solution) {
        let kind = if solution.is_block() {
            "block"
        } else {
            "share"
        };
        let Solution {
            version,
            nonce,
            hash,
            work,
            ..
        } = solution;
        self.write(format_args!(
            "hit {} {version:08x} {nonce} {hash} {kind} {}",
            job.0, work.height
        ));
    }

    /// Records a solution's outcome: the node's answer, or why it got none.
    pub fn answer(&self, hash: &BlockHash, outcome: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let ms = now.map_or(0, |since| since.as_millis());
        self.write(format_args!("answer {hash} {outcome} {ms}"));
    }

    /// Writes everything that is still buffered to the file.
    pub fn flush(&self) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.flush() {
            tracing::error!(%error, "the record of what was searched is incomplete");
        }
    }

    fn write(&self, line: impl Display) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // `flush` reports a broken file once, at the end of the run.
        let _ = writeln!(file, "{line}");
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
