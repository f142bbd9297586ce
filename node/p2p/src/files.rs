//! Small TOML files that are rewritten whole and may be lost: the address book and the bans. A
//! damaged file is set aside with a warning, and the node starts without it.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

/// The longest file that is read: several times what the limits of its contents allow.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads a TOML file. Returns the default if there is none, or if it is damaged.
pub(super) fn read_or_default<T: DeserializeOwned + Default>(path: &Path) -> T {
    let text = match read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return T::default(),
        Err(error) => {
            set_aside(path, &error.to_string());
            return T::default();
        }
    };
    match toml::from_str(&text) {
        Ok(value) => value,
        Err(error) => {
            set_aside(path, error.message());
            T::default()
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(FILE_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn set_aside(path: &Path, reason: &str) {
    let aside = path.with_extension("damaged");
    let reason = reason.lines().next().unwrap_or_default();
    warn!(
        file = %path.display(), reason, aside = %aside.display(),
        "a file of the network is damaged: set aside, starting without it"
    );
    if let Err(error) = fs::rename(path, &aside) {
        warn!(file = %path.display(), %error, "the damaged file can't be set aside");
    }
}

/// Writes a value as TOML. After a crash the file is the old one or the new one, never a part.
pub(super) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let text = toml::to_string(value).map_err(io::Error::other)?;
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
