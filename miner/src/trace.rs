//! A record of everything that was searched and handed in, for finding out
//! whether anything was searched twice or a solution was lost. Off unless asked
//! for: it takes a lock and a line for each batch.
//!
//! One event a line: `range HEADER VERSIONS START COUNT`, `hit HASH block|share`,
//! `answer HASH OUTCOME`. HEADER and VERSIONS are digests of the header without
//! nonce and version, and of the versions that were tried.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use pithead_consensus::hash::sha256;
use pithead_consensus::{BlockHash, BlockHeader, Encode as _};

/// Bytes of a digest that are written: enough to tell headers apart.
const DIGEST_BYTES: usize = 8;

/// Where the record goes.
#[derive(Debug)]
pub struct Trace(Mutex<BufWriter<File>>);

/// What is searched: a header and the versions that it is tried with.
#[derive(Debug)]
pub struct Searched(String);

impl Trace {
    /// Starts a record in a new file.
    ///
    /// # Errors
    /// The system's, if the file is there already or can't be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::create_new(path)?;
        Ok(Self(Mutex::new(BufWriter::new(file))))
    }

    /// A batch of nonces under one header.
    pub fn range(&self, searched: &Searched, start: u32, count: u32) {
        self.write(format_args!("range {} {start} {count}", searched.0));
    }

    /// A solution, before it is handed in.
    pub fn hit(&self, hash: &BlockHash, is_block: bool) {
        let kind = if is_block { "block" } else { "share" };
        self.write(format_args!("hit {hash} {kind}"));
    }

    /// What became of it.
    pub fn answer(&self, hash: &BlockHash, outcome: &str) {
        self.write(format_args!("answer {hash} {outcome}"));
    }

    /// Brings everything to the file.
    pub fn flush(&self) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.flush() {
            tracing::error!(%error, "the record of what was searched is incomplete");
        }
    }

    fn write(&self, line: impl Display) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Told of once, at the end.
        let _ = writeln!(file, "{line}");
    }
}

impl Searched {
    /// The header without nonce and version, and the versions.
    #[must_use]
    pub fn of(header: &BlockHeader, versions: &[u32]) -> Self {
        let bare = BlockHeader {
            version: 0,
            nonce: 0,
            ..*header
        };
        let versions: Vec<u8> = versions
            .iter()
            .flat_map(|version| version.to_le_bytes())
            .collect();
        let digest = |bytes: &[u8]| {
            let digest = sha256(bytes);
            digest.iter().take(DIGEST_BYTES).fold(
                String::with_capacity(2 * DIGEST_BYTES),
                |mut text, byte| {
                    // Writing to a string does not fail.
                    let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
                    text
                },
            )
        };
        Self(format!("{} {}", digest(&bare.encode()), digest(&versions)))
    }
}
