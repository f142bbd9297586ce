//! Where the value of a setting came from, in one word or exactly.

use std::fmt;
use std::path::PathBuf;

/// What the names of environment variables start with.
pub(super) const ENV_PREFIX: &str = "PITHEAD_NODE_";

/// The kind of source that gave a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingOrigin {
    /// A flag of the command line.
    Flag,
    /// An environment variable.
    Environment,
    /// The configuration file at this path.
    File(PathBuf),
    /// No source gave a value.
    Default,
}

impl SettingOrigin {
    /// One word for it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File(_) => "file",
            Self::Default => "default",
        }
    }

    /// Where exactly `key` was given, for messages.
    pub(super) fn place(&self, key: &str) -> SettingPlace {
        SettingPlace(match self {
            Self::Flag => format!("flag --{}", key.replace('_', "-")),
            Self::Environment => {
                format!("environment variable {ENV_PREFIX}{}", key.to_uppercase())
            }
            Self::File(path) => format!("configuration file {}", path.display()),
            Self::Default => "default".to_owned(),
        })
    }
}

/// Where a value was given, in words: a flag, an environment variable or a file, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingPlace(pub(super) String);

impl fmt::Display for SettingPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
