//! The built-in networks: main, test and dev (protocol §10).

use super::{Genesis, GenesisError, GenesisFile};

/// The built-in networks (protocol §10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// The public network.
    Main,
    /// A network for trials with other people.
    Test,
    /// A network for one developer's machine.
    Dev,
}

impl Network {
    /// The name of the network.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Test => "test",
            Self::Dev => "dev",
        }
    }

    /// The network's genesis file (protocol §10, the table of presets).
    #[must_use]
    pub fn genesis_file(self) -> GenesisFile {
        // 2026-11-01 00:00:00 UTC.
        let time = 1_793_491_200;
        let base = GenesisFile {
            name: self.name().to_owned(),
            address_prefix: "pit".to_owned(),
            time,
            // 2^32 hashes; the limit is 2^24.
            bits: 0x1d00_ffff,
            pow_limit_bits: 0x1e00_ffff,
            block_interval_secs: 10,
            half_life_secs: 3_600,
            max_future_secs: 120,
            max_block_bytes: 2_000_000,
            // A block full of ordinary payments, of 351 bytes each, changes 11,394.
            max_account_changes: 12_000,
            min_opening_amount: 10_000,
            reward_maturity: 100,
            checkpoint_interval: 10,
            approval_quorum: 0,
            allocations: Vec::new(),
            validators: Vec::new(),
        };
        match self {
            Self::Main => base,
            Self::Test => GenesisFile {
                address_prefix: "tpit".to_owned(),
                // 2^28 hashes; the limit is 2^20.
                bits: 0x1d0f_ffff,
                pow_limit_bits: 0x1e0f_ffff,
                half_life_secs: 1_800,
                reward_maturity: 10,
                ..base
            },
            Self::Dev => GenesisFile {
                address_prefix: "dpit".to_owned(),
                // 2^20 hashes; the limit is 2.
                bits: 0x1e0f_ffff,
                pow_limit_bits: 0x207f_ffff,
                block_interval_secs: 2,
                half_life_secs: 60,
                max_future_secs: 10,
                reward_maturity: 0,
                checkpoint_interval: 1,
                ..base
            },
        }
    }

    /// The network's genesis.
    ///
    /// # Errors
    /// Built-in networks have no errors; a test checks that.
    pub fn genesis(self) -> Result<Genesis, GenesisError> {
        self.genesis_file().check()
    }
}
