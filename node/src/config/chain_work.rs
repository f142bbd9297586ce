//! The work of a chain as a setting: big-endian hex, as the API shows `chain_work`.

use std::fmt;
use std::str::FromStr;

use pithead_consensus::Work;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Hex digits of a 256-bit number.
const DIGITS: usize = 64;

/// Work of a chain, in expected hashes, as text in hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChainWork(pub Work);

/// A text is no chain work.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{found:?} is no chain work: 1 to 64 hex digits expected, as chain_work is shown")]
pub struct ChainWorkError {
    found: String,
}

impl FromStr for ChainWork {
    type Err = ChainWorkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ChainWorkError {
            found: text.chars().take(2 * DIGITS).collect(),
        };
        let digits = text.strip_prefix("0x").unwrap_or(text);
        if digits.is_empty() || digits.len() > DIGITS {
            return Err(bad());
        }
        let mut bytes = [0; DIGITS / 2];
        hex::decode_to_slice(format!("{digits:0>DIGITS$}"), &mut bytes).map_err(|_| bad())?;
        Ok(Self(Work::from_be_bytes(bytes)))
    }
}

impl fmt::Display for ChainWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for ChainWork {
    type Error = ChainWorkError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ChainWork> for String {
    fn from(work: ChainWork) -> Self {
        work.to_string()
    }
}
