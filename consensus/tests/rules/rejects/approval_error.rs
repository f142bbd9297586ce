//! Approvals that break a rule by themselves.

use pithead_consensus::approval::ApprovalError;
use pithead_consensus::genesis::{GenesisFile, Network, ValidatorEntry};
use pithead_consensus::{AddressPrefix, Height, Validators};

use pithead_testkit::{key, link};

/// A network with validators 0 to `count - 1`, a checkpoint every 10 blocks.
pub(crate) fn network(count: usize, quorum: u32) -> GenesisFile {
    let prefix = AddressPrefix::new("dpit").unwrap();
    let validators = (0..count).map(|index| ValidatorEntry {
        address: key(index).address.to_text(&prefix),
        public_key: hex::encode(key(index).public.modulus()),
    });
    GenesisFile {
        checkpoint_interval: 10,
        approval_quorum: quorum,
        validators: validators.collect(),
        ..Network::Dev.genesis_file()
    }
}

pub(crate) fn validators() -> Validators {
    Validators::of_genesis(&network(4, 3).check().unwrap())
}

#[test]
fn rejects_source_not_below_target() {
    let validators = validators();
    for (source, target) in [(10, 10), (20, 10), (10, 0), (u64::MAX, 0)] {
        let signed = key(0).approve(&validators.genesis().hash, link(source, target));
        let error = ApprovalError::SourceNotBelowTarget {
            source_height: Height(source),
            target_height: Height(target),
        };
        assert_eq!(validators.check(&signed), Err(error));
    }
}

#[test]
fn rejects_not_a_checkpoint() {
    let validators = validators();
    for (source, target, bad) in [(0, 11, 11), (5, 10, 5), (1, u64::MAX, 1)] {
        let signed = key(0).approve(&validators.genesis().hash, link(source, target));
        let error = ApprovalError::NotACheckpoint {
            height: Height(bad),
            interval: 10,
        };
        assert_eq!(validators.check(&signed), Err(error));
    }
}

#[test]
fn rejects_not_a_validator() {
    let validators = validators();
    let signed = key(5).approve(&validators.genesis().hash, link(0, 10));
    let error = ApprovalError::NotAValidator {
        validator: key(5).address,
    };
    assert_eq!(validators.check(&signed), Err(error));
}

#[test]
fn rejects_bad_signature() {
    let validators = validators();
    let genesis = validators.genesis().hash;
    let good = key(0).approve(&genesis, link(0, 10));
    assert_eq!(validators.check(&good), Ok(()));
    let error = Err(ApprovalError::BadSignature {
        validator: key(0).address,
    });

    let mut moved = good.clone();
    moved.approval.link = link(0, 20);
    assert_eq!(validators.check(&moved), error);

    let mut forged = key(1).approve(&genesis, link(0, 10));
    forged.approval.validator = key(0).address;
    assert_eq!(validators.check(&forged), error);

    // Signed for another chain.
    let elsewhere = Network::Main.genesis().unwrap().params.genesis_hash;
    let replayed = key(0).approve(&elsewhere, link(0, 10));
    assert_eq!(validators.check(&replayed), error);
}
