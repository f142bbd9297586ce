//! Validators as processes: what is approved and final between real nodes, and
//! what operators of one see.

#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_consensus::genesis::ValidatorEntry;
use support::{
    FEE, Network, PATIENCE, PIT, TestNode, data_dir, failure_of, key, next, program, reason,
    run_to_end,
};
use tempfile::TempDir;

/// Validators of the test network.
const VALIDATORS: usize = 4;
/// Any two quorums share two.
const QUORUM: u32 = 3;

fn voting() -> Network {
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

fn key_file(dir: &Path, index: usize) -> PathBuf {
    let path = dir.join("validator.pem");
    std::fs::write(&path, key(index).pem).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Starts a validator; the first time it makes its vote record.
fn start(network: &Network, dir: &Path, index: usize, bootnode: Option<&str>) -> TestNode {
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

async fn address(node: &TestNode) -> String {
    let mut network = node.network();
    let info = network.get_node_info(v1::GetNodeInfoRequest {}).await;
    info.unwrap().into_inner().listen_addresses.remove(0)
}

/// All validators, connected.
async fn all(network: &Network) -> (Vec<TestNode>, Vec<TempDir>) {
    let dirs: Vec<TempDir> = (0..VALIDATORS).map(|_| data_dir()).collect();
    let mut nodes = vec![start(network, dirs[0].path(), 0, None)];
    let bootnode = address(&nodes[0]).await;
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

async fn until<T>(node: &TestNode, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: {}", node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a node has these heights approved and final.
async fn until_secured(node: &TestNode, approved: u64, last_final: u64) {
    let what = format!("{approved} is approved and {last_final} final");
    until(node, &what, async || {
        let info = node.info().await;
        (info.approved_height == approved && info.final_height == last_final).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_checkpoint_becomes_final_and_clients_hear_of_it() {
    let network = voting();
    let (nodes, _dirs) = all(&network).await;
    let request = v1::SubscribeChainRequest {
        view: v1::BlockView::Header.into(),
        ..Default::default()
    };
    let subscribed = nodes[1].chain().subscribe_chain(request).await;
    let mut stream = subscribed.unwrap().into_inner();
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
    let mut hashes = vec![network.hash().to_string()];
    for height in 1..=4_u64 {
        hashes.push(nodes[0].mine(&network, 1).await);
        for node in &nodes {
            until_secured(node, height, height - 1).await;
        }
    }
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
    // And so did the payment's.
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

    // A block shows who approved it.
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
    let request = v1::ListEvidenceRequest::default();
    let evidence = client.list_evidence(request).await;
    assert!(evidence.unwrap().into_inner().evidence.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finality_waits_for_a_quorum_and_goes_on() {
    let network = voting();
    let (mut nodes, dirs) = all(&network).await;
    let bootnode = address(&nodes[0]).await;
    nodes[0].mine(&network, 2).await;
    until_secured(&nodes[1], 2, 1).await;
    // One of four may be missing.
    nodes.pop().unwrap().kill();
    nodes[0].mine(&network, 1).await;
    until_secured(&nodes[1], 3, 2).await;
    // Two are too many: the chain goes on, finality waits.
    nodes.pop().unwrap().kill();
    let tip = nodes[0].mine(&network, 2).await;
    until(&nodes[1], "the chain goes on", async || {
        (nodes[1].info().await.tip.unwrap().hash == tip).then_some(())
    })
    .await;
    let info = nodes[1].info().await;
    assert_eq!((info.approved_height, info.final_height), (3, 2));
    assert_eq!((info.approved_lag, info.final_lag), (2, 3));
    // One comes back, on its record.
    nodes.push(start(&network, dirs[2].path(), 2, Some(&bootnode)));
    until(&nodes[1], "votes are made up for", async || {
        (nodes[1].info().await.approved_height == 5).then_some(())
    })
    .await;
    nodes[0].mine(&network, 1).await;
    for node in &nodes {
        until_secured(node, 6, 5).await;
    }
    // A node that votes not at all, and comes late, has it too.
    let late_dir = data_dir();
    let flags = ["--listen", "/ip4/127.0.0.1/tcp/0", "--bootnode", &bootnode];
    let late = TestNode::start_with(&network, late_dir.path(), &flags);
    until_secured(&late, 6, 5).await;
    // And after a restart without anyone to ask.
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
    until_secured(&nodes[0], 3, 2).await;
    // An attacker with more hash power than everyone mines in secret.
    let dir = data_dir();
    let attacker = TestNode::start(&network, dir.path());
    attacker.mine(&network, 20).await;
    assert!(attacker.terminate().await.success());
    let bootnode = address(&nodes[0]).await;
    let flags = ["--listen", "/ip4/127.0.0.1/tcp/0", "--bootnode", &bootnode];
    let attacker = TestNode::start_with(&network, dir.path(), &flags);
    // It hears of the certificates and gives its own chain up, and nobody theirs.
    until_secured(&attacker, 3, 2).await;
    let tip = nodes[0].mine(&network, 1).await;
    for node in nodes.iter().chain([&attacker]) {
        until_secured(node, 4, 3).await;
        until(node, "the tip follows", async || {
            (node.info().await.tip.unwrap().hash == tip).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_needs_its_record_and_can_move_with_it() {
    let network = voting();
    let (first_dir, second_dir) = (data_dir(), data_dir());
    let command = |dir: &Path, flags: &[&str]| {
        let mut command = program();
        command.arg("--genesis").arg(network.path());
        command.arg("--data-dir").arg(dir);
        command.args(["--rpc-listen", "127.0.0.1:0", "--offline"]);
        command.args(flags);
        command
    };
    let path = key_file(first_dir.path(), 0);
    let path = path.to_str().unwrap();
    let said = failure_of(&mut command(first_dir.path(), &["--validator-key", path]));
    for part in ["no vote record", "votes import", "--init-vote-record"] {
        assert!(said.contains(part), "{said}");
    }
    let node = start(&network, first_dir.path(), 0, None);
    assert!(
        node.log().contains("made an empty vote record"),
        "{}",
        node.log()
    );
    node.mine(&network, 3).await;
    until(&node, "it has voted for all", async || {
        let request = v1::ListValidatorsRequest {};
        let listed = node.network().list_validators(request).await;
        let validators = listed.unwrap().into_inner().validators;
        let last = validators[0].last_approval.as_ref()?;
        (last.target_height == 3).then_some(())
    })
    .await;
    // Its votes are on record; export waits until nobody is at it.
    let export = first_dir.path().join("votes.txt");
    let votes = |dir: &Path, what: &str, file: &Path| {
        let mut command = command(dir, &["votes", what]);
        command.arg(file);
        command
    };
    let said = failure_of(&mut votes(first_dir.path(), "export", &export));
    assert!(said.contains("in use"), "{said}");
    assert!(node.terminate().await.success());
    let again = ["--validator-key", path, "--init-vote-record"];
    let said = failure_of(&mut command(first_dir.path(), &again));
    assert!(said.contains("already"), "{said}");
    let output = run_to_end(&mut votes(first_dir.path(), "export", &export));
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("exported 3 votes"));
    for count in ["3 of 3", "0 of 3"] {
        let output = run_to_end(&mut votes(second_dir.path(), "import", &export));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            said.contains(count),
            "{said} {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let moved = start(&network, second_dir.path(), 0, None);
    assert!(moved.log().contains("votes=3"), "{}", moved.log());
    // The record is of this key, on this chain.
    let other = key_file(first_dir.path(), 1);
    let other = other.to_str().unwrap();
    let said = failure_of(&mut command(first_dir.path(), &["--validator-key", other]));
    assert!(said.contains("is of the validator"), "{said}");
    let stranger = key_file(first_dir.path(), 7);
    let flags = ["--validator-key", stranger.to_str().unwrap()];
    let said = failure_of(&mut command(first_dir.path(), &flags));
    assert!(said.contains("not among the 4 validators"), "{said}");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = failure_of(&mut command(first_dir.path(), &["--validator-key", path]));
    assert!(said.contains("chmod 600"), "{said}");
    // Damage in the middle is never taken for a torn end.
    let log = second_dir.path().join("votes.log");
    drop(moved);
    let sound = std::fs::read(&log).unwrap();
    let mut damaged = sound.clone();
    damaged[100] ^= 1;
    std::fs::write(&log, &damaged).unwrap();
    let path = key_file(second_dir.path(), 0);
    let flags = ["--validator-key", path.to_str().unwrap()];
    let said = failure_of(&mut command(second_dir.path(), &flags));
    assert!(said.contains("damaged at vote 1"), "{said}");
    std::fs::write(&log, sound).unwrap();
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
