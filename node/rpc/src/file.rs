//! Replacing a small file as a whole.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Only the file's owner may read and write it.
pub const OWNER_ONLY: u32 = 0o600;
/// Everyone may read and write the file, as far as the process's umask lets them.
pub const AS_UMASK_SAYS: u32 = 0o666;

/// Writes `text` to the file at `path` in place of what the file held. Another process that reads
/// the file meanwhile sees the old text or the new one, never a part of it.
///
/// The text is first written to a file with `.new` behind its name, which is then renamed.
///
/// # Errors
/// If a file system call fails. The file is then as it was.
pub fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut new = OsString::from(path);
    new.push(".new");
    // A leftover of a crash may have another mode.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}
