//! `pithead-node votes`: moves a vote record to another machine, or begins a new one.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use pithead_consensus::{Genesis, Height, VoteRecord};
use pithead_core::chain::Chain;
use pithead_core::finality::Signer as _;
use pithead_core::store::{RedbStore, Store};
use pithead_node::config::{Config, VotesCommand};
use pithead_node::validator::journal::{RecordFiles, export, read_export};
use pithead_node::validator::{check_listed, owner_of, read_key};

/// Exports, imports or repairs a vote record.
pub(crate) fn votes(command: &VotesCommand, config: &Config) -> Result<ExitCode> {
    let genesis = config.load_genesis()?;
    let files = RecordFiles::new(&config.data_dir, genesis.prefix.clone());
    match command {
        VotesCommand::Export { file } => export_to(file, &files, &genesis)?,
        VotesCommand::Import { file } => import_from(file, &files, &genesis, config)?,
        VotesCommand::Repair { above } => repair(Height(*above), &files, &genesis, config)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn export_to(file: &Path, files: &RecordFiles, genesis: &Genesis) -> Result<()> {
    // The file first: a record that is moved must have somewhere to go.
    let made = OpenOptions::new().write(true).create_new(true).open(file);
    let mut made = made.with_context(|| {
        let file = file.display();
        format!("making {file}, which must be a new file: an export is never overwritten")
    })?;
    let moved = files.move_out(genesis.params.genesis_hash);
    let (owner, record) = moved.inspect_err(|_| {
        // Nothing is in it yet.
        let _ = std::fs::remove_file(file);
    })?;
    made.write_all(export(&owner, &record).as_bytes())
        .and_then(|()| made.sync_all())
        .with_context(|| format!("writing {}; export to another file again", file.display()))?;
    println!(
        "exported {} of {} to {}. Import them where the validator moves to. The validator does not start here any more; to bring it back, import a record that is as new",
        described(&record),
        owner.validator.to_text(&genesis.prefix),
        file.display()
    );
    Ok(())
}

fn import_from(file: &Path, files: &RecordFiles, genesis: &Genesis, config: &Config) -> Result<()> {
    let (owner, record) = read_export(file)?;
    ensure!(
        owner.genesis == genesis.params.genesis_hash,
        "{} holds votes on the chain with genesis {}, not on {}: look at --network and --genesis",
        file.display(),
        owner.genesis,
        genesis.params.genesis_hash
    );
    check_listed(&owner, genesis, &file.display())?;
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("making {}", config.data_dir.display()))?;
    let imported = files.import(owner, &record)?;
    println!(
        "{} of {} of {} were new here; the record is {}",
        imported.new,
        described(&record),
        owner.validator.to_text(&genesis.prefix),
        files.path().display()
    );
    if let Some(path) = imported.kept_aside {
        println!(
            "the record that was there was damaged; the import has all of its votes and replaces it. The damaged record is kept as {}. From now on the validator votes only above the end of both",
            path.display()
        );
    }
    Ok(())
}

fn repair(above: Height, files: &RecordFiles, genesis: &Genesis, config: &Config) -> Result<()> {
    let Some(path) = &config.validator_key else {
        bail!("name the key of the record's validator with --validator-key");
    };
    let key = read_key(config, genesis, path)?;
    if RedbStore::is_in(&config.data_dir) {
        // The validator voted for blocks of its own best chain only, so none of its votes is
        // above the tip.
        let store: Arc<dyn Store> =
            Arc::new(RedbStore::open(&config.data_dir, config.store_cache_bytes)?);
        let tip = Chain::open(store, genesis.clone(), &config.data_dir)?
            .tip()
            .height;
        ensure!(
            above >= tip,
            "the chain in {} has height {tip}, so its validator may have voted above {above}: give a height that the network has not reached before now",
            config.data_dir.display()
        );
    }
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("making {}", config.data_dir.display()))?;
    files.repair(owner_of(&key, genesis), above)?;
    let (validators, quorum) = (
        genesis.validators.len(),
        genesis.params.approval_quorum as usize,
    );
    println!(
        "{} votes only above height {above} from now on, once the others have approved a checkpoint at that height or above; the record is {}. What was there is kept beside it as votes.log.damaged. At most {} of the {} validators may wait like this at the same time, or nothing is approved any more",
        key.address().to_text(&genesis.prefix),
        files.path().display(),
        validators.saturating_sub(quorum),
        validators,
    );
    Ok(())
}

/// How many votes a record holds, and where it ends.
fn described(record: &VoteRecord) -> String {
    let count = record.len();
    match record.highest_target() {
        Some(height) => format!("{count} votes up to height {height}"),
        None => format!("{count} votes"),
    }
}
