//! Validators as processes: what is approved and final between real nodes, and
//! what operators of one see.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_consensus::VoteRecord;
use pithead_consensus::genesis::ValidatorEntry;
use pithead_node::validator::journal::{self, RecordOwner};
use pithead_testkit::process::{
    Network, PATIENCE, TestNode, data_dir, failure_of, next, program, reason, run_to_end,
    until_settled,
};
use pithead_testkit::{FEE, PIT, key};
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
    node.node_info().await.listen_addresses.remove(0)
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

async fn until<T>(node: &TestNode, what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    node.until(what, look).await
}

/// Follows a node's chain from its tip, headers only.
async fn follow(node: &TestNode) -> tonic::Streaming<v1::SubscribeChainResponse> {
    let request = v1::SubscribeChainRequest {
        view: v1::BlockView::Header.into(),
        ..Default::default()
    };
    let subscribed = node.chain().subscribe_chain(request).await;
    subscribed.unwrap().into_inner()
}

/// Waits until a node has these heights approved and final.
async fn until_secured(node: &TestNode, approved: u64, last_final: u64) {
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
async fn evidence(node: &TestNode) -> Vec<v1::Evidence> {
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
    until_tip(&nodes[1], &tip).await;
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
    for node in &nodes {
        until_secured(node, 3, 2).await;
    }
    let before = nodes[1].info().await.tip.unwrap();
    // An attacker with more hash power than everyone mines in secret.
    let dir = data_dir();
    let attacker = TestNode::start(&network, dir.path());
    let mut secret = Vec::new();
    for _ in 0..20 {
        let block = attacker.next_block(&key(6).address, &network).await;
        attacker.extend(&block).await;
        secret.push(block);
    }
    // Honest nodes get to see all of it, and know that it has more work.
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
    let bootnode = address(&nodes[0]).await;
    let flags = ["--listen", "/ip4/127.0.0.1/tcp/0", "--bootnode", &bootnode];
    let attacker = TestNode::start_with(&network, dir.path(), &flags);
    // It hears of the certificates and gives its own chain up, and nobody theirs.
    until_secured(&attacker, 3, 2).await;
    let tip = nodes[0].mine(&network, 1).await;
    for node in nodes.iter().chain([&attacker]) {
        until_secured(node, 4, 3).await;
        until_tip(node, &tip).await;
    }
}

/// The program on a network and a folder, keeping to itself.
fn offline(network: &Network, dir: &Path, flags: &[&str]) -> Command {
    let mut command = program();
    command.arg("--genesis").arg(network.path());
    command.arg("--data-dir").arg(dir);
    command.args(["--rpc-listen", "127.0.0.1:0", "--offline"]);
    command.args(flags);
    command
}

fn votes(network: &Network, dir: &Path, what: &str, file: &Path) -> Command {
    let mut command = offline(network, dir, &["votes", what]);
    command.arg(file);
    command
}

/// What a command says that has to succeed.
fn said_by(command: &mut Command) -> String {
    let output = run_to_end(command);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until a validator's own last vote is for this height.
async fn until_voted(node: &TestNode, index: usize, height: u64) {
    until(node, "it votes", async || {
        let request = v1::ListValidatorsRequest {};
        let listed = node.network().list_validators(request).await;
        let validators = listed.unwrap().into_inner().validators;
        let last = validators[index].last_approval.as_ref()?;
        (last.target_height == height).then_some(())
    })
    .await;
}

/// Lets a validator vote for the first blocks of a chain that it mines alone, and ends it.
async fn vote_and_end(network: &Network, dir: &Path, index: usize, blocks: u64) {
    let node = start(network, dir, index, None);
    node.mine(network, usize::try_from(blocks).unwrap()).await;
    until_voted(&node, index, blocks).await;
    assert!(node.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_votes_only_with_its_record_and_in_one_place() {
    let network = voting();
    let dir = data_dir();
    let dir = dir.path();
    let path = key_file(dir, 0);
    let path = path.to_str().unwrap();
    let said = failure_of(&mut offline(&network, dir, &["--validator-key", path]));
    for part in ["no vote record", "votes import", "--init-vote-record"] {
        assert!(said.contains(part), "{said}");
    }
    let node = start(&network, dir, 0, None);
    assert!(
        node.log().contains("made an empty vote record"),
        "{}",
        node.log()
    );
    node.mine(&network, 3).await;
    until_voted(&node, 0, 3).await;
    // Its votes are on record, but while it runs they can't be exported.
    let export = dir.join("votes.txt");
    let said = failure_of(&mut votes(&network, dir, "export", &export));
    assert!(said.contains("in use"), "{said}");
    assert!(!export.exists());
    // Nor does another data directory vote with this key.
    let flags = ["--validator-key", path, "--init-vote-record"];
    let other = data_dir();
    let said = failure_of(&mut offline(&network, other.path(), &flags));
    assert!(said.contains("votes in one place only"), "{said}");
    assert!(node.terminate().await.success());
    let said = failure_of(&mut offline(&network, dir, &flags));
    assert!(said.contains("already"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_moves_to_another_machine_with_its_record() {
    let network = voting();
    let (first_dir, second_dir) = (data_dir(), data_dir());
    let (first, second) = (first_dir.path(), second_dir.path());
    vote_and_end(&network, first, 0, 3).await;
    let export = first.join("votes.txt");
    let said = said_by(&mut votes(&network, first, "export", &export));
    assert!(
        said.contains("exported 3 votes up to height 3 of dpit1"),
        "{said}"
    );
    // The copy that is left behind votes no more.
    let path = key_file(first, 0);
    let flags = [
        "--validator-key",
        path.to_str().unwrap(),
        "--init-vote-record",
    ];
    for init in [&flags[..2], &flags] {
        let said = failure_of(&mut offline(&network, first, init));
        assert!(said.contains("was moved away"), "{said}");
        assert!(said.contains("votes import"), "{said}");
    }
    for count in ["3 of 3", "0 of 3"] {
        let said = said_by(&mut votes(&network, second, "import", &export));
        assert!(said.contains(count), "{said}");
    }
    let moved = start(&network, second, 0, None);
    assert!(moved.log().contains("votes=3"), "{}", moved.log());
    // It votes on there; the first copy may only return with that record.
    moved.mine(&network, 4).await;
    until_voted(&moved, 0, 4).await;
    assert!(moved.terminate().await.success());
    let later = second.join("later.txt");
    said_by(&mut votes(&network, second, "export", &later));
    let said = said_by(&mut votes(&network, second, "import", &later));
    assert!(said.contains("0 of 4"), "{said}");
    let later = second.join("latest.txt");
    said_by(&mut votes(&network, second, "export", &later));
    let said = failure_of(&mut votes(&network, second, "import", &export));
    assert!(said.contains("at least as new"), "{said}");
    said_by(&mut votes(&network, first, "import", &later));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_serves_one_validator_of_one_network() {
    let network = voting();
    let dir = data_dir();
    let dir = dir.path();
    vote_and_end(&network, dir, 0, 1).await;
    let other = key_file(dir, 1);
    let flags = ["--validator-key", other.to_str().unwrap()];
    let said = failure_of(&mut offline(&network, dir, &flags));
    let named = format!("is of the validator {}", network.address(0));
    assert!(said.contains(&named), "{said}");
    let stranger = key_file(dir, 7);
    let flags = ["--validator-key", stranger.to_str().unwrap()];
    let said = failure_of(&mut offline(&network, dir, &flags));
    assert!(said.contains("not among the 4 validators"), "{said}");
    let owner = RecordOwner {
        genesis: network.hash(),
        validator: key(7).address,
    };
    let export = dir.join("votes.txt");
    std::fs::write(&export, journal::export(&owner, &VoteRecord::default())).unwrap();
    let empty = data_dir();
    let said = failure_of(&mut votes(&network, empty.path(), "import", &export));
    assert!(said.contains("not among the 4 validators"), "{said}");
    // A key file that others can read is refused, whatever is in it.
    std::fs::set_permissions(&stranger, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = failure_of(&mut offline(&network, dir, &flags));
    assert!(said.contains("chmod 600"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_record_is_refused_and_can_begin_anew() {
    let network = voting();
    let dir = data_dir();
    vote_and_end(&network, dir.path(), 0, 3).await;
    let log = dir.path().join("votes.log");
    let mut damaged = std::fs::read(&log).unwrap();
    let end = damaged.len() - 1;
    damaged[end] ^= 1;
    std::fs::write(&log, &damaged).unwrap();
    let path = key_file(dir.path(), 0);
    let flags = ["--validator-key", path.to_str().unwrap()];
    let said = failure_of(&mut offline(&network, dir.path(), &flags));
    assert!(said.contains("damaged at vote 3"), "{said}");
    assert!(said.contains("votes repair --above HEIGHT"), "{said}");
    let repair = |above: &str| {
        let mut command = offline(&network, dir.path(), &flags);
        command.args(["votes", "repair", "--above", above]);
        command
    };
    // Not below what may have been voted for.
    let said = failure_of(&mut repair("2"));
    assert!(said.contains("has height 3"), "{said}");
    assert_eq!(std::fs::read(&log).unwrap(), damaged);
    let said = said_by(&mut repair("5"));
    assert!(said.contains("votes only above height 5"), "{said}");
    let kept = std::fs::read(dir.path().join("votes.log.damaged"));
    assert_eq!(kept.unwrap(), damaged);
    let node = start(&network, dir.path(), 0, None);
    // Nobody has approved block 5 or a higher one: it waits.
    node.mine(&network, 5).await;
    assert_eq!(node.height().await, 8);
    assert!(node.terminate().await.success());
    let said = said_by(&mut votes(
        &network,
        dir.path(),
        "export",
        &dir.path().join("votes.txt"),
    ));
    assert!(said.contains("0 votes up to height 5"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_has_voted_elsewhere_does_not_vote_again() {
    let network = voting();
    let (mut nodes, dirs) = all(&network).await;
    let bootnode = address(&nodes[0]).await;
    // One is away, so that every certificate holds a vote of each of the others.
    nodes.remove(2).kill();
    let last = VALIDATORS - 1;
    nodes[0].mine(&network, 2).await;
    for node in &nodes {
        until_secured(node, 2, 1).await;
    }
    assert!(nodes.pop().unwrap().terminate().await.success());
    let dir = dirs[last].path();
    let log = dir.join("votes.log");
    let old = std::fs::read(&log).unwrap();
    let node = start(&network, dir, last, Some(&bootnode));
    nodes[0].mine(&network, 2).await;
    until_secured(&node, 4, 3).await;
    assert!(node.terminate().await.success());
    // A certificate holds its vote: it shows that a copy of the record is old,
    // and that a key is not new.
    let newest = std::fs::read(&log).unwrap();
    let path = key_file(dir, last);
    let flags = [
        "--validator-key",
        path.to_str().unwrap(),
        "--init-vote-record",
    ];
    std::fs::remove_file(&log).unwrap();
    let said = failure_of(&mut offline(&network, dir, &flags));
    assert!(said.contains("has voted before"), "{said}");
    assert!(!log.exists());
    std::fs::write(&log, old).unwrap();
    let said = run_to_end(&mut offline(&network, dir, &flags[..2]));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("is an old copy"), "{said}");
    std::fs::write(&log, newest).unwrap();
    // Another machine has none of these certificates, but hears of them.
    let copy = data_dir();
    let path = key_file(copy.path(), last);
    let mut command = program();
    command.arg("--genesis").arg(network.path());
    command.arg("--data-dir").arg(copy.path());
    command.args([
        "--rpc-listen",
        "127.0.0.1:0",
        "--mdns=false",
        "--upnp=false",
    ]);
    command.args(["--listen", "/ip4/127.0.0.1/tcp/0", "--bootnode", &bootnode]);
    command.arg("--validator-key").arg(&path);
    let said = failure_of(command.arg("--init-vote-record"));
    assert!(
        said.contains("ALARM: this validator's key votes elsewhere too"),
        "{said}"
    );
    let flags = ["--validator-key", path.to_str().unwrap()];
    let said = failure_of(&mut offline(&network, copy.path(), &flags));
    assert!(said.contains("was moved away"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_that_is_killed_while_it_votes_never_votes_twice() {
    const ROUNDS: u64 = 8;
    let network = voting();
    let (mut nodes, dirs) = all(&network).await;
    let bootnode = address(&nodes[0]).await;
    // One is away for good: finality needs the one that is killed.
    nodes.remove(2).kill();
    let dir = dirs[VALIDATORS - 1].path();
    let mut victim = nodes.pop().unwrap();
    let mut torn = 0;
    for round in 0..ROUNDS {
        let blocks = nodes[0].mine(&network, 3);
        let mut stream = follow(&victim).await;
        // As it votes for the first, the second or the third, each time elsewhere.
        let killed = async {
            let mut left = round % 3 + 1;
            while left > 0 {
                let event = next(&mut stream).await.event;
                left -= u64::from(matches!(event, Some(Event::Connected(_))));
            }
            tokio::time::sleep(Duration::from_micros(scatter(round) % 4_000)).await;
            victim.kill();
        };
        tokio::join!(blocks, killed);
        // The kill may have come in the middle of a write.
        let log = dir.join("votes.log");
        let mut bytes = std::fs::read(&log).unwrap();
        let half = usize::try_from(scatter(round + 100) % 127 + 1).unwrap();
        let written = vec![0x5a; half];
        bytes.extend(written);
        std::fs::write(&log, bytes).unwrap();
        victim = start(&network, dir, VALIDATORS - 1, Some(&bootnode));
        torn += usize::from(victim.log().contains("ends in a torn vote"));
    }
    assert_eq!(torn, usize::try_from(ROUNDS).unwrap());
    // It goes on where it was, and finality with it.
    let height = nodes[0].height().await;
    until(&nodes[1], "its votes are made up for", async || {
        // The others may have voted for the last one from further below than it does,
        // once the one before is approved: the next block is for all then.
        (nodes[1].info().await.approved_height + 1 >= height).then_some(())
    })
    .await;
    nodes.push(victim);
    let all: Vec<&TestNode> = nodes.iter().collect();
    until_settled(&all, height, nodes.len(), PATIENCE).await;
    nodes[0].mine(&network, 1).await;
    for node in &nodes {
        until(node, "finality goes on", async || {
            (node.info().await.approved_height == height + 1).then_some(())
        })
        .await;
    }
    nodes[0].mine(&network, 1).await;
    for node in &nodes {
        until_secured(node, height + 2, height + 1).await;
    }
    for node in &nodes {
        assert!(evidence(node).await.is_empty());
        assert!(!node.log().contains("ALARM"), "{}", node.log());
    }
}

/// A number that looks random (a step of xorshift64*).
fn scatter(number: u64) -> u64 {
    let mixed = number
        .wrapping_add(0x9e37_79b9)
        .wrapping_mul(0x2545_f491_4f6c_dd1d);
    (mixed ^ (mixed >> 29)) >> 8
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
