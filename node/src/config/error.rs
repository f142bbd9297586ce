//! Why a configuration is refused. Every message says where the value was given.

use std::path::PathBuf;

use pithead_consensus::genesis::GenesisError;
use thiserror::Error;

use super::origin::SettingPlace;

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The configuration file can't be read, or it is no TOML.
    #[error("configuration file {path}: {reason}")]
    BadFile { path: PathBuf, reason: String },
    /// A source names a setting that does not exist.
    #[error(
        "{place}: there is no setting {key:?}{suggestion}; `pithead-node --help` lists them all"
    )]
    UnknownKey {
        place: SettingPlace,
        key: String,
        /// Settings that may be meant, worded for the message; or empty.
        suggestion: String,
    },
    /// A value is of the wrong kind.
    #[error("{place}: {reason}")]
    BadValue {
        place: SettingPlace,
        /// The setting, what was found and what is expected.
        reason: String,
    },
    /// A value is too small, too large or malformed.
    #[error("{key} is {found}, {expected} expected ({place})")]
    OutOfRange {
        key: &'static str,
        found: String,
        expected: String,
        place: SettingPlace,
    },
    /// Two settings exclude each other, or one lacks another.
    #[error("{0}")]
    Conflict(String),
    /// The genesis is refused.
    #[error("genesis {path}: {error}")]
    BadGenesis {
        /// The genesis file, or the name of the built-in network.
        path: String,
        error: GenesisError,
    },
}
