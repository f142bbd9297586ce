//! A record of everything that was searched and handed in, for finding out
//! whether anything was searched twice or a solution was lost. Off unless asked
//! for: it takes a lock and a line for each batch.
//!
//! One event a line:
//! - `job JOB HEADER VERSIONS TARGET`: a header without nonce, the versions that
//!   it is tried with, and the target of its shares, all in hex;
//! - `range JOB START COUNT`: nonces that were tried, with each of the versions;
//! - `hit JOB VERSION NONCE HASH block|share HEIGHT`: a solution;
//! - `answer HASH OUTCOME MS`: what became of it, and when, Unix milliseconds.

use std::fmt::{Display, Write as _};
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pithead_consensus::{BlockHash, BlockHeader, Encode as _, Target};

use crate::solution::Solution;

/// Where the record goes.
#[derive(Debug)]
pub struct Trace {
    file: Mutex<BufWriter<File>>,
    jobs: AtomicU64,
}

/// The number of what is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Searched(u64);

impl Trace {
    /// Starts a record in a new file.
    ///
    /// # Errors
    /// The system's, if the file is there already or can't be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create_new(path)?;
        Ok(Self {
            file: Mutex::new(BufWriter::new(file)),
            jobs: AtomicU64::new(0),
        })
    }

    /// What is going to be searched.
    pub fn job(&self, header: &BlockHeader, versions: &[u32], target: &Target) -> Searched {
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
        Searched(number)
    }

    /// A batch of nonces.
    pub fn range(&self, searched: Searched, start: u32, count: u32) {
        self.write(format_args!("range {} {start} {count}", searched.0));
    }

    /// A solution, before it is handed in.
    pub fn hit(&self, searched: Searched, solution: &Solution) {
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
            searched.0, work.height
        ));
    }

    /// What became of it.
    pub fn answer(&self, hash: &BlockHash, outcome: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let ms = now.map_or(0, |since| since.as_millis());
        self.write(format_args!("answer {hash} {outcome} {ms}"));
    }

    /// Brings everything to the file.
    pub fn flush(&self) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.flush() {
            tracing::error!(%error, "the record of what was searched is incomplete");
        }
    }

    fn write(&self, line: impl Display) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Told of once, at the end.
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
