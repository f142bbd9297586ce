//! Proofs of misbehaviour are believed for what their bytes show.

use pithead_client::{EvidenceProblem, SavedProof, SigningKey};
use pithead_consensus::{Certificate, Encode as _, Genesis, Validators};

use crate::proofs::{approve, genesis_file, link};

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

/// A double vote of the first of four validators, and two conflicting certificates.
fn proofs(keys: &[SigningKey], genesis: &Genesis) -> [SavedProof; 2] {
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
    let validators = Validators::of_genesis(genesis);
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
    [votes, certificates]
}

#[test]
fn a_proof_is_of_what_its_bytes_show_whatever_it_says() {
    let keys: Vec<_> = (0..4).map(|_| SigningKey::generate().unwrap()).collect();
    let genesis = genesis_file(&keys, 3).check().unwrap();
    let [votes, certificates] = proofs(&keys, &genesis);
    let stranger = keys[3].address().to_text(&genesis.prefix);
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
