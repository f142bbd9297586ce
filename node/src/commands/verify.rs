//! `pithead-node --verify`: replays the whole chain and compares it with what is stored. The data
//! is only read.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use pithead_core::chain::{self, VerifyError, VerifyReport};
use pithead_core::store::{ScratchStore, StoreError, StoreReader};
use pithead_node::config::Config;
use tracing::info;

/// Blocks between two lines of progress in the log.
const PROGRESS_BLOCKS: u64 = 1_000;

/// Verifies the data directory. What the replay keeps goes to a folder in `scratch`, which is the
/// data directory itself if none is given.
pub(crate) fn verify(config: &Config, scratch: Option<&Path>) -> Result<ExitCode> {
    match replay(config, scratch.unwrap_or(&config.data_dir)) {
        Ok(report) => {
            println!(
                "verified {} blocks, {} transactions and {} accounts: everything agrees; tip {}",
                report.blocks, report.transactions, report.accounts, report.tip
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => match error.downcast::<VerifyError>() {
            // The message of a store says itself what to do.
            Ok(VerifyError::Store(error)) => Err(error.into()),
            Ok(error) => {
                eprintln!("error: {error}");
                eprintln!(
                    "hint: restore a backup, or start afresh in another --data-dir and download the chain again"
                );
                Ok(ExitCode::FAILURE)
            }
            Err(error) => Err(error),
        },
    }
}

fn replay(config: &Config, scratch: &Path) -> Result<VerifyReport> {
    let genesis = config.load_genesis()?;
    // The data and the replay share the cache.
    let cache_bytes = config.store_cache_bytes / 2;
    info!("reading every block of the database");
    let reader = StoreReader::open(&config.data_dir, cache_bytes)?;
    let stored = reader.snapshot()?;
    // The data of another chain would only look damaged.
    let genesis_hash = genesis.params.genesis_hash;
    chain::check_identity(stored.as_ref(), &genesis_hash, &config.data_dir)?;
    let scratch = make_scratch(scratch, cache_bytes)?;
    let progress = |height: pithead_consensus::Height, tip| {
        if height.0.is_multiple_of(PROGRESS_BLOCKS) {
            info!("verified {height} of {tip} blocks");
        }
    };
    let report = chain::verify_stored(stored.as_ref(), &genesis, scratch.store(), progress)?;
    Ok(report)
}

fn make_scratch(parent: &Path, cache_bytes: usize) -> Result<ScratchStore, anyhow::Error> {
    ScratchStore::make(parent, cache_bytes)
        .map_err(|error: StoreError| anyhow::Error::new(error))
        .with_context(|| {
            format!(
                "making a folder for the replay in {}; choose another with --scratch",
                parent.display()
            )
        })
}
