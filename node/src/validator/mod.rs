//! The program's part for validators: opening key and vote record with every
//! precaution against voting twice, and `pithead-node votes`.

pub mod journal;
mod key;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::{Config, Votes};
use anyhow::{Context as _, Result, bail, ensure};
use journal::{RecordFiles, RecordOwner, export, read_export};
use pithead_consensus::{Genesis, Height, Validators, VoteRecord};
use pithead_core::chain::Chain;
use pithead_core::finality::{Signer as _, Voter, certificates_above};
use pithead_core::store::{RedbStore, Snapshot, Store, StoreError};
use tracing::warn;

pub use key::{ValidatorKey, ValidatorKeyError};

/// Certificates read from the store at a time, and their bytes.
const CERTIFICATES_PER_READ: usize = 1_000;
const BYTES_PER_READ: usize = 4 << 20;

/// Opens key and vote record, if this node is to be a validator.
pub fn open(
    config: &Config,
    genesis: &Genesis,
    store: &dyn Store,
    init: bool,
) -> Result<Option<Voter>> {
    let Some(path) = &config.validator_key else {
        ensure!(
            !init,
            "--init-vote-record is for a validator: name its key with --validator-key"
        );
        return Ok(None);
    };
    let key = read_key(config, genesis, path)?;
    let owner = owner_of(&key, genesis);
    let files = RecordFiles::new(&config.data_dir, genesis.prefix.clone());
    let record_path = files.path();
    let snapshot = store.snapshot()?;
    if init {
        files.check_new()?;
        // Its certificates are kept for ever: whoever has voted is found out.
        if let Some(height) = voted_above(snapshot.as_ref(), &owner, Height(0))? {
            bail!(
                "this key has voted before: a certificate in {} holds its approval of height {height}. --init-vote-record is for a key that never voted; import its record with `pithead-node votes import`, or see `pithead-node votes repair`",
                config.data_dir.display()
            );
        }
        let journal = files.create(owner)?;
        warn!(
            path = %record_path.display(),
            "made an empty vote record. If this key ever voted elsewhere, stop now and import that record: two votes at one height are proof of misbehaviour"
        );
        let record = VoteRecord::default();
        return Ok(Some(Voter::new(Box::new(key), Box::new(journal), record)));
    }
    let (journal, record) = files.open(owner)?;
    let ends = record.highest_target().unwrap_or(Height(0));
    if let Some(height) = voted_above(snapshot.as_ref(), &owner, ends)? {
        bail!(
            "the vote record at {} ends at height {ends}, but a certificate holds this validator's approval of height {height}: the record is an old copy, and more votes may be missing from it. Import the newest one with `pithead-node votes import`, or see `pithead-node votes repair`",
            record_path.display()
        );
    }
    Ok(Some(Voter::new(Box::new(key), Box::new(journal), record)))
}

/// The lowest checkpoint above a height that a certificate in the store shows this
/// validator to have approved.
fn voted_above(
    from: &dyn Snapshot,
    owner: &RecordOwner,
    above: Height,
) -> Result<Option<Height>, StoreError> {
    let mut last = above;
    loop {
        let found = certificates_above(from, last, CERTIFICATES_PER_READ, BYTES_PER_READ)?;
        let Some(end) = found.last() else {
            return Ok(None);
        };
        last = end.link().target.height;
        for certificate in &found {
            let mut approvals = certificate.approvals();
            if approvals.any(|each| each.approval.validator == owner.validator) {
                return Ok(Some(certificate.link().target.height));
            }
        }
    }
}

fn read_key(config: &Config, genesis: &Genesis, path: &Path) -> Result<ValidatorKey> {
    let key = ValidatorKey::read(path, config.validator_passphrase_file.as_deref())?;
    check_listed(&owner_of(&key, genesis), genesis, &path.display())?;
    Ok(key)
}

fn owner_of(key: &ValidatorKey, genesis: &Genesis) -> RecordOwner {
    RecordOwner {
        genesis: genesis.params.genesis_hash,
        validator: key.address(),
    }
}

/// Refuses who is no validator of this network.
fn check_listed(owner: &RecordOwner, genesis: &Genesis, of: &dyn std::fmt::Display) -> Result<()> {
    let validators = Validators::of_genesis(genesis);
    ensure!(
        validators.key(&owner.validator).is_some(),
        "{of} is of {}, which is not among the {} validators of network {}: look at --validator-key and --genesis",
        owner.validator.to_text(&genesis.prefix),
        validators.len(),
        genesis.name
    );
    Ok(())
}

/// Exports, imports or repairs a vote record.
pub fn votes(what: &Votes, config: &Config) -> Result<ExitCode> {
    let genesis = config.load_genesis()?;
    let files = RecordFiles::new(&config.data_dir, genesis.prefix.clone());
    match what {
        Votes::Export { file } => export_to(file, &files, &genesis)?,
        Votes::Import { file } => import_from(file, &files, &genesis, config)?,
        Votes::Repair { above } => repair(Height(*above), &files, &genesis, config)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn export_to(file: &Path, files: &RecordFiles, genesis: &Genesis) -> Result<()> {
    // Before anything is moved, whether the file can be made.
    let made = OpenOptions::new().write(true).create_new(true).open(file);
    let mut made = made.with_context(|| {
        let file = file.display();
        format!("making {file}, which must be a new file: an export is never overwritten")
    })?;
    let moved = files.move_out(genesis.params.genesis_hash);
    let (owner, record) = moved.inspect_err(|_| {
        // It is empty.
        let _ = std::fs::remove_file(file);
    })?;
    made.write_all(export(&owner, &record).as_bytes())
        .and_then(|()| made.sync_all())
        .with_context(|| format!("writing {}; export to another file again", file.display()))?;
    println!(
        "exported {} of {} to {}. Import them where the validator moves to. It does not start here any more; to bring it back, import a record that is as new",
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
            "the record that was there was damaged; the import lacks none of its votes and replaces it. What was there is kept as {}. From now on the validator votes only above the end of both",
            path.display()
        );
    }
    Ok(())
}

fn repair(above: Height, files: &RecordFiles, genesis: &Genesis, config: &Config) -> Result<()> {
    let Some(path) = &config.validator_key else {
        bail!("whose record is it? Name the key with --validator-key");
    };
    let key = read_key(config, genesis, path)?;
    if RedbStore::is_in(&config.data_dir) {
        // A validator votes for blocks of its own best chain.
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
        "{} votes only above height {above} from now on, once the others have approved a checkpoint at that height or above; the record is {}. What was there is kept beside it as votes.log.damaged. At most {} of the {} validators may be waiting so at a time, or nothing is approved any more",
        key.address().to_text(&genesis.prefix),
        files.path().display(),
        validators.saturating_sub(quorum),
        validators,
    );
    Ok(())
}

/// How much a record holds, and where it ends.
fn described(record: &VoteRecord) -> String {
    let count = record.len();
    match record.highest_target() {
        Some(height) => format!("{count} votes up to height {height}"),
        None => format!("{count} votes"),
    }
}
