//! A validator never contradicts its earlier votes: it starts only with its vote record, moves
//! with it, refuses a damaged or an old copy, and votes on rightly after it was killed while it
//! voted.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_consensus::VoteRecord;
use pithead_node::validator::journal::{self, RecordOwner};
use pithead_testkit::key;
use pithead_testkit::process::{
    Network, PATIENCE, TestNode, bare_node_command, data_dir, failure_of, next, node_command,
    run_to_end, until_settled,
};

use super::validators::{
    VALIDATORS, all, evidence, follow, key_file, start, until, until_secured, voting,
};

/// The program on a network and a folder, offline, with more flags.
fn offline(network: &Network, dir: &Path, flags: &[&str]) -> Command {
    let mut command = node_command(network, dir);
    command.args(flags);
    command
}

fn votes(network: &Network, dir: &Path, what: &str, file: &Path) -> Command {
    let mut command = offline(network, dir, &["votes", what]);
    command.arg(file);
    command
}

/// Runs a command that has to succeed; returns its standard output.
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
    node.until_logged("made an empty vote record").await;
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
    moved.until_logged("votes=3").await;
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
    // It may not repair below a height that the record shows a vote for.
    let said = failure_of(&mut repair("2"));
    assert!(said.contains("has height 3"), "{said}");
    assert_eq!(std::fs::read(&log).unwrap(), damaged);
    let said = said_by(&mut repair("5"));
    assert!(said.contains("votes only above height 5"), "{said}");
    let kept = std::fs::read(dir.path().join("votes.log.damaged"));
    assert_eq!(kept.unwrap(), damaged);
    let node = start(&network, dir.path(), 0, None);
    // No block from height 5 on is approved, so it casts no vote.
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
    let bootnode = nodes[0].listen_address().await;
    // One of four is away, so that every certificate needs the votes of all others.
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
    // A certificate holds its vote. It shows that a new record is wrong for this key, and that a
    // copy of the record is old.
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
    // Another machine has no such certificates, but gets them from its peers.
    let copy = data_dir();
    let path = key_file(copy.path(), last);
    let mut command = bare_node_command(&network, copy.path());
    command.args(["--mdns=false", "--upnp=false"]);
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
    let bootnode = nodes[0].listen_address().await;
    // One of four stays away, so that finality needs the one that is killed.
    nodes.remove(2).kill();
    let dir = dirs[VALIDATORS - 1].path();
    let mut victim = nodes.pop().unwrap();
    for round in 0..ROUNDS {
        let blocks = nodes[0].mine(&network, 3);
        let mut stream = follow(&victim).await;
        // The kill comes while it votes for the first, the second or the third block, at a
        // different moment each time.
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
        // A kill in the middle of a write leaves part of a vote, as is added here.
        let log = dir.join("votes.log");
        let mut bytes = std::fs::read(&log).unwrap();
        let half = usize::try_from(scatter(round + 100) % 127 + 1).unwrap();
        let written = vec![0x5a; half];
        bytes.extend(written);
        std::fs::write(&log, bytes).unwrap();
        victim = start(&network, dir, VALIDATORS - 1, Some(&bootnode));
        victim.until_logged("ends in a torn vote").await;
    }
    // It votes on from where it was, and finality advances again.
    let height = nodes[0].height().await;
    until(&nodes[1], "its votes are made up for", async || {
        // The others may have voted for the last block from an older checkpoint than it does.
        // That block may stay unapproved; all vote alike for the next one.
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
