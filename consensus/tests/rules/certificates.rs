//! Certificates and evidence when all goes well: a quorum makes a certificate, a
//! pair of votes makes evidence.

use pithead_consensus::approval::vote::VoteOffence;
use pithead_consensus::genesis::{GenesisFile, Network, ValidatorEntry};
use pithead_consensus::{AddressPrefix, Certificate, Evidence, Link, Validators};

use pithead_testkit::{checkpoint, key, link};

fn validators() -> Validators {
    let prefix = AddressPrefix::new("dpit").unwrap();
    let entry = |index: usize| ValidatorEntry {
        address: key(index).address.to_text(&prefix),
        public_key: hex::encode(key(index).public.modulus()),
    };
    let file = GenesisFile {
        checkpoint_interval: 10,
        approval_quorum: 5,
        validators: (0..7).map(entry).collect(),
        ..Network::Dev.genesis_file()
    };
    Validators::of_genesis(&file.check().unwrap())
}

#[test]
fn a_quorum_makes_a_certificate() {
    let validators = validators();
    assert_eq!((validators.len(), validators.quorum()), (7, 5));
    let genesis = validators.genesis().hash;
    let approvals: Vec<_> = [6, 2, 4, 0, 1]
        .map(|index| key(index).approve(&genesis, link(0, 10)))
        .to_vec();
    let certificate = Certificate::build(&validators, &approvals).unwrap();
    assert_eq!(certificate.check(&validators), Ok(()));
    assert_eq!(certificate.link(), &link(0, 10));
    assert_eq!(certificate.count(), 5);
    // The same approvals in any order make the same certificate.
    let mut reversed = approvals.clone();
    reversed.reverse();
    assert_eq!(
        Certificate::build(&validators, &reversed),
        Ok(certificate.clone())
    );
    for each in certificate.approvals() {
        assert_eq!(validators.check(&each), Ok(()));
        assert!(approvals.contains(&each));
    }
}

#[test]
fn verified_approvals_make_a_certificate_without_a_second_look() {
    let validators = validators();
    let genesis = validators.genesis().hash;
    let verified = |index: usize, link: Link| {
        let signed = key(index).approve(&genesis, link);
        validators.verify(signed).unwrap()
    };
    let mut approvals: Vec<_> = (0..5).map(|index| verified(index, link(0, 10))).collect();
    let certificate = Certificate::of_verified(&validators, &approvals).unwrap();
    assert_eq!(certificate.check(&validators), Ok(()));
    // The other checks are still made.
    let twice = [approvals.clone(), vec![verified(0, link(0, 10))]].concat();
    assert!(Certificate::of_verified(&validators, &twice).is_err());
    approvals[4] = verified(4, link(0, 20));
    assert!(Certificate::of_verified(&validators, &approvals).is_err());
    assert!(Certificate::of_verified(&validators, &approvals[..4]).is_err());
    let mut forged = key(0).approve(&genesis, link(0, 10));
    forged.signature = key(1).approve(&genesis, link(0, 10)).signature;
    assert!(validators.verify(forged).is_err());
}

#[test]
fn evidence_names_the_rule() {
    let validators = validators();
    let genesis = validators.genesis().hash;
    let sign = |link: Link| key(3).approve(&genesis, link);
    let other_block = Link {
        target: checkpoint(20, 1),
        ..link(0, 20)
    };
    for (a, b, rule) in [
        (link(0, 20), link(10, 20), VoteOffence::DoubleVote),
        (link(0, 20), other_block, VoteOffence::DoubleVote),
        (link(0, 30), link(10, 20), VoteOffence::SurroundVote),
        (link(10, 20), link(0, 30), VoteOffence::SurroundVote),
    ] {
        let (a, b) = (sign(a), sign(b));
        let (evidence, found) = Evidence::of(&a, &b).unwrap();
        assert_eq!(found, rule);
        assert_eq!(evidence.check(&validators), Ok(rule));
        assert_eq!(evidence.validator(), key(3).address);
        let (mirrored, _) = Evidence::of(&b, &a).unwrap();
        assert_eq!(mirrored, evidence, "one offence, one encoding");
    }
    // Two signatures on one message differ, but they are no evidence.
    let (once, twice) = (sign(link(0, 10)), sign(link(0, 10)));
    assert_ne!(once.signature, twice.signature);
    assert_eq!(Evidence::of(&once, &twice), None);
}
