//! What the command says of approvals, finality and evidence, against a fake
//! node; and that it believes no proof which it has not checked.
#![allow(clippy::unwrap_used)]

mod support;

use pithead_api::v1;
use pithead_api::v1::TransactionState;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_client::{EvidenceProblem, SavedProof, SigningKey};
use pithead_consensus::genesis::{GenesisFile, Network, ValidatorEntry};
use pithead_consensus::{
    Address, Approval, BlockHash, Certificate, Checkpoint, Encode as _, Genesis, Height, Link,
    SignedApproval, Validators,
};

use support::{FakeNode, block, failure, hash, json, pithead, stderr, stdout, wallets};

/// A fake node of a network with so many validators, all of whose keys there
/// are; checkpoints every 10 blocks.
async fn network(validators: usize, quorum: u32) -> (FakeNode, Vec<SigningKey>) {
    let node = FakeNode::start(Network::Dev).await;
    let keys: Vec<_> = (0..validators)
        .map(|_| SigningKey::generate().unwrap())
        .collect();
    let prefix = Network::Dev.genesis().unwrap().prefix;
    let mut state = node.state();
    let parameters = state.info.parameters.as_mut().unwrap();
    parameters.validator_count = u32::try_from(validators).unwrap();
    parameters.approval_quorum = quorum;
    parameters.checkpoint_interval = 10;
    state.info.approved_height = 30;
    state.info.approved_hash = hash(30, 'a');
    state.info.approved_lag = 12;
    state.info.final_height = 20;
    state.info.final_lag = 22;
    state.info.tip.as_mut().unwrap().height = 42;
    state.validators = v1::ListValidatorsResponse {
        validators: keys
            .iter()
            .map(|key| v1::Validator {
                address: key.address().to_text(&prefix),
                public_key: key.public_key().modulus().to_vec().into(),
                ..v1::Validator::default()
            })
            .collect(),
        approval_quorum: quorum,
    };
    drop(state);
    (node, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn validators_shows_who_is_heard_and_whether_finality_advances() {
    let (node, _) = network(4, 3).await;
    let folder = tempfile::tempdir().unwrap();
    let now = std::time::SystemTime::now();
    {
        let mut state = node.state();
        let ages = [Some((40, 100)), Some((30, 98)), Some((10, 7)), None];
        for (validator, seen) in state.validators.validators.iter_mut().zip(ages) {
            if let Some((target_height, recent)) = seen {
                validator.last_approval = Some(v1::Approval {
                    validator: validator.address.clone(),
                    target_height,
                    ..v1::Approval::default()
                });
                validator.last_approval_time = Some(now.into());
                validator.recent_approvals = recent;
                validator.recent_checkpoints = 100;
            }
        }
        state.validators.validators[0].is_this_node = true;
        state.validators.validators[2].evidence_count = 2;
    }
    let text = stdout(&pithead(&node.url, folder.path(), &["validators"]).await);
    for part in [
        "3 of 4 validators: any two quorums share 2 of them, and 1 may be away",
        "2 of 4 voted for one of the last 3 checkpoints or since the last that is approved",
        "silent",
        "30 (12 blocks behind the tip)",
        "20 (22 blocks behind the tip)",
        "advancing",
        "98/100",
        "never",
        "this node",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    node.state().info.approved_lag = 40;
    let text = stdout(&pithead(&node.url, folder.path(), &["validators"]).await);
    assert!(text.contains("waiting for approvals: 40 blocks"), "{text}");
    assert!(text.contains("3 approvals are needed"), "{text}");
    node.state().info.finality_conflict = true;
    let text = stdout(&pithead(&node.url, folder.path(), &["validators"]).await);
    assert!(
        text.contains("stopped: two certificates conflict"),
        "{text}"
    );
    let value = json(&pithead(&node.url, folder.path(), &["validators", "--json"]).await);
    assert_eq!(value["progress"], "stopped");
    assert_eq!(value["heard"], 2);
    assert_eq!(value["validators"][0]["last_approval"]["target_height"], 40);
    assert_eq!(value["validators"][2]["evidence_count"], 2);
    assert!(value["validators"][3]["last_approval"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_without_validators_says_so_plainly() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    for command in ["validators", "evidence", "chain", "block"] {
        let text = stdout(&pithead(&node.url, folder.path(), &[command]).await);
        assert!(text.contains("no validators"), "{command}: {text}");
    }
    let value = json(&pithead(&node.url, folder.path(), &["chain", "--json"]).await);
    assert_eq!(value["finality_progress"], "no_validators");
    assert!(value["blocks"][0]["finality"].is_null());
    // Nobody waits for ever, and nothing is sent first.
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "3");
    for wait in ["--wait=final", "--wait=approved"] {
        let args = ["send", "alice", "bob", "1", "--yes", wait];
        let text = failure(&pithead(&node.url, folder.path(), &args).await, 1);
        assert!(text.contains("no validators"), "{text}");
        assert!(text.contains("--wait=6"), "{text}");
    }
    assert!(node.state().submitted.is_empty());
    let args = ["tx", &"ab".repeat(32), "--wait=final"];
    let text = failure(&pithead(&node.url, folder.path(), &args).await, 1);
    assert!(text.contains("no validators"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_and_block_show_finality() {
    let (node, keys) = network(4, 3).await;
    let folder = tempfile::tempdir().unwrap();
    {
        let mut state = node.state();
        for (block, finality) in state.blocks.iter_mut().zip([
            v1::Finality::Final,
            v1::Finality::Approved,
            v1::Finality::Pending,
        ]) {
            block.finality = finality.into();
        }
        // The second stands for a checkpoint.
        state.blocks[1].header.as_mut().unwrap().height = 40;
        state.blocks[1].approvals = keys
            .iter()
            .take(3)
            .map(|key| v1::Approval {
                validator: key
                    .address()
                    .to_text(&Network::Dev.genesis().unwrap().prefix),
                source_height: 30,
                source_hash: hash(30, 'a'),
                ..v1::Approval::default()
            })
            .collect();
    }
    let text = stdout(&pithead(&node.url, folder.path(), &["chain"]).await);
    for part in [
        "30 (12 blocks behind the tip)",
        "20 (22 blocks behind the tip)",
        "advancing",
        "pending",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let value = json(&pithead(&node.url, folder.path(), &["chain", "--json"]).await);
    assert_eq!(value["final_lag"], 22);
    assert_eq!(value["approved_hash"], hash(30, 'a'));
    assert_eq!(value["blocks"][2]["finality"], "final");

    let text = stdout(&pithead(&node.url, folder.path(), &["block", "1", "--approvals"]).await);
    assert!(
        text.contains("approved, 3 of 4 validators approved it, 3 needed"),
        "{text}"
    );
    assert_eq!(text.matches("dpit1").count(), 3 + 1, "{text}");
    let text = stdout(&pithead(&node.url, folder.path(), &["block", "2"]).await);
    assert!(
        text.contains("pending; the next checkpoint is 10"),
        "{text}"
    );
    let value = json(&pithead(&node.url, folder.path(), &["block", "1", "--json"]).await);
    assert_eq!(value["finality"], "approved");
    assert_eq!(value["approvals"][2]["source_height"], 30);
}

fn status(state: TransactionState, confirmations: u64) -> v1::TransactionStatus {
    v1::TransactionStatus {
        state: state.into(),
        block_hash: hash(3, 'a'),
        block_height: 3,
        confirmations,
        ..v1::TransactionStatus::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn send_waits_until_approved_or_final_and_no_longer() {
    use TransactionState::{Approved, Final, Mined, Pending};
    let (node, _) = network(4, 3).await;
    let folder = tempfile::tempdir().unwrap();
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "3");
    let steps = vec![
        status(Pending, 0),
        status(Mined, 2),
        status(Approved, 3),
        status(Final, 4),
    ];
    for (wait, state) in [
        ("--wait", "mined"),
        ("--wait=mined", "mined"),
        ("--wait=approved", "approved"),
        ("--wait=final", "final"),
        ("--wait=4", "final"),
    ] {
        node.state().watches.push_back(steps.clone());
        let args = ["send", "alice", "bob", "1", "--yes", "--json", wait];
        let value = json(&pithead(&node.url, folder.path(), &args).await);
        assert_eq!(value["status"]["state"], state, "{wait}");
    }
    // As people type it, before and after the payment.
    for words in [
        "send alice bob 1 --yes --json --wait final",
        "send --wait final alice bob 1 --yes --json",
        "send --yes --json --wait final alice bob=1",
    ] {
        node.state().watches.push_back(steps.clone());
        let args: Vec<&str> = words.split(' ').collect();
        let value = json(&pithead(&node.url, folder.path(), &args).await);
        assert_eq!(value["status"]["state"], "final", "{words}");
        assert_eq!(value["outputs"][0]["name"], "bob", "{words}");
    }
    let args = ["send", "alice", "bob", "1", "--yes", "--wait=sealed"];
    let text = failure(&pithead(&node.url, folder.path(), &args).await, 2);
    assert!(text.contains("expected mined, approved, final"), "{text}");

    let txid = "ab".repeat(32);
    let answer = v1::GetTransactionResponse {
        transaction: Some(v1::Transaction {
            txid: txid.clone(),
            ..v1::Transaction::default()
        }),
        status: Some(status(Final, 4)),
    };
    node.state().transactions.insert(txid.clone(), answer);
    let text = stdout(&pithead(&node.url, folder.path(), &["tx", &txid]).await);
    assert!(text.contains("final in block 3, 4 confirmations"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_tells_how_many_have_approved() {
    use TransactionState::{Approved, Final, Mined, Pending};
    let (node, _) = network(4, 3).await;
    let folder = tempfile::tempdir().unwrap();
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "3");
    {
        let mut state = node.state();
        let listed = |count| v1::ListApprovalsResponse {
            approvals: vec![v1::Approval::default(); count],
            approval_quorum: 3,
            ..v1::ListApprovalsResponse::default()
        };
        // Block 3 is secured by checkpoint 10, and final with 20. But votes passed over
        // both: the highest approved one is 30, and 40 is to come.
        state.info.final_height = 0;
        state.info.tip.as_mut().unwrap().height = 12;
        state.approvals.insert(10, listed(1));
        state.approvals.insert(30, listed(0));
        state.approvals.insert(40, listed(2));
        let steps = vec![status(Pending, 0), status(Mined, 2), status(Final, 4)];
        state.watches.push_back(steps);
    }
    let args = ["send", "alice", "bob", "1", "--yes", "--wait", "final"];
    let text = stderr(&pithead(&node.url, folder.path(), &args).await);
    let part = "waiting for approvals of block 10: 1 of 3";
    assert!(text.contains(part), "{part} in {text}");
    assert!(text.contains("\nfinal in block 3"), "{text}");
    // Where votes pass over it, what they go to is told.
    for state in [Mined, Approved] {
        node.state().info.tip.as_mut().unwrap().height = 42;
        let steps = vec![status(state, 3), status(Final, 4)];
        node.state().watches.push_back(steps);
        let text = stderr(&pithead(&node.url, folder.path(), &args).await);
        let part = "waiting for approvals of block 40: 2 of 3";
        assert!(text.contains(part), "{part} in {text}");
    }
    // The checkpoint may not be there yet.
    node.state().info.tip.as_mut().unwrap().height = 38;
    let steps = vec![status(Approved, 3), status(Final, 4)];
    node.state().watches.push_back(steps);
    let text = stderr(&pithead(&node.url, folder.path(), &args).await);
    let part = "waiting for block 40, the next checkpoint; the tip is 38";
    assert!(text.contains(part), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_finality_that_has_stopped() {
    use TransactionState::{Final, Mined};
    let (node, _) = network(4, 3).await;
    let folder = tempfile::tempdir().unwrap();
    let addresses = wallets(folder.path(), &["alice", "bob"]);
    node.fund(&addresses[0], "3");
    node.state().info.finality_conflict = true;
    for wait in ["--wait=final", "--wait=approved"] {
        let args = ["send", "alice", "bob", "1", "--yes", wait];
        let text = failure(&pithead(&node.url, folder.path(), &args).await, 1);
        assert!(text.contains("two certificates conflict"), "{text}");
        assert!(text.contains("pithead evidence"), "{text}");
    }
    assert!(node.state().submitted.is_empty());
    // Nor does who began before; but what is final stays so.
    let txid = "ab".repeat(32);
    let tx = ["tx", txid.as_str(), "--wait", "final"];
    node.state().watches.push_back(vec![status(Mined, 2)]);
    let text = failure(&pithead(&node.url, folder.path(), &tx).await, 1);
    assert!(text.contains("two certificates conflict"), "{text}");
    let answer = v1::GetTransactionResponse {
        transaction: Some(v1::Transaction::default()),
        status: Some(status(Final, 4)),
    };
    node.state().transactions.insert(txid.clone(), answer);
    node.state().watches.push_back(vec![status(Final, 4)]);
    let text = stdout(&pithead(&node.url, folder.path(), &tx).await);
    assert!(text.contains("final in block 3"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_tells_what_becomes_approved_and_final() {
    let (node, _) = network(4, 3).await;
    let folder = tempfile::tempdir().unwrap();
    let step = |event, height| v1::SubscribeChainResponse {
        event: Some(event),
        cursor: hash(height, 'a'),
        sent_time: None,
    };
    let header = |height| block(height, 'a', "").header.unwrap();
    let script = vec![
        step(Event::Start(header(2)), 2),
        step(Event::Approved(header(2)), 2),
        step(Event::Connected(block(3, 'a', "")), 3),
        step(Event::Final(header(1)), 3),
        step(Event::Connected(block(4, 'a', "")), 4),
    ];
    node.state().subscriptions.push_back(script.clone());
    let text = stdout(&pithead(&node.url, folder.path(), &["watch", "--count", "2"]).await);
    let line = |word: &str| text.lines().find(|line| line.starts_with(word)).unwrap();
    assert!(line("approved").ends_with("the tip"), "{text}");
    assert!(line("final").ends_with("2 blocks behind the tip"), "{text}");
    node.state().subscriptions.push_back(script);
    let args = ["watch", "--count", "2", "--json"];
    let text = stdout(&pithead(&node.url, folder.path(), &args).await);
    let events: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events[1]["event"], "approved");
    assert_eq!(events[3]["event"], "final");
    assert_eq!(events[3]["header"]["height"], 1);
}

fn link(source: (u64, u8), target: (u64, u8)) -> Link {
    let checkpoint = |(height, byte): (u64, u8)| Checkpoint {
        height: Height(height),
        hash: BlockHash([byte; 32]),
    };
    Link {
        source: checkpoint(source),
        target: checkpoint(target),
    }
}

fn approve(key: &SigningKey, link: Link, genesis: &BlockHash) -> SignedApproval {
    let approval = Approval {
        validator: key.address(),
        link,
    };
    SignedApproval {
        signature: key.sign(&approval.signing_message(genesis)).unwrap(),
        approval,
    }
}

/// A proof as a node serves it.
fn proof(
    kind: v1::EvidenceKind,
    validators: Vec<String>,
    first: Vec<u8>,
    second: Vec<u8>,
    [a, b]: [Link; 2],
) -> v1::Evidence {
    v1::Evidence {
        kind: kind.into(),
        validators,
        first: first.into(),
        second: second.into(),
        first_target_height: a.target.height.0,
        first_target_hash: a.target.hash.to_string(),
        second_target_height: b.target.height.0,
        second_target_hash: b.target.hash.to_string(),
        seen_time: Some(prost_types::Timestamp {
            seconds: 1_793_491_200,
            nanos: 0,
        }),
    }
}

/// The genesis of a network with these validators; checkpoints every 10 blocks.
fn genesis_file(keys: &[SigningKey], quorum: u32) -> GenesisFile {
    let prefix = Network::Dev.genesis().unwrap().prefix;
    GenesisFile {
        checkpoint_interval: 10,
        approval_quorum: quorum,
        validators: keys
            .iter()
            .map(|key| ValidatorEntry {
                address: key.address().to_text(&prefix),
                public_key: hex::encode(key.public_key().modulus()),
            })
            .collect(),
        ..Network::Dev.genesis_file()
    }
}

/// What checking a proof says once it is changed.
fn altered(
    proof: &SavedProof,
    genesis: &Genesis,
    change: impl FnOnce(&mut SavedProof),
) -> EvidenceProblem {
    let mut altered = proof.clone();
    change(&mut altered);
    altered.check(genesis).unwrap_err()
}

#[test]
fn a_proof_is_of_what_its_bytes_show_whatever_it_says() {
    let keys: Vec<_> = (0..4).map(|_| SigningKey::generate().unwrap()).collect();
    let genesis = genesis_file(&keys, 3).check().unwrap();
    let genesis_hash = genesis.params.genesis_hash;
    let text_of = |key: &SigningKey| key.address().to_text(&genesis.prefix);
    let (a, b) = (link((0, 0), (10, 1)), link((0, 0), (10, 2)));
    let vote = |link| hex::encode(approve(&keys[0], link, &genesis_hash).encode());
    let votes = SavedProof {
        network: genesis.name.clone(),
        genesis_hash: genesis_hash.to_string(),
        kind: "double_vote".to_owned(),
        validators: vec![text_of(&keys[0])],
        first_target_height: 10,
        first_target_hash: a.target.hash.to_string(),
        second_target_height: 10,
        second_target_hash: b.target.hash.to_string(),
        first_hex: vote(a),
        second_hex: vote(b),
        seen_time: None,
    };
    let validators = Validators::of_genesis(&genesis);
    let certificate = |keys: &[SigningKey], link| {
        let approvals = keys.iter().map(|key| approve(key, link, &genesis_hash));
        let approvals: Vec<_> = approvals.collect();
        let built = Certificate::build(&validators, &approvals).unwrap();
        hex::encode(built.encode())
    };
    // Two of four signed both; in which order they are named says nothing.
    let mut both = vec![text_of(&keys[1]), text_of(&keys[2])];
    both.sort();
    both.reverse();
    let certificates = SavedProof {
        kind: "conflicting_certificates".to_owned(),
        validators: both,
        first_hex: certificate(&keys[..3], a),
        second_hex: certificate(&keys[1..], b),
        ..votes.clone()
    };
    let stranger = text_of(&keys[3]);
    for proof in [&votes, &certificates] {
        assert_eq!(proof.check(&genesis), Ok(()));
        for (problem, part) in [
            (
                altered(proof, &genesis, |it| it.validators = vec![stranger.clone()]),
                stranger.as_str(),
            ),
            (
                altered(proof, &genesis, |it| it.validators.push(stranger.clone())),
                stranger.as_str(),
            ),
            (
                altered(proof, &genesis, |it| it.validators.clear()),
                "nobody",
            ),
            (
                altered(proof, &genesis, |it| it.first_target_height = 20),
                "at height 20",
            ),
            (
                altered(proof, &genesis, |it| it.second_target_height = 30),
                "at height 30",
            ),
            (
                altered(proof, &genesis, |it| {
                    it.first_target_hash = votes.second_target_hash.clone();
                }),
                votes.second_target_hash.as_str(),
            ),
            (
                altered(proof, &genesis, |it| {
                    it.second_target_hash = votes.first_target_hash.clone();
                }),
                votes.first_target_hash.as_str(),
            ),
        ] {
            let EvidenceProblem::Misnamed { named, shown } = &problem else {
                panic!("{part}: {problem}");
            };
            assert!(named.contains(part), "{part} in {named}");
            assert!(!shown.contains(part), "{part} in {shown}");
        }
    }
    let accusing = altered(&votes, &genesis, |it| it.validators = vec![stranger]);
    let said = accusing.to_string();
    assert!(said.contains(&votes.validators[0]), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_is_checked_here_before_it_is_believed() {
    use v1::EvidenceKind::{ConflictingCertificates, DoubleVote, SurroundVote};
    let (node, keys) = network(3, 3).await;
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(&pithead(&node.url, folder.path(), &["evidence"]).await);
    assert!(text.contains("No evidence"), "{text}");

    let genesis = Network::Dev.genesis().unwrap();
    let genesis_hash = genesis.params.genesis_hash;
    let prefix = genesis.prefix.clone();
    let text_of = |key: &SigningKey| key.address().to_text(&prefix);
    let vote = |key: &SigningKey, link| approve(key, link, &genesis_hash).encode();
    let double = [link((0, 0), (10, 1)), link((0, 0), (10, 2))];
    let surround = [link((0, 0), (40, 1)), link((10, 2), (20, 3))];
    let honest = [link((0, 0), (10, 1)), link((10, 1), (20, 2))];
    let pair = |kind, signer: &SigningKey, links: [Link; 2]| {
        proof(
            kind,
            vec![text_of(&keys[0])],
            vote(signer, links[0]),
            vote(signer, links[1]),
            links,
        )
    };
    let stranger = SigningKey::generate().unwrap();
    let mut network_genesis = genesis.clone();
    network_genesis.params.checkpoint_interval = 10;
    network_genesis.params.approval_quorum = 3;
    network_genesis.validators = keys.iter().map(|key| key.public_key().clone()).collect();
    let validators = Validators::of_genesis(&network_genesis);
    let certificate = |link| {
        let votes: Vec<_> = keys
            .iter()
            .map(|key| approve(key, link, &genesis_hash))
            .collect();
        Certificate::build(&validators, &votes).unwrap().encode()
    };
    let all: Vec<String> = keys.iter().map(text_of).collect();
    let mut torn = pair(DoubleVote, &keys[0], double);
    torn.second = torn.second.slice(..20);
    let mut slander = pair(SurroundVote, &keys[1], surround);
    slander.validators = vec![text_of(&keys[2])];
    node.state().evidence = vec![
        pair(DoubleVote, &keys[0], double),
        pair(SurroundVote, &keys[0], surround),
        proof(
            ConflictingCertificates,
            all.clone(),
            certificate(double[0]),
            certificate(double[1]),
            double,
        ),
        // What a lying node could make up.
        pair(DoubleVote, &stranger, double),
        pair(DoubleVote, &keys[0], honest),
        pair(DoubleVote, &keys[0], surround),
        torn,
        proof(
            ConflictingCertificates,
            all,
            certificate(honest[0]),
            certificate(honest[1]),
            honest,
        ),
        slander,
    ];
    let value = json(&pithead(&node.url, folder.path(), &["evidence", "--json"]).await);
    let found = value["evidence"].as_array().unwrap();
    let holds: Vec<bool> = found
        .iter()
        .map(|proof| proof["holds"].as_bool().unwrap())
        .collect();
    assert_eq!(
        holds,
        [true, true, true, false, false, false, false, false, false],
        "{value:#}"
    );
    let text = stdout(&pithead(&node.url, folder.path(), &["evidence"]).await);
    for part in [
        "two votes for one height",
        "a vote that surrounds another",
        "two certificates that conflict",
        "3 validators",
        "40 and 20",
        "it holds",
        "is not a validator",
        "it can't be read",
        "but its bytes show",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }

    // Saved once each, with all that another needs to check them.
    let out = folder.path().join("proofs");
    let args = ["evidence", "--out", out.to_str().unwrap()];
    for _ in 0..2 {
        let output = pithead(&node.url, folder.path(), &args).await;
        assert!(
            stderr(&output).contains("9 proofs in"),
            "{}",
            stderr(&output)
        );
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 9);
    }
    let saved = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap());
    let saved = saved
        .map(|entry| std::fs::read_to_string(entry.path()).unwrap())
        .map(|text| serde_json::from_str::<serde_json::Value>(&text).unwrap())
        .find(|proof| {
            proof["kind"] == "surround_vote" && proof["validators"][0] == text_of(&keys[0])
        })
        .unwrap();
    assert_eq!(saved["genesis_hash"], genesis_hash.to_string());
    let first = hex::encode(&node.state().evidence[1].first);
    assert_eq!(saved["first_hex"], first);

    // Anyone who has the genesis can check them, without a node.
    let file = genesis_file(&keys, 3);
    let genesis_path = folder.path().join("genesis.toml");
    std::fs::write(&genesis_path, file.to_toml().unwrap()).unwrap();
    let proof_path = folder.path().join("proof.json");
    let own = file.check().unwrap().params.genesis_hash;
    let vote = |link| hex::encode(approve(&keys[0], link, &own).encode());
    let mut proof = saved.clone();
    proof["genesis_hash"] = own.to_string().into();
    proof["first_hex"] = vote(surround[0]).into();
    proof["second_hex"] = vote(surround[1]).into();
    let mut forged = proof.clone();
    forged["second_hex"] = vote(link((10, 2), (50, 3))).into();
    let mut accusing = proof.clone();
    accusing["validators"] = serde_json::json!([text_of(&keys[1])]);
    let mut elsewhere = proof.clone();
    elsewhere["first_target_height"] = 30.into();
    for (proof, holds, part) in [
        (&proof, true, "it holds"),
        (&saved, false, "it is of the network with genesis"),
        (&forged, false, "it proves nothing"),
        (&accusing, false, "but its bytes show dpit1"),
        (&elsewhere, false, "but its bytes show block"),
    ] {
        std::fs::write(&proof_path, proof.to_string()).unwrap();
        let args = [
            "evidence",
            "check",
            "--genesis",
            genesis_path.to_str().unwrap(),
        ];
        let args = [&args[..], &[proof_path.to_str().unwrap()]].concat();
        let output = pithead("http://127.0.0.1:1", folder.path(), &args).await;
        assert_eq!(output.status.success(), holds, "{}", stderr(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(part), "{part} in {text}");
    }

    // A list that gives a validator another's key is not believed either.
    let other = SigningKey::generate().unwrap();
    node.state().validators.validators[0].public_key = other.public_key().modulus().to_vec().into();
    let value = json(&pithead(&node.url, folder.path(), &["evidence", "--json"]).await);
    assert_eq!(value["evidence"][0]["holds"], false);
    assert_ne!(Address::of_key(other.public_key()), keys[0].address());
}
