//! A validator's part of the program: its key, its vote record, and the precautions before it votes.
//!
//! Start at [`open`]. Which votes a validator casts is decided in `pithead-core`.

pub mod journal;

mod key;
mod start;

pub use key::{ValidatorKey, ValidatorKeyError};
pub use start::{ValidatorError, check_listed, open, owner_of, read_key};
