//! The wallets, the validators' keys and the genesis of a devnet: makes new ones,
//! or reads those of an earlier run. Start with [`prepare`].

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use pithead_client::wallet::WalletName;
use pithead_client::{SigningKey, ValidatorFile, Wallets};
use pithead_consensus::AddressPrefix;
use pithead_consensus::genesis::{
    AllocationEntry, GenesisFile, Network as BuiltIn, ValidatorEntry,
};

use super::layout::Layout;
use super::plan::Plan;
use super::view::DevnetView;

/// Number of wallets that pay each other.
pub(super) const WALLETS: usize = 25;
/// Amount that the genesis gives to each wallet, in PIT.
pub(super) const FUNDS: &str = "100";
/// Name of the wallet that gets the miners' rewards.
pub(super) const MINER_WALLET: &str = "miner";
/// Compact target to begin with: 2^24 hashes, about a second of two cores. The
/// preset's 2^20 would bring several blocks a second until the rule catches up.
const FIRST_BITS: u32 = 0x1e00_ffff;

/// The keys of a devnet's wallets.
pub(super) struct DevnetWallets {
    prefix: AddressPrefix,
    /// Name and key of each wallet that the genesis funds.
    pub(super) funded: Vec<(String, SigningKey)>,
    /// Key of the wallet that gets the miners' rewards.
    pub(super) miner: SigningKey,
    /// The text of that wallet's address.
    pub(super) miner_address: String,
}

impl DevnetWallets {
    /// Name and address of the first wallet, for the examples that are shown.
    pub(super) fn example(&self) -> (&str, String) {
        match self.funded.first() {
            Some((name, key)) => (name, key.address().to_text(&self.prefix)),
            None => (MINER_WALLET, self.miner_address.clone()),
        }
    }
}

/// Makes wallets and genesis, or reads those of an earlier run.
pub(super) async fn prepare(
    layout: &Layout,
    view: &DevnetView,
    plan: &Plan,
    resumed: bool,
) -> Result<DevnetWallets> {
    let (layout, plan) = (layout.clone(), *plan);
    let shown = view.clone();
    tokio::task::spawn_blocking(move || {
        if resumed {
            load(&layout)
        } else {
            create(&layout, &plan, &shown)
        }
    })
    .await
    .context("making the wallets")?
}

/// Makes the wallets, the validators' keys and the genesis of a new network.
fn create(layout: &Layout, plan: &Plan, view: &DevnetView) -> Result<DevnetWallets> {
    view.step(&match plan.validators() {
        0 => format!("Making {WALLETS} wallets, one for the miners, and a fresh genesis"),
        count => format!(
            "Making {WALLETS} wallets, one for the miners, {count} validators' keys, and a fresh genesis"
        ),
    });
    let began = Instant::now();
    let names: Vec<String> = (1..=WALLETS)
        .map(|number| format!("wallet-{number:02}"))
        .chain([MINER_WALLET.to_owned()])
        .collect();
    let store = Wallets::in_folder(layout.wallets());
    let mut keys = generate(names.len() + plan.validators() as usize, view)?;
    let validator_keys = keys.split_off(names.len());
    for (name, key) in names.iter().zip(&keys) {
        let name: WalletName = name.parse()?;
        // This is play money: the keys are unencrypted so that examples need no passphrase.
        store.add(&name, key, None)?;
    }
    let miner = keys.pop().context("no key for the miners")?;
    let wallets: Vec<(String, SigningKey)> = names.into_iter().zip(keys).collect();

    let file = BuiltIn::Dev.genesis_file();
    let prefix = BuiltIn::Dev.genesis()?.prefix;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let file = GenesisFile {
        name: "devnet".to_owned(),
        bits: FIRST_BITS,
        time: u32::try_from(now).context("the clock is beyond 2106")?,
        approval_quorum: plan.quorum.map_or(0, pithead_client::Quorum::get),
        validators: keep_validators(layout, &validator_keys, &prefix)?,
        allocations: wallets
            .iter()
            .map(|(_, key)| AllocationEntry {
                address: key.address().to_text(&prefix),
                amount: FUNDS.to_owned(),
            })
            .collect(),
        ..file
    };
    let genesis = file.check()?;
    std::fs::create_dir_all(layout.folder())?;
    std::fs::write(layout.genesis(), file.to_toml()?)
        .with_context(|| format!("writing {}", layout.genesis().display()))?;
    view.done(format!(
        "{} keys in {:.1} s; genesis {}",
        wallets.len() + 1 + validator_keys.len(),
        began.elapsed().as_secs_f64(),
        genesis.params.genesis_hash
    ));
    Ok(DevnetWallets {
        miner_address: miner.address().to_text(&prefix),
        prefix,
        funded: wallets,
        miner,
    })
}

/// Writes the validators' keys and returns their entries for the genesis. The keys
/// are unencrypted, so that the nodes start without a passphrase.
fn keep_validators(
    layout: &Layout,
    keys: &[SigningKey],
    prefix: &AddressPrefix,
) -> Result<Vec<ValidatorEntry>> {
    if !keys.is_empty() {
        std::fs::create_dir_all(layout.validators())
            .with_context(|| format!("making {}", layout.validators().display()))?;
    }
    let kept = (1..).zip(keys).map(|(number, key)| {
        let path = layout.validator_key(number);
        let file = ValidatorFile::create(&path, key, None, prefix)?;
        Ok(file.entry(prefix))
    });
    kept.collect()
}

/// Generates keys on every core, since finding primes takes long.
fn generate(count: usize, view: &DevnetView) -> Result<Vec<SigningKey>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let progress = view.progress(count);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let made: Vec<Result<Vec<SigningKey>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    let mut keys = Vec::new();
                    while next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < count {
                        keys.push(SigningKey::generate()?);
                        progress.tick();
                    }
                    Ok(keys)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(keys) => keys,
                Err(_) => bail!("generating a key failed"),
            })
            .collect()
    });
    progress.end();
    let mut keys = Vec::with_capacity(count);
    for part in made {
        keys.extend(part?);
    }
    Ok(keys)
}

/// Reads the wallets of an earlier run.
fn load(layout: &Layout) -> Result<DevnetWallets> {
    let genesis = layout.read_genesis()?.check()?;
    let store = Wallets::in_folder(layout.wallets());
    let mut wallets = Vec::new();
    let mut miner = None;
    for name in store.names()? {
        let key = store.open(&name)?.unlock(None)?;
        if name.as_str() == MINER_WALLET {
            miner = Some(key);
        } else {
            wallets.push((name.to_string(), key));
        }
    }
    let miner = miner.with_context(|| {
        format!(
            "{} holds no wallet {MINER_WALLET:?}: the network's folder is incomplete",
            layout.wallets().display()
        )
    })?;
    Ok(DevnetWallets {
        miner_address: miner.address().to_text(&genesis.prefix),
        prefix: genesis.prefix,
        funded: wallets,
        miner,
    })
}
