//! The configuration: flags win over the environment, the environment over the file, the file over
//! the defaults.
//!
//! All three sources fill the same [`GivenSettings`]; the value of each setting comes from the
//! first source that has it. `pithead-node config` prints the result with the source of every
//! value. Start reading at [`Config::load`]; the settings themselves are listed in `settings`.

mod chain_work;
mod check;
mod cli;
mod defaults;
mod error;
mod origin;
mod settings;
mod sources;

use std::ffi::OsString;
use std::fmt::Write as _;

use pithead_consensus::Genesis;
use pithead_consensus::genesis::{GenesisError, GenesisFile};
use toml::Table;

pub use self::chain_work::{ChainWork, ChainWorkError};
pub use self::cli::{NodeCli, NodeCommand, VotesCommand};
pub use self::defaults::NetworkName;
pub use self::error::ConfigError;
pub use self::origin::{SettingOrigin, SettingPlace};
pub use self::settings::{Config, GivenSettings};

use self::check::SettingOrigins;
use self::settings::SETTING_NAMES;

impl Config {
    /// Puts the sources together. Also returns the effective configuration as
    /// TOML, with the source of each value as a comment.
    ///
    /// # Errors
    /// [`ConfigError`] names the source, the key and what is expected.
    pub fn load(cli: &NodeCli) -> Result<(Self, String), ConfigError> {
        // Not `vars`: that panics at any variable that is not text.
        Self::load_from(cli, std::env::vars_os())
    }

    /// [`Config::load`] with the environment passed in.
    ///
    /// # Errors
    /// As there.
    pub fn load_from(
        cli: &NodeCli,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(Self, String), ConfigError> {
        let mut sources = vec![
            (SettingOrigin::Flag, sources::flag_table(&cli.settings)?),
            (SettingOrigin::Environment, sources::env_table(env)?),
        ];
        if let Some(path) = &cli.config {
            sources.push((
                SettingOrigin::File(path.clone()),
                sources::file_table(path)?,
            ));
        }
        let mut merged = Table::new();
        let mut origins = SettingOrigins::new();
        for (origin, table) in sources {
            for (key, value) in table {
                if !merged.contains_key(&key) {
                    origins.insert(key.clone(), origin.clone());
                    merged.insert(key, value);
                }
            }
        }
        // Whichever source wins: a network and a genesis are two chains, and the node must not
        // follow the one that was not meant.
        if let (Some(network), Some(genesis)) = (origins.get("network"), origins.get("genesis")) {
            return Err(ConfigError::Conflict(format!(
                "network ({}) and genesis ({}) exclude each other: give only one of them",
                network.place("network"),
                genesis.place("genesis")
            )));
        }
        let config = sources::settings_from(merged)?.with_defaults()?;
        config.check(&origins)?;
        let printed = config.printed(&origins)?;
        Ok((config, printed))
    }

    /// Reads and checks the genesis.
    ///
    /// # Errors
    /// [`ConfigError`] if the file can't be read or is refused.
    pub fn load_genesis(&self) -> Result<Genesis, ConfigError> {
        let bad = |path: String| move |error| ConfigError::BadGenesis { path, error };
        let Some(path) = &self.genesis else {
            let network = self.network.network();
            return network.genesis().map_err(bad(network.name().to_owned()));
        };
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| bad(shown.clone())(GenesisError::BadToml(error.to_string())))?;
        GenesisFile::from_toml(&text)
            .and_then(|file| file.check())
            .map_err(bad(shown))
    }

    /// The effective configuration as TOML, in the order of the flags.
    fn printed(&self, origins: &SettingOrigins) -> Result<String, ConfigError> {
        let mut settings = self.to_given();
        if self.genesis.is_some() {
            // A file with both would be refused.
            settings.network = None;
        }
        let table = sources::flag_table(&settings)?;
        let mut out = String::new();
        for key in SETTING_NAMES {
            if let Some(value) = table.get(*key) {
                let origin = origins.get(*key).unwrap_or(&SettingOrigin::Default).name();
                // Writing to a string does not fail.
                let _ = writeln!(out, "{key} = {value} # {origin}");
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    /// The help text of a flag ends in the flag's default, in words or as `config` prints it.
    #[test]
    fn defaults_in_the_help_are_the_defaults() {
        let cli = NodeCli::parse_from(["pithead-node", "--data-dir", "DATA_DIR"]);
        let (_, printed) = Config::load_from(&cli, []).unwrap();
        let mut compared = 0;
        for argument in NodeCli::command().get_arguments() {
            let help = argument.get_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let said = help.rsplit_once("[default: ").map(|(_, end)| end);
            let Some(said) = said.and_then(|end| end.strip_suffix(']')) else {
                continue;
            };
            let start = format!("{} = ", argument.get_id());
            let line = printed.lines().find_map(|line| line.strip_prefix(&start));
            let Some(value) = line.unwrap().strip_suffix(" # default") else {
                continue;
            };
            let value = value.trim_matches('"');
            let is_zero = value.bytes().all(|digit| digit == b'0');
            let value = if is_zero { "0" } else { value };
            // A default that depends on other settings is told in words.
            if !said.contains(' ') {
                assert_eq!(value, said, "{start}");
                compared += 1;
            }
        }
        assert_eq!(compared, 21);
    }
}
