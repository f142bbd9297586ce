//! `pithead evidence`: the command believes no proof that it has not checked,
//! whatever a fake node serves.

use pithead_api::v1;
use pithead_client::SigningKey;
use pithead_consensus::genesis::Network;
use pithead_consensus::{Address, Certificate, Encode as _, Genesis, Link, Validators};

use crate::proofs::{approve, genesis_file, link};
use crate::support::{FakeNode, NO_NODE, json, pithead, stderr, stdout};

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

/// A validator's votes and certificates on a network, encoded.
struct Signers {
    keys: Vec<SigningKey>,
    genesis: Genesis,
}

impl Signers {
    /// All of these validators must sign a certificate of theirs.
    fn new(keys: Vec<SigningKey>) -> Self {
        let mut genesis = Network::Dev.genesis().unwrap();
        genesis.params.checkpoint_interval = 10;
        genesis.params.approval_quorum = u32::try_from(keys.len()).unwrap();
        genesis.validators = keys.iter().map(|key| key.public_key().clone()).collect();
        Self { keys, genesis }
    }

    fn address(&self, number: usize) -> String {
        self.keys[number].address().to_text(&self.genesis.prefix)
    }

    fn vote(&self, key: &SigningKey, link: Link) -> Vec<u8> {
        approve(key, link, &self.genesis.params.genesis_hash).encode()
    }

    fn certificate(&self, link: Link) -> Vec<u8> {
        let genesis_hash = self.genesis.params.genesis_hash;
        let votes = self
            .keys
            .iter()
            .map(|key| approve(key, link, &genesis_hash));
        let votes: Vec<_> = votes.collect();
        let validators = Validators::of_genesis(&self.genesis);
        Certificate::build(&validators, &votes).unwrap().encode()
    }

    /// Two votes of `signer`, in a proof against the first validator.
    fn pair(&self, kind: v1::EvidenceKind, signer: &SigningKey, links: [Link; 2]) -> v1::Evidence {
        let [first, second] = links.map(|link| self.vote(signer, link));
        proof(kind, vec![self.address(0)], first, second, links)
    }

    /// Two certificates, in a proof against all validators.
    fn certificates(&self, links: [Link; 2]) -> v1::Evidence {
        let kind = v1::EvidenceKind::ConflictingCertificates;
        let all = (0..self.keys.len()).map(|number| self.address(number));
        let [first, second] = links.map(|link| self.certificate(link));
        proof(kind, all.collect(), first, second, links)
    }

    /// Three proofs that hold, then six that a lying node could make up.
    fn served(&self) -> Vec<v1::Evidence> {
        use v1::EvidenceKind::{DoubleVote, SurroundVote};
        let double = [link((0, 0), (10, 1)), link((0, 0), (10, 2))];
        let honest = [link((0, 0), (10, 1)), link((10, 1), (20, 2))];
        let (key, stranger) = (&self.keys[0], SigningKey::generate().unwrap());
        let mut torn = self.pair(DoubleVote, key, double);
        torn.second = torn.second.slice(..20);
        let mut slander = self.pair(SurroundVote, &self.keys[1], surround());
        slander.validators = vec![self.address(2)];
        vec![
            self.pair(DoubleVote, key, double),
            self.pair(SurroundVote, key, surround()),
            self.certificates(double),
            self.pair(DoubleVote, &stranger, double),
            self.pair(DoubleVote, key, honest),
            self.pair(DoubleVote, key, surround()),
            torn,
            self.certificates(honest),
            slander,
        ]
    }
}

/// Two votes of which the first surrounds the second.
fn surround() -> [Link; 2] {
    [link((0, 0), (40, 1)), link((10, 2), (20, 3))]
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_is_checked_here_before_it_is_believed() {
    let (node, keys) = FakeNode::with_validators(3, 3).await;
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(&pithead(&node.url, folder.path(), &["evidence"]).await);
    assert!(text.contains("No evidence"), "{text}");

    let signers = Signers::new(keys);
    node.state().evidence = signers.served();
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

    // A list that gives a validator another's key is not believed either.
    let other = SigningKey::generate().unwrap();
    node.state().validators.validators[0].public_key = other.public_key().modulus().to_vec().into();
    let value = json(&pithead(&node.url, folder.path(), &["evidence", "--json"]).await);
    assert_eq!(value["evidence"][0]["holds"], false);
    assert_ne!(
        Address::of_key(other.public_key()),
        signers.keys[0].address()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_evidence_can_be_checked_without_a_node() {
    let (node, keys) = FakeNode::with_validators(3, 3).await;
    let folder = tempfile::tempdir().unwrap();
    let signers = Signers::new(keys);
    node.state().evidence = signers.served();

    // Saved once each, with all that another program needs to check them.
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
            proof["kind"] == "surround_vote" && proof["validators"][0] == signers.address(0)
        })
        .unwrap();
    let genesis_hash = signers.genesis.params.genesis_hash.to_string();
    assert_eq!(saved["genesis_hash"], genesis_hash);
    let first = hex::encode(&node.state().evidence[1].first);
    assert_eq!(saved["first_hex"], first);

    let file = genesis_file(&signers.keys, 3);
    let genesis_path = folder.path().join("genesis.toml");
    std::fs::write(&genesis_path, file.to_toml().unwrap()).unwrap();
    let proof_path = folder.path().join("proof.json");
    let own = file.check().unwrap().params.genesis_hash;
    let vote = |link| hex::encode(approve(&signers.keys[0], link, &own).encode());
    let [outer, inner] = surround();
    let mut proof = saved.clone();
    proof["genesis_hash"] = own.to_string().into();
    proof["first_hex"] = vote(outer).into();
    proof["second_hex"] = vote(inner).into();
    let mut forged = proof.clone();
    forged["second_hex"] = vote(link((10, 2), (50, 3))).into();
    let mut accusing = proof.clone();
    accusing["validators"] = serde_json::json!([signers.address(1)]);
    let mut elsewhere = proof.clone();
    elsewhere["first_target_height"] = 30.into();
    let genesis = genesis_path.to_str().unwrap();
    for (proof, holds, part) in [
        (&proof, true, "it holds"),
        (&saved, false, "it is of the network with genesis"),
        (&forged, false, "it proves nothing"),
        (&accusing, false, "but its bytes show dpit1"),
        (&elsewhere, false, "but its bytes show block"),
    ] {
        std::fs::write(&proof_path, proof.to_string()).unwrap();
        let path = proof_path.to_str().unwrap();
        let args = ["evidence", "check", "--genesis", genesis, path];
        let output = pithead(NO_NODE, folder.path(), &args).await;
        assert_eq!(output.status.success(), holds, "{}", stderr(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(part), "{part} in {text}");
    }
}
