//! The genesis of the simulated network: the main network's rules with easy work.

use pithead_consensus::genesis::{AllocationEntry, GenesisFile, Network, ValidatorEntry};

use crate::keys::keys;
use crate::member::GENESIS_TIME;
use crate::settings::Settings;
use crate::wallets::Wallets;
use crate::world::RunError;

/// Hashes that a block takes at first: enough for the difficulty to move in
/// both directions, few enough to be found at once.
pub(crate) const HASHES_PER_BLOCK: f64 = 64.0;
/// The same as a compact target: 2^256 / 64.
const BITS: u32 = 0x2003_ffff;
/// The easiest target: two hashes.
const POW_LIMIT_BITS: u32 = 0x207f_ffff;
/// Blocks until a reward can be spent: few, so that short runs pay some.
const REWARD_MATURITY: u32 = 10;

fn keys_of(settings: &Settings) -> impl Iterator<Item = &'static crate::keys::ValidatorKey> {
    let all = if settings.validators == 0 {
        &[]
    } else {
        keys()
    };
    all.iter().take(settings.validators)
}

/// The main network's rules with easy work and the wallets' allocations.
pub(crate) fn genesis_file(
    settings: &Settings,
    wallets: &Wallets,
) -> Result<GenesisFile, RunError> {
    let base = Network::Main.genesis_file();
    let prefix = pithead_consensus::AddressPrefix::new(&base.address_prefix)
        .map_err(|error| RunError::Settings(error.to_string()))?;
    Ok(GenesisFile {
        name: "simulation".to_owned(),
        time: GENESIS_TIME,
        bits: BITS,
        pow_limit_bits: POW_LIMIT_BITS,
        block_interval_secs: settings.interval_secs,
        reward_maturity: REWARD_MATURITY,
        checkpoint_interval: settings.checkpoint_interval,
        approval_quorum: u32::try_from(settings.quorum()).unwrap_or(u32::MAX),
        validators: keys_of(settings)
            .map(|key| ValidatorEntry {
                address: key.address.to_text(&prefix),
                public_key: hex::encode(key.public.modulus()),
            })
            .collect(),
        allocations: wallets
            .addresses()
            .map(|address| AllocationEntry {
                address: address.to_text(&prefix),
                amount: "1000".to_owned(),
            })
            .collect(),
        ..base
    })
}
