//! The genesis of the simulated network: the main network's rules with little work.
//!
//! Start reading at [`genesis_file`].

use pithead_consensus::AddressPrefix;
use pithead_consensus::genesis::{AllocationEntry, GenesisFile, Network, ValidatorEntry};

use crate::nodes::keys::{SimKey, validator_keys};
use crate::nodes::sim_node::GENESIS_TIME;
use crate::settings::SimSettings;
use crate::violation::RunError;

/// Hashes that a block takes at first, on average. The difficulty can move in both
/// directions from there, and a nonce is still found at once.
pub(crate) const HASHES_PER_BLOCK: f64 = 64.0;
/// [`HASHES_PER_BLOCK`] as a compact target: 2^256 / 64.
const BITS: u32 = 0x2003_ffff;
/// The easiest target as a compact target: 2^256 / 2, which two hashes meet on average.
const POW_LIMIT_BITS: u32 = 0x207f_ffff;
/// Blocks until a reward is paid out: few, so that short runs pay some rewards.
const REWARD_MATURITY: u32 = 10;
/// The amount that each wallet owns at the start, PIT.
const ALLOCATION: &str = "1000";

/// The genesis of a run, with its validators and with an allocation for each wallet.
///
/// # Errors
/// [`RunError::Settings`] if the main network's address prefix is invalid.
pub(crate) fn genesis_file(
    settings: &SimSettings,
    wallets: &[SimKey],
) -> Result<GenesisFile, RunError> {
    let base = Network::Main.genesis_file();
    let prefix = AddressPrefix::new(&base.address_prefix)
        .map_err(|error| RunError::Settings(error.to_string()))?;
    // Making the validators' keys takes long: a run without validators does without.
    let validators = match settings.validators {
        0 => &[],
        count => validator_keys().get(..count).unwrap_or_default(),
    };
    Ok(GenesisFile {
        name: "simulation".to_owned(),
        time: GENESIS_TIME,
        bits: BITS,
        pow_limit_bits: POW_LIMIT_BITS,
        block_interval_secs: settings.interval_secs,
        reward_maturity: REWARD_MATURITY,
        checkpoint_interval: settings.checkpoint_interval,
        approval_quorum: u32::try_from(settings.quorum()).unwrap_or(u32::MAX),
        validators: validators
            .iter()
            .map(|key| ValidatorEntry {
                address: key.address.to_text(&prefix),
                public_key: hex::encode(key.public.modulus()),
            })
            .collect(),
        allocations: wallets
            .iter()
            .map(|key| AllocationEntry {
                address: key.address.to_text(&prefix),
                amount: ALLOCATION.to_owned(),
            })
            .collect(),
        ..base
    })
}
