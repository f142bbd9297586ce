//! Which values of the effective configuration are refused.

use std::collections::HashMap;

use super::error::ConfigError;
use super::origin::{SettingOrigin, SettingPlace};
use super::settings::{BoundedSetting, Config};
use crate::logging;

/// Which source gave each setting. A setting that no source gave is missing.
pub(super) type SettingOrigins = HashMap<String, SettingOrigin>;

fn place_of(key: &str, origins: &SettingOrigins) -> SettingPlace {
    origins
        .get(key)
        .unwrap_or(&SettingOrigin::Default)
        .place(key)
}

impl Config {
    /// Checks every value, once all sources are put together.
    pub(super) fn check(&self, origins: &SettingOrigins) -> Result<(), ConfigError> {
        self.check_listening()?;
        self.check_bounds(origins)?;
        self.check_paths(origins)?;
        logging::check_filter(&self.log_filter).map_err(|error| ConfigError::OutOfRange {
            key: "log_filter",
            found: format!("{:?}", self.log_filter),
            expected: format!("a filter such as info,pithead_node=debug ({error})"),
            place: place_of("log_filter", origins),
        })
    }

    fn check_listening(&self) -> Result<(), ConfigError> {
        let loopback = self.rpc_listen.ip().is_loopback();
        if !loopback && !self.rpc_allow_insecure {
            return Err(ConfigError::Conflict(format!(
                "rpc_listen {} is not a loopback address, and the API is plaintext: anyone on the way could read and alter it, tokens included. Use an SSH or VPN tunnel, or accept the risk with --rpc-allow-insecure",
                self.rpc_listen
            )));
        }
        if !loopback && self.mine_without_token {
            return Err(ConfigError::Conflict(format!(
                "mine_without_token would open mining to everyone who reaches {}: it needs a loopback rpc_listen",
                self.rpc_listen
            )));
        }
        Ok(())
    }

    fn check_bounds(&self, origins: &SettingOrigins) -> Result<(), ConfigError> {
        for BoundedSetting {
            key,
            value,
            min,
            max,
        } in self.bounded()
        {
            let expected = if value < min {
                format!("at least {min}")
            } else if value > max {
                format!("at most {max}")
            } else {
                continue;
            };
            return Err(ConfigError::OutOfRange {
                key,
                found: value.to_string(),
                expected,
                place: place_of(key, origins),
            });
        }
        Ok(())
    }

    fn check_paths(&self, origins: &SettingOrigins) -> Result<(), ConfigError> {
        let paths = [
            ("genesis", self.genesis.as_ref()),
            ("data_dir", Some(&self.data_dir)),
            ("mine_token_file", Some(&self.mine_token_file)),
            ("admin_token_file", Some(&self.admin_token_file)),
            ("ready_file", self.ready_file.as_ref()),
        ];
        for (key, path) in paths {
            if path.is_some_and(|path| path.as_os_str().is_empty()) {
                return Err(ConfigError::OutOfRange {
                    key,
                    found: "empty".to_owned(),
                    expected: "a path".to_owned(),
                    place: place_of(key, origins),
                });
            }
        }
        if self.mine_token_file == self.admin_token_file {
            return Err(ConfigError::Conflict(format!(
                "mine_token_file and admin_token_file are both {}: every miner could administer the node",
                self.mine_token_file.display()
            )));
        }
        Ok(())
    }
}
