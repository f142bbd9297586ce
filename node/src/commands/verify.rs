//! `pithead-node --verify`: replays the whole chain and compares it with what is stored.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use pithead_core::chain;
use pithead_core::store::{RedbStore, Store, schema};
use pithead_node::config::Config;
use tracing::info;

/// Blocks between two lines of progress in the log.
const PROGRESS_BLOCKS: u64 = 1_000;

pub(crate) fn verify(config: &Config) -> Result<ExitCode> {
    let genesis = config.load_genesis()?;
    if !RedbStore::is_in(&config.data_dir) {
        // To open the store would make a new one, and find nothing wrong with it.
        bail!(
            "there is no chain in data directory {} to verify: look at --data-dir and --network",
            config.data_dir.display()
        );
    }
    let store: Arc<dyn Store> =
        Arc::new(RedbStore::open(&config.data_dir, config.store_cache_bytes)?);
    let snapshot = store.snapshot()?;
    if schema::tip_hash(snapshot.as_ref())?.is_none() {
        println!("nothing to verify: the data directory holds no chain yet");
        return Ok(ExitCode::SUCCESS);
    }
    // Refuses the data of another chain, whose blocks would only look damaged.
    chain::Chain::open(Arc::clone(&store), genesis.clone(), &config.data_dir)?;
    let report = chain::verify(store.as_ref(), &genesis, |height, tip| {
        if height.0 % PROGRESS_BLOCKS == 0 {
            info!("verified {height} of {tip} blocks");
        }
    });
    match report {
        Ok(report) => {
            println!(
                "verified {} blocks, {} transactions and {} accounts: everything agrees; tip {}",
                report.blocks, report.transactions, report.accounts, report.tip
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("error: {error}");
            eprintln!("hint: restore a backup, or start afresh in another --data-dir");
            Ok(ExitCode::FAILURE)
        }
    }
}
