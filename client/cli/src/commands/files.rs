//! Reading files that the user names, each with a limit on its size.

use std::fmt::Display;
use std::path::Path;

/// Reads a text file of at most `bytes_max` bytes. `what` says in an error what
/// the file should be, such as `a proof`.
pub(crate) fn read_text(path: &Path, bytes_max: u64, what: &str) -> anyhow::Result<String> {
    let size = std::fs::metadata(path)
        .map_err(|error| failed(path, error))?
        .len();
    if size > bytes_max {
        return Err(failed(path, format!("it is far too large for {what}")));
    }
    std::fs::read_to_string(path).map_err(|error| failed(path, error))
}

/// A failure that has to do with a file: its path, then what is wrong.
pub(crate) fn failed(path: &Path, what: impl Display) -> anyhow::Error {
    anyhow::anyhow!("{}: {what}", path.display())
}
