//! The network of a test: a genesis whose blocks take two hashes, in a file that a real node
//! reads. It knows nothing of nodes. Start with [`Network::easy`].

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use pithead_consensus::genesis::GenesisFile;
use pithead_consensus::{Address, BlockHash, Genesis, SignedTransaction};
use tempfile::TempDir;

use crate::chain::{SmallChain, easy_network};
use crate::{ALLOCATION, key};

/// Unix seconds now.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A genesis and the file that it is in.
pub struct Network {
    pub file: GenesisFile,
    pub genesis: Genesis,
    dir: TempDir,
}

impl Network {
    /// A network whose blocks take two hashes and nearly stay that easy. Rewards are paid at once.
    pub fn easy() -> Self {
        Self::with(|_| {})
    }

    /// The same with changes to the genesis.
    pub fn with(change: impl FnOnce(&mut GenesisFile)) -> Self {
        let allocations: Vec<_> = (0..4)
            .map(|index| (key(index).address, ALLOCATION))
            .collect();
        let mut file = GenesisFile {
            time: u32::try_from(now()).unwrap() - 600,
            half_life_secs: 86_400,
            ..easy_network(&allocations, 0)
        };
        change(&mut file);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("genesis.toml"), file.to_toml().unwrap()).unwrap();
        Self {
            genesis: file.check().unwrap(),
            file,
            dir,
        }
    }

    /// The path of the genesis file.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("genesis.toml")
    }

    /// An address as text.
    pub fn text(&self, address: &Address) -> String {
        address.to_text(&self.genesis.prefix)
    }

    /// The address of a test key, as text.
    pub fn address(&self, index: usize) -> String {
        self.text(&key(index).address)
    }

    pub fn hash(&self) -> BlockHash {
        self.genesis.params.genesis_hash
    }

    /// A payment of `amount` grains from one test key to another.
    pub fn pay(
        &self,
        from: usize,
        sequence: u64,
        to: usize,
        amount: u64,
        fee: u64,
    ) -> SignedTransaction {
        key(from).pay(&self.hash(), sequence, fee, &[(key(to).address, amount)])
    }

    /// A chain of this network in memory, to make blocks without a node.
    pub fn mirror(&self) -> SmallChain {
        SmallChain::new(&self.file)
    }
}
