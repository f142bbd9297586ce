//! The reference network as processes: 25 validators, 20 approvals for a certificate, and every
//! block a checkpoint (protocol §9). Start with [`Reference::new`] and [`Reference::start_group`].

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use pithead_consensus::genesis::ValidatorEntry;
use pithead_consensus::{Address, AddressPrefix, PublicKey};
use rayon::prelude::*;
use rsa::RsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use tempfile::TempDir;

use pithead_api::v1;

use super::{Network, TestNode, data_dir, until_settled};

pub const VALIDATORS: usize = 25;
pub const QUORUM: u32 = 20;
/// Longest wait for 25 processes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Peers that a node needs before tests count it as part of the network.
const PEERS_MIN: usize = 4;

/// The network. For each validator: its folder, and its node while that runs.
pub struct Reference {
    pub network: Network,
    pub dirs: Vec<TempDir>,
    pub nodes: Vec<Option<TestNode>>,
}

impl Reference {
    #[allow(clippy::new_without_default, reason = "it makes 25 keys: no default")]
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

    /// Starts a node that votes as its validator.
    pub fn start(&mut self, index: usize, bootnode: Option<&str>) {
        let dir = self.dirs[index].path();
        let key: PathBuf = dir.join("validator.pem");
        let mut flags = vec!["--validator-key", key.to_str().unwrap()];
        if !dir.join("votes.log").exists() {
            flags.push("--init-vote-record");
        }
        self.start_with(index, bootnode, &flags);
    }

    /// Starts a node of a validator without the validator's key: it does not vote.
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

    /// Starts these nodes, the first as bootnode of the others, and waits until each has
    /// [`PEERS_MIN`] peers.
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

    /// Where a node listens for others.
    pub async fn address(&self, index: usize) -> String {
        self.node(index).listen_address().await
    }

    pub async fn until(&self, index: usize, what: &str, holds: impl AsyncFn(&TestNode) -> bool) {
        let node = self.node(index);
        let what = format!("node {index}: {what}");
        node.until_within(PATIENCE, &what, async || holds(node).await.then_some(()))
            .await;
    }

    /// [`until_settled`](super::until_settled) for the nodes that run, with a vote of each.
    pub async fn until_settled(&self, height: u64) {
        let nodes: Vec<&TestNode> = self.nodes.iter().flatten().collect();
        until_settled(&nodes, height, nodes.len(), PATIENCE).await;
    }

    /// Waits until all running nodes have this height approved.
    pub async fn until_approved(&self, height: u64) {
        for index in 0..VALIDATORS {
            if self.nodes[index].is_some() {
                self.until(index, "it is approved", async |node| {
                    node.info().await.approved_height >= height
                })
                .await;
            }
        }
    }

    /// Waits until all running nodes have this height final.
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

    /// Waits until a node has so many approvals of the checkpoint at a height.
    pub async fn until_approvals(&self, index: usize, height: u64, count: usize) {
        self.until(index, "approvals come", async |node| {
            node.approvals_at(height).await >= count
        })
        .await;
    }

    pub async fn peer_id(&self, index: usize) -> String {
        self.node(index).node_info().await.peer_id
    }

    /// Divides the nodes into those below the index `at` and the rest: each bans all nodes of the
    /// other group, or with `apart` false, lifts these bans.
    pub async fn split(&self, at: usize, apart: bool) {
        let mut ids = Vec::new();
        for index in 0..VALIDATORS {
            ids.push(self.peer_id(index).await);
        }
        for index in 0..VALIDATORS {
            let mut admin = self.node(index).admin();
            let others = if index < at { &ids[at..] } else { &ids[..at] };
            for peer in others {
                let peer = peer.clone();
                if apart {
                    let request = v1::BanPeerRequest {
                        peer,
                        duration: None,
                    };
                    admin.ban_peer(request).await.unwrap();
                } else {
                    let request = v1::UnbanPeerRequest { peer };
                    admin.unban_peer(request).await.unwrap();
                }
            }
        }
        if !apart {
            return;
        }
        // A node above `at` may have had only peers of the other group. Those below have the
        // bootnode.
        for index in at + 1..VALIDATORS {
            let request = v1::AddPeerRequest {
                address: self.address(at).await,
            };
            // The wait below shows whether they are connected.
            let _ = self.node(index).admin().add_peer(request).await;
        }
        for index in 0..VALIDATORS {
            let own = if index < at { &ids[..at] } else { &ids[at..] };
            self.until(index, "it is cut off from the other half", async |node| {
                let peers = node.peers().await;
                !peers.is_empty() && peers.iter().all(|peer| own.contains(&peer.peer_id))
            })
            .await;
        }
    }

    /// Mines one block and waits until all running nodes of a range have it; returns its height.
    pub async fn mine(&self, at: usize, all: std::ops::Range<usize>) -> u64 {
        let hash = self.node(at).mine(&self.network, 1).await;
        for index in all {
            if self.nodes[index].is_some() {
                self.until(index, "the block arrives", async |node| {
                    node.info().await.tip.unwrap().hash == hash
                })
                .await;
            }
        }
        self.node(at).height().await
    }
}
