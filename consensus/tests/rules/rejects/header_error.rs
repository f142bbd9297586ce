//! Headers that break a rule.

use pithead_consensus::check::{HeaderError, check_header_in_context, check_proof_of_work};
use pithead_consensus::difficulty::Ancestors;
use pithead_consensus::genesis::Network;
use pithead_consensus::target::CompactTargetError;
use pithead_consensus::{BlockHeader, CompactTarget};

use pithead_testkit::chain::{SmallChain, easy_network, mine};
use pithead_testkit::key;

fn mined() -> (SmallChain, BlockHeader) {
    let chain = SmallChain::new(&easy_network(&[], 0));
    let header = chain.assemble(Vec::new(), key(0).address, 2).header;
    (chain, header)
}

#[test]
fn rejects_bad_version() {
    let (chain, good) = mined();
    let params = &chain.genesis.params;
    for found in [
        0,
        1,
        0x2000_0001,
        0x2000_1000,
        0x4000_0000,
        0x6000_0000,
        0xe000_0000,
    ] {
        let header = BlockHeader {
            version: found,
            ..good
        };
        let error = HeaderError::BadVersion { found };
        assert_eq!(check_proof_of_work(params, &header), Err(error));
    }
    // The miner may roll bits 13 to 28.
    for bit in 13..=28 {
        let mut header = BlockHeader {
            version: 0x2000_0000 | 1 << bit,
            ..good
        };
        mine(&mut header);
        assert!(check_proof_of_work(params, &header).is_ok(), "bit {bit}");
    }
}

#[test]
fn rejects_bad_bits() {
    let (chain, good) = mined();
    let bits = 0x2080_0000;
    let header = BlockHeader {
        bits: CompactTarget(bits),
        ..good
    };
    let error = HeaderError::BadBits(CompactTargetError::Zero { bits });
    assert_eq!(
        check_proof_of_work(&chain.genesis.params, &header),
        Err(error)
    );
}

#[test]
fn rejects_target_above_limit() {
    let params = Network::Main.genesis().unwrap().params;
    let (_, good) = mined();
    let error = HeaderError::TargetAboveLimit {
        found: good.bits.to_target().unwrap(),
        limit: params.pow_limit,
    };
    assert_eq!(check_proof_of_work(&params, &good), Err(error));
}

#[test]
fn rejects_high_hash() {
    let (chain, mut header) = mined();
    let target = header.bits.to_target().unwrap();
    while target.is_met_by(&header.hash()) {
        header.nonce += 1;
    }
    let error = HeaderError::HighHash {
        hash: header.hash(),
        target,
    };
    assert_eq!(
        check_proof_of_work(&chain.genesis.params, &header),
        Err(error)
    );
}

#[test]
fn rejects_time_before_parent() {
    let (chain, good) = mined();
    let ancestors = chain.ancestors();
    let parent = ancestors.parent_time;
    let at = |time| {
        let header = BlockHeader { time, ..good };
        check_header_in_context(&chain.genesis.params, &header, &ancestors)
    };
    let error = HeaderError::TimeBeforeParent {
        found: parent - 1,
        parent,
    };
    assert_eq!(at(parent - 1), Err(error));
    assert_eq!(at(parent), Ok(()));
}

#[test]
fn rejects_wrong_bits() {
    let (chain, good) = mined();
    let params = &chain.genesis.params;
    // Two blocks in no time at all: the next target is harder.
    let ancestors = Ancestors {
        grandparent_time: Some(good.time),
        ..chain.ancestors()
    };
    let ancestors = Ancestors {
        parent_time: good.time,
        ..ancestors
    };
    match check_header_in_context(params, &good, &ancestors) {
        Err(HeaderError::WrongBits { found, expected }) => {
            assert_eq!(found, good.bits);
            assert!(expected.to_target().unwrap() < found.to_target().unwrap());
        }
        other => panic!("{other:?}"),
    }
}
