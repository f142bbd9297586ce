//! The tokens that open the closed roles, and the files that they are kept in.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::RngCore as _;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::file;

/// Bytes of a token; the file holds them as hex.
const TOKEN_BYTES: usize = 32;
/// Hex digits of a token.
pub(crate) const TOKEN_CHARS: usize = 2 * TOKEN_BYTES;

/// Why the tokens can't be used.
#[derive(Debug, Error)]
pub enum TokenError {
    /// A token file could not be read or written.
    #[error("token file {path}: {source}")]
    Io {
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds something else. It is not overwritten: it may be someone's data.
    #[error(
        "token file {path} holds something else than a token of {TOKEN_CHARS} hex digits: remove it, or name another file"
    )]
    NotAToken { path: PathBuf },
    /// The same token would open mining and administration.
    #[error(
        "the token files {mine} and {admin} hold the same token, so every miner could administer the node: remove one of them and start again"
    )]
    SameToken { mine: PathBuf, admin: PathBuf },
}

/// The tokens of the closed roles. Cheap to clone.
#[derive(Clone)]
pub struct ApiTokens {
    pub(crate) mine: Arc<ApiToken>,
    pub(crate) admin: Arc<ApiToken>,
}

/// The token of one role.
pub(crate) struct ApiToken {
    /// [`TOKEN_CHARS`] hex digits.
    value: String,
    /// The file that holds it, for messages.
    pub(crate) path: PathBuf,
}

impl ApiTokens {
    /// Reads the tokens. A token that is missing is made, in a file that only the node's user can
    /// read. A token that is there is kept, so that miners go on working when the node restarts.
    ///
    /// # Errors
    /// [`TokenError`] if a file can't be read or written, if it holds something else, or if both
    /// files hold the same token.
    pub fn read_or_create(mine: &Path, admin: &Path) -> Result<Self, TokenError> {
        let tokens = Self {
            mine: Arc::new(ApiToken::read_or_create(mine)?),
            admin: Arc::new(ApiToken::read_or_create(admin)?),
        };
        if tokens.mine.is(&tokens.admin.value) {
            return Err(TokenError::SameToken {
                mine: mine.to_owned(),
                admin: admin.to_owned(),
            });
        }
        Ok(tokens)
    }
}

impl ApiToken {
    fn read_or_create(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Io {
            path: path.to_owned(),
            source,
        };
        let value = match read(path).map_err(failed)? {
            Some(text) if is_token(&text) => {
                restrict(path).map_err(failed)?;
                text
            }
            Some(_) => {
                return Err(TokenError::NotAToken {
                    path: path.to_owned(),
                });
            }
            None => {
                let value = random_token();
                write(path, &value).map_err(failed)?;
                value
            }
        };
        Ok(Self {
            value,
            path: path.to_owned(),
        })
    }

    /// Whether a caller has shown this token. The comparison takes the same time wherever the
    /// first difference is, so that its duration tells nothing about the token.
    pub(crate) fn is(&self, shown: &str) -> bool {
        self.value.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

/// Whether a text has the form of a token.
pub(crate) fn is_token(text: &str) -> bool {
    text.len() == TOKEN_CHARS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn random_token() -> String {
    let mut bytes = [0; TOKEN_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}

/// The content of a token file without the line's end. `None` if there is no such file, or if it
/// is empty.
fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    // Enough to see that the file holds no token; the path may lead to a file of any size.
    file.take(4 * TOKEN_CHARS as u64).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Takes the right to read the file from everyone but its owner.
fn restrict(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(file::OWNER_ONLY))
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    file::replace(path, &format!("{value}\n"), file::OWNER_ONLY)
}
