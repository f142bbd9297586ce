//! The reference network as processes: 25 validators, 20 approvals for a
//! certificate, every block a checkpoint (protocol §9).

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pithead_api::v1;
use pithead_consensus::genesis::ValidatorEntry;
use pithead_consensus::{Address, AddressPrefix, PublicKey};
use rayon::prelude::*;
use rsa::RsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use tempfile::TempDir;

use super::{Network, TestNode, data_dir};

pub const VALIDATORS: usize = 25;
pub const QUORUM: u32 = 20;
/// Longest wait for 25 processes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Peers of a node that has found its way into the network.
const PEERS_MIN: usize = 4;

/// The network, its validators' folders, and those that run.
pub struct Reference {
    pub network: Network,
    pub dirs: Vec<TempDir>,
    pub nodes: Vec<Option<TestNode>>,
}

impl Reference {
    pub fn new() -> Self {
        let keys: Vec<RsaPrivateKey> = (0..VALIDATORS)
            .into_par_iter()
            .map(|_| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap())
            .collect();
        let dirs: Vec<TempDir> = keys
            .iter()
            .map(|key| {
                let dir = data_dir();
                let path = dir.path().join("validator.pem");
                let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap();
                std::fs::write(&path, pem.as_bytes()).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
                dir
            })
            .collect();
        let prefix = AddressPrefix::new("dpit").unwrap();
        let network = Network::with(|file| {
            file.checkpoint_interval = 1;
            file.approval_quorum = QUORUM;
            file.validators = keys
                .iter()
                .map(|key| {
                    let modulus = key.n().to_bytes_be();
                    let public = PublicKey::from_modulus(&modulus).unwrap();
                    ValidatorEntry {
                        address: Address::of_key(&public).to_text(&prefix),
                        public_key: hex::encode(modulus),
                    }
                })
                .collect();
        });
        Self {
            network,
            dirs,
            nodes: (0..VALIDATORS).map(|_| None).collect(),
        }
    }

    /// Starts one of them, with its validator.
    pub fn start(&mut self, index: usize, bootnode: Option<&str>) {
        let dir = self.dirs[index].path();
        let key: PathBuf = dir.join("validator.pem");
        let mut flags = vec!["--validator-key", key.to_str().unwrap()];
        if !dir.join("votes.log").exists() {
            flags.push("--init-vote-record");
        }
        self.start_with(index, bootnode, &flags);
    }

    /// Starts one of them, without its validator.
    pub fn start_mute(&mut self, index: usize, bootnode: Option<&str>) {
        self.start_with(index, bootnode, &[]);
    }

    fn start_with(&mut self, index: usize, bootnode: Option<&str>, flags: &[&str]) {
        let mut all = vec!["--listen", "/ip4/127.0.0.1/tcp/0"];
        all.extend(flags);
        if let Some(bootnode) = bootnode {
            all.extend(["--bootnode", bootnode]);
        }
        let dir = self.dirs[index].path();
        self.nodes[index] = Some(TestNode::start_with(&self.network, dir, &all));
    }

    /// Starts these, the first one as bootnode of the others, and waits until
    /// each has found some others.
    pub async fn start_group(&mut self, group: std::ops::Range<usize>) {
        self.start(group.start, None);
        let bootnode = self.address(group.start).await;
        for index in group.start + 1..group.end {
            self.start(index, Some(&bootnode));
        }
        for index in group {
            self.until(index, "it finds others", async |node| {
                node.peers().await.len() >= PEERS_MIN
            })
            .await;
        }
    }

    pub fn node(&self, index: usize) -> &TestNode {
        self.nodes[index].as_ref().unwrap()
    }

    /// Where one of them listens for others.
    pub async fn address(&self, index: usize) -> String {
        let mut network = self.node(index).network();
        let info = network.get_node_info(v1::GetNodeInfoRequest {}).await;
        info.unwrap().into_inner().listen_addresses.remove(0)
    }

    pub async fn until(&self, index: usize, what: &str, holds: impl AsyncFn(&TestNode) -> bool) {
        let node = self.node(index);
        let deadline = Instant::now() + PATIENCE;
        while !holds(node).await {
            assert!(
                Instant::now() < deadline,
                "node {index}: {what}: {}",
                node.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until all that run have this height final.
    pub async fn until_final(&self, height: u64) {
        for index in 0..VALIDATORS {
            if self.nodes[index].is_some() {
                self.until(index, "finality advances", async |node| {
                    node.info().await.final_height >= height
                })
                .await;
            }
        }
    }
}
