//! Opening a validator's key and vote record, with every precaution against voting twice.
//!
//! A vote record that is an old copy lacks votes, and without these the validator could vote
//! against itself. So the record is compared with the certificates in the store, which are kept
//! for ever: a vote that they hold and the record lacks shows an old copy.

use std::fmt;
use std::path::{Path, PathBuf};

use pithead_consensus::{Genesis, Height, Validators, VoteRecord};
use pithead_core::finality::{Signer as _, Voter, certificates_above};
use pithead_core::store::{Snapshot, Store, StoreError};
use thiserror::Error;
use tracing::warn;

use super::journal::{RecordFiles, RecordOwner, VoteRecordError};
use super::key::{ValidatorKey, ValidatorKeyError};
use crate::config::Config;

/// Certificates read from the store at a time.
const CERTIFICATES_PER_READ: usize = 1_000;
/// Bytes of certificates read from the store at a time.
const BYTES_PER_READ: usize = 4 << 20;

/// Why a node can't start as a validator.
#[derive(Debug, Error)]
pub enum ValidatorError {
    /// The command line asks for a vote record but names no key.
    #[error("--init-vote-record is for a validator: name its key with --validator-key")]
    InitWithoutKey,
    /// The key can't be used.
    #[error(transparent)]
    Key(#[from] ValidatorKeyError),
    /// The vote record can't be used.
    #[error(transparent)]
    Record(#[from] VoteRecordError),
    /// The certificates can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key or the record is of an address that the genesis does not list.
    #[error(
        "{file} is of {address}, which is not among the {validators} validators of network {network}: look at --validator-key and --genesis"
    )]
    NotListed {
        file: String,
        address: String,
        validators: usize,
        network: String,
    },
    /// A new record is asked for, but the key has voted.
    #[error(
        "this key has voted before: a certificate in {data_dir} holds its approval of height {height}. --init-vote-record is for a key that never voted; import its record with `pithead-node votes import`, or see `pithead-node votes repair`"
    )]
    VotedBefore { data_dir: PathBuf, height: Height },
    /// The record lacks a vote that was cast.
    #[error(
        "the vote record at {path} ends at height {ends}, but a certificate holds this validator's approval of height {height}: the record is an old copy, and more votes may be missing from it. Import the newest one with `pithead-node votes import`, or see `pithead-node votes repair`"
    )]
    OldRecord {
        path: PathBuf,
        /// The highest vote in the record.
        ends: Height,
        height: Height,
    },
}

/// Opens key and vote record; `None` if the configuration names no key. With `init`, makes a new
/// record.
///
/// # Errors
/// [`ValidatorError`] says what is wrong and what to do.
pub fn open(
    config: &Config,
    genesis: &Genesis,
    store: &dyn Store,
    init: bool,
) -> Result<Option<Voter>, ValidatorError> {
    let Some(path) = &config.validator_key else {
        if init {
            return Err(ValidatorError::InitWithoutKey);
        }
        return Ok(None);
    };
    let key = read_key(config, genesis, path)?;
    let owner = owner_of(&key, genesis);
    let files = RecordFiles::new(&config.data_dir, genesis.prefix.clone());
    let record_path = files.path();
    let snapshot = store.snapshot()?;
    if init {
        files.check_new()?;
        if let Some(height) = voted_above(snapshot.as_ref(), &owner, Height(0))? {
            let data_dir = config.data_dir.clone();
            return Err(ValidatorError::VotedBefore { data_dir, height });
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
        return Err(ValidatorError::OldRecord {
            path: record_path,
            ends,
            height,
        });
    }
    Ok(Some(Voter::new(Box::new(key), Box::new(journal), record)))
}

/// The lowest checkpoint above a height that this validator has approved, as the certificates in
/// the store show.
fn voted_above(
    snapshot: &dyn Snapshot,
    owner: &RecordOwner,
    above: Height,
) -> Result<Option<Height>, StoreError> {
    let mut last = above;
    loop {
        let found = certificates_above(snapshot, last, CERTIFICATES_PER_READ, BYTES_PER_READ)?;
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

/// Reads the validator's key and checks that the network lists it.
///
/// # Errors
/// [`ValidatorError::Key`] or [`ValidatorError::NotListed`].
pub fn read_key(
    config: &Config,
    genesis: &Genesis,
    path: &Path,
) -> Result<ValidatorKey, ValidatorError> {
    let key = ValidatorKey::read(path, config.validator_passphrase_file.as_deref())?;
    check_listed(&owner_of(&key, genesis), genesis, &path.display())?;
    Ok(key)
}

/// The validator and the chain that the key votes for.
#[must_use]
pub fn owner_of(key: &ValidatorKey, genesis: &Genesis) -> RecordOwner {
    RecordOwner {
        genesis: genesis.params.genesis_hash,
        validator: key.address(),
    }
}

/// Checks that the owner is a validator of this network; `file` holds its key or its votes.
///
/// # Errors
/// [`ValidatorError::NotListed`].
pub fn check_listed(
    owner: &RecordOwner,
    genesis: &Genesis,
    file: &dyn fmt::Display,
) -> Result<(), ValidatorError> {
    let validators = Validators::of_genesis(genesis);
    if validators.key(&owner.validator).is_some() {
        return Ok(());
    }
    Err(ValidatorError::NotListed {
        file: file.to_string(),
        address: owner.validator.to_text(&genesis.prefix),
        validators: validators.len(),
        network: genesis.name.clone(),
    })
}
