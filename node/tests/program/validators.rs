//! Finality between real nodes: each block is approved by a quorum and then final, clients hear of
//! both, and no amount of work takes a final block away. Finality waits while too many
//! validators are away, and goes on when they are back.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_consensus::genesis::ValidatorEntry;
use pithead_testkit::process::{Network, TestNode, data_dir, next, reason};
use pithead_testkit::{FEE, PIT, key};
use tempfile::TempDir;

/// Validators of the test network.
pub(crate) const VALIDATORS: usize = 4;
/// Any two quorums share two validators.
const QUORUM: u32 = 3;

pub(crate) fn voting() -> Network {
    let prefix = pithead_consensus::AddressPrefix::new("dpit").unwrap();
    Network::with(|file| {
        file.checkpoint_interval = 1;
        file.approval_quorum = QUORUM;
        file.validators = (0..VALIDATORS)
            .map(|index| ValidatorEntry {
                address: key(index).address.to_text(&prefix),
                public_key: hex::encode(key(index).public.modulus()),
            })
            .collect();
    })
}

pub(crate) fn key_file(dir: &Path, index: usize) -> PathBuf {
    let path = dir.join("validator.pem");
    std::fs::write(&path, key(index).pem).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Starts a validator. The first time, it makes its vote record.
pub(crate) fn start(
    network: &Network,
    dir: &Path,
    index: usize,
    bootnode: Option<&str>,
) -> TestNode {
    let path = key_file(dir, index);
    let mut flags = vec!["--listen", "/ip4/127.0.0.1/tcp/0"];
    flags.extend(["--validator-key", path.to_str().unwrap()]);
    if !dir.join("votes.log").exists() {
        flags.push("--init-vote-record");
    }
    if let Some(bootnode) = bootnode {
        flags.extend(["--bootnode", bootnode]);
    }
    TestNode::start_with(network, dir, &flags)
}

/// All validators, connected.
pub(crate) async fn all(network: &Network) -> (Vec<TestNode>, Vec<TempDir>) {
    let dirs: Vec<TempDir> = (0..VALIDATORS).map(|_| data_dir()).collect();
    let mut nodes = vec![start(network, dirs[0].path(), 0, None)];
    let bootnode = nodes[0].listen_address().await;
    for (index, dir) in dirs.iter().enumerate().skip(1) {
        nodes.push(start(network, dir.path(), index, Some(&bootnode)));
    }
    for node in &nodes {
        until(node, "all are connected", async || {
            (node.peers().await.len() == VALIDATORS - 1).then_some(())
        })
        .await;
    }
    (nodes, dirs)
}

pub(crate) async fn until<T>(
    node: &TestNode,
    what: &str,
    look: impl AsyncFnMut() -> Option<T>,
) -> T {
    node.until(what, look).await
}

/// Follows a node's chain from its tip, headers only.
pub(crate) async fn follow(node: &TestNode) -> tonic::Streaming<v1::SubscribeChainResponse> {
    let request = v1::SubscribeChainRequest {
        view: v1::BlockView::Header.into(),
        ..Default::default()
    };
    let subscribed = node.chain().subscribe_chain(request).await;
    subscribed.unwrap().into_inner()
}

/// Waits until a node has these heights approved and final.
pub(crate) async fn until_secured(node: &TestNode, approved: u64, last_final: u64) {
    let mut stream = follow(node).await;
    let mut seen = (0, 0);
    while seen != (approved, last_final) {
        match next(&mut stream).await.event.unwrap() {
            Event::Approved(header) => seen.0 = header.height,
            Event::Final(header) => seen.1 = header.height,
            _ => {}
        }
        let beyond = seen.0 > approved || seen.1 > last_final;
        assert!(!beyond, "{seen:?}: {}", node.log());
    }
}

/// Waits until a node's tip is this one.
async fn until_tip(node: &TestNode, hash: &str) {
    let mut stream = follow(node).await;
    loop {
        let found = match next(&mut stream).await.event.unwrap() {
            Event::Start(header) => header.hash,
            Event::Connected(block) => block.header.unwrap().hash,
            _ => continue,
        };
        if found == hash {
            return;
        }
    }
}

/// What a node holds against validators.
pub(crate) async fn evidence(node: &TestNode) -> Vec<v1::Evidence> {
    let request = v1::ListEvidenceRequest::default();
    let listed = node.network().list_evidence(request).await;
    listed.unwrap().into_inner().evidence
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_checkpoint_becomes_final_and_clients_hear_of_it() {
    let network = voting();
    let (nodes, _dirs) = all(&network).await;
    let mut stream = follow(&nodes[1]).await;
    let txid = nodes[2].accept(&network.pay(0, 0, 5, PIT, FEE)).await;
    let request = v1::WatchTransactionRequest {
        txid: txid.clone(),
        ..Default::default()
    };
    let watched = nodes[2].transactions().watch_transaction(request).await;
    let mut watched = watched.unwrap().into_inner();
    until(&nodes[0], "the payment arrives", async || {
        let request = v1::GetTransactionRequest { txid: txid.clone() };
        nodes[0].chain().get_transaction(request).await.ok()
    })
    .await;
    let hashes = mine_to_final(&network, &nodes, 4).await;
    let info = nodes[3].info().await;
    assert_eq!((info.approved_lag, info.final_lag), (0, 1));
    assert_eq!(
        (info.approved_hash, info.final_hash),
        (hashes[4].clone(), hashes[3].clone())
    );
    assert!(!info.finality_conflict);

    // The stream told of each block, of each approval, and of each final block.
    let (mut approved, mut last_final) = (Vec::new(), Vec::new());
    while last_final.last() != Some(&3) {
        match next(&mut stream).await.event.unwrap() {
            Event::Approved(header) => approved.push(header.height),
            Event::Final(header) => last_final.push(header.height),
            _ => {}
        }
    }
    assert_eq!(approved, [0, 1, 2, 3, 4]);
    assert_eq!(last_final, [0, 1, 2, 3]);
    // The payment's stream ends once the payment is final.
    let mut states = Vec::new();
    while let Some(step) = watched.message().await.unwrap() {
        let state = step.status.unwrap().state();
        if states.last() != Some(&state) {
            states.push(state);
        }
    }
    use v1::TransactionState as State;
    assert_eq!(states.first(), Some(&State::Pending));
    assert_eq!(states.last(), Some(&State::Final), "the stream ends there");
}

/// Mines blocks one by one, each approved at every node before the next one; returns the
/// hashes of the chain, the genesis first.
async fn mine_to_final(network: &Network, nodes: &[TestNode], count: u64) -> Vec<String> {
    let mut hashes = vec![network.hash().to_string()];
    for height in 1..=count {
        hashes.push(nodes[0].mine(network, 1).await);
        for node in nodes {
            until_secured(node, height, height - 1).await;
        }
    }
    hashes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_and_validators_show_the_votes_that_were_cast() {
    let network = voting();
    let (nodes, _dirs) = all(&network).await;
    let hashes = mine_to_final(&network, &nodes, 4).await;

    // A block shows the approvals that it has.
    let by_tag = |tag: v1::BlockTag| v1::GetBlockRequest {
        block: Some(v1::get_block_request::Block::Tag(tag.into())),
        ..Default::default()
    };
    for (tag, height, finality) in [
        (v1::BlockTag::Head, 4, v1::Finality::Approved),
        (v1::BlockTag::Approved, 4, v1::Finality::Approved),
        (v1::BlockTag::Final, 3, v1::Finality::Final),
    ] {
        let block = nodes[1].chain().get_block(by_tag(tag)).await.unwrap();
        let block = block.into_inner().block.unwrap();
        assert_eq!(block.header.as_ref().unwrap().height, height);
        assert_eq!(block.finality(), finality);
        assert!(block.approvals.len() >= QUORUM as usize);
    }
    let request = v1::ListApprovalsRequest {
        checkpoint: Some(v1::list_approvals_request::Checkpoint::Height(2)),
    };
    let listed = nodes[0].chain().list_approvals(request).await.unwrap();
    let listed = listed.into_inner();
    assert_eq!(listed.finality(), v1::Finality::Final);
    assert_eq!(listed.approval_quorum, QUORUM);
    assert!(!listed.certificate.is_empty());
    for approval in &listed.approvals {
        assert_eq!((approval.source_height, approval.target_height), (1, 2));
        assert_eq!(approval.target_hash, hashes[2]);
        assert_eq!(approval.signature.len(), 256);
    }

    // Each validator shows its own votes, and nothing is held against any of them.
    let mut client = nodes[2].network();
    let listed = client.list_validators(v1::ListValidatorsRequest {}).await;
    let validators = listed.unwrap().into_inner().validators;
    for (index, validator) in validators.iter().enumerate() {
        assert_eq!(validator.address, network.address(index));
        assert!(validator.last_approval.as_ref().unwrap().target_height >= 3);
        assert_eq!(validator.recent_checkpoints, 4);
        assert_eq!(validator.evidence_count, 0);
        assert_eq!(validator.is_this_node, index == 2);
    }
    assert!(evidence(&nodes[2]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finality_waits_for_a_quorum_and_goes_on() {
    let network = voting();
    let (mut nodes, dirs) = all(&network).await;
    let bootnode = nodes[0].listen_address().await;
    nodes[0].mine(&network, 2).await;
    until_secured(&nodes[1], 2, 1).await;
    // One of four may be missing.
    nodes.pop().unwrap().kill();
    nodes[0].mine(&network, 1).await;
    until_secured(&nodes[1], 3, 2).await;
    // Without two of four there is no quorum: the chain goes on, finality waits.
    nodes.pop().unwrap().kill();
    let tip = nodes[0].mine(&network, 2).await;
    until_tip(&nodes[1], &tip).await;
    let info = nodes[1].info().await;
    assert_eq!((info.approved_height, info.final_height), (3, 2));
    assert_eq!((info.approved_lag, info.final_lag), (2, 3));
    // One comes back with its record.
    nodes.push(start(&network, dirs[2].path(), 2, Some(&bootnode)));
    until(&nodes[1], "votes are made up for", async || {
        (nodes[1].info().await.approved_height == 5).then_some(())
    })
    .await;
    nodes[0].mine(&network, 1).await;
    for node in &nodes {
        until_secured(node, 6, 5).await;
    }
    // A node without a validator that joins late gets the certificates, too.
    let late_dir = data_dir();
    let flags = ["--listen", "/ip4/127.0.0.1/tcp/0", "--bootnode", &bootnode];
    let late = TestNode::start_with(&network, late_dir.path(), &flags);
    until_secured(&late, 6, 5).await;
    // It has them after a restart without peers.
    assert!(late.terminate().await.success());
    let late = TestNode::start(&network, late_dir.path());
    let info = late.info().await;
    assert_eq!((info.approved_height, info.final_height), (6, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_work_does_not_rewrite_what_is_final() {
    let network = voting();
    let (nodes, _dirs) = all(&network).await;
    nodes[0].mine(&network, 3).await;
    for node in &nodes {
        until_secured(node, 3, 2).await;
    }
    let before = nodes[1].info().await.tip.unwrap();
    // An attacker with more hash power than all others mines in secret.
    let dir = data_dir();
    let attacker = TestNode::start(&network, dir.path());
    let mut secret = Vec::new();
    for _ in 0..20 {
        let block = attacker.next_block(&key(6).address, &network).await;
        attacker.extend(&block).await;
        secret.push(block);
    }
    // An honest node gets all of that chain, and knows that it has more work.
    for (height, block) in (1..).zip(&secret) {
        let response = nodes[1].submit_block(block).await;
        let side = v1::SubmitOutcome::AcceptedSide;
        assert_eq!(response.outcome(), side, "{height}: {}", response.detail);
    }
    let last = secret.last().unwrap().header.hash().to_string();
    let request = v1::GetBlockRequest {
        block: Some(v1::get_block_request::Block::Hash(last)),
        ..Default::default()
    };
    let seen = nodes[1].chain().get_block(request).await.unwrap();
    let seen = seen.into_inner().block.unwrap();
    assert!(!seen.best_chain);
    let seen = seen.header.unwrap();
    assert!(seen.height > before.height && seen.chain_work > before.chain_work);
    let info = nodes[1].info().await;
    assert_eq!(info.tip.unwrap().hash, before.hash);
    assert_eq!((info.approved_height, info.final_height), (3, 2));

    assert!(attacker.terminate().await.success());
    let bootnode = nodes[0].listen_address().await;
    let flags = ["--listen", "/ip4/127.0.0.1/tcp/0", "--bootnode", &bootnode];
    let attacker = TestNode::start_with(&network, dir.path(), &flags);
    // The attacker's node gets the certificates and leaves its own chain. The others stay on theirs.
    until_secured(&attacker, 3, 2).await;
    let tip = nodes[0].mine(&network, 1).await;
    for node in nodes.iter().chain([&attacker]) {
        until_secured(node, 4, 3).await;
        until_tip(node, &tip).await;
    }
}

#[tokio::test]
async fn without_validators_the_rule_is_off() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    node.mine(&network, 2).await;
    let info = node.info().await;
    assert_eq!((info.approved_height, info.final_height), (0, 0));
    assert_eq!(info.final_hash, network.hash().to_string());
    let block = node.chain().get_block(v1::GetBlockRequest::default()).await;
    let block = block.unwrap().into_inner().block.unwrap();
    assert_eq!(block.finality(), v1::Finality::Unspecified);
    let mut chain = node.chain();
    let request = v1::ListApprovalsRequest {
        checkpoint: Some(v1::list_approvals_request::Checkpoint::Height(9)),
    };
    let status = chain.list_approvals(request).await.unwrap_err();
    assert_eq!(reason(&status), "BLOCK_NOT_FOUND");
}
