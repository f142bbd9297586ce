//! `pithead evidence`: the command believes no proof that it has not checked,
//! whatever a fake node serves.

use pithead_api::v1;
use pithead_client::SigningKey;
use pithead_consensus::genesis::Network;
use pithead_consensus::{Address, Certificate, Encode as _, Link, Validators};

use crate::proofs::{approve, genesis_file, link};
use crate::support::{FakeNode, json, pithead, stderr, stdout};

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

#[tokio::test(flavor = "multi_thread")]
async fn evidence_is_checked_here_before_it_is_believed() {
    use v1::EvidenceKind::{ConflictingCertificates, DoubleVote, SurroundVote};
    let (node, keys) = FakeNode::with_validators(3, 3).await;
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
