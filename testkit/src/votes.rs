//! What tests of finality share: a network with validators, their votes and certificates, and
//! stores that hold them. Start with [`voting`] and [`validators`].

use std::sync::Arc;

use pithead_consensus::genesis::{GenesisFile, ValidatorEntry};
use pithead_consensus::{
    Address, Block, Certificate, Checkpoint, Genesis, Height, Link, SignedApproval, Validators,
};
use pithead_core::finality::{Proof, put_certificate};
use pithead_core::node::Node;
use pithead_core::store::{Batch, Store};
use pithead_core::sync::Gossip;

use crate::key;
use crate::nodes::{file, memory};
use crate::world::World;

/// Validators of the test network; the test keys allow no more than eight.
pub const VALIDATORS: usize = 7;
/// Any two quorums share three validators.
pub const QUORUM: u32 = 5;
/// Blocks from one checkpoint to the next.
pub const INTERVAL: u64 = 2;

/// A network with validators: the test keys from 0 on.
pub fn voting() -> GenesisFile {
    let prefix = pithead_consensus::AddressPrefix::new("dpit").unwrap();
    let entry = |index: usize| ValidatorEntry {
        address: key(index).address.to_text(&prefix),
        public_key: hex::encode(key(index).public.modulus()),
    };
    GenesisFile {
        checkpoint_interval: u32::try_from(INTERVAL).unwrap(),
        approval_quorum: QUORUM,
        validators: (0..VALIDATORS).map(entry).collect(),
        ..file()
    }
}

/// The address that mines in tests of finality: no validator has it.
pub fn miner() -> Address {
    key(7).address
}

/// A world of validators, all connected with each other.
pub fn validators(count: usize) -> World {
    let mut world = World::on(voting());
    for index in 0..count {
        world.add_validator(&[], index);
        for other in 0..index {
            world.connect(index, other);
        }
    }
    world.run_for(1_000);
    world
}

/// Mines blocks at one node, each with time for all others to get it and vote.
pub fn mine(world: &mut World, index: usize, count: usize) {
    for _ in 0..count {
        world.mine(index);
        world.run_for(2_000);
    }
}

pub fn checkpoint(block: &Block, height: u64) -> Checkpoint {
    Checkpoint {
        height: Height(height),
        hash: block.header.hash(),
    }
}

/// The checkpoint of a chain of blocks that starts at height 1.
pub fn at(genesis: &Genesis, blocks: &[Block], height: u64) -> Checkpoint {
    match height {
        0 => Checkpoint::genesis(genesis.params.genesis_hash),
        _ => checkpoint(&blocks[usize::try_from(height - 1).unwrap()], height),
    }
}

pub fn approve(world: &World, validator: usize, link: Link) -> SignedApproval {
    key(validator).approve(&world.genesis.params.genesis_hash, link)
}

pub fn gossip(signed: &SignedApproval) -> Gossip {
    Gossip::Approval(Box::new(signed.clone()))
}

pub fn genesis_checkpoint(world: &World) -> Checkpoint {
    Checkpoint::genesis(world.genesis.params.genesis_hash)
}

/// A certificate of the quorum of validators from number 0 on.
pub fn certificate(world: &World, link: Link) -> Certificate {
    certificate_of(&world.genesis, 0, link)
}

/// A certificate of the quorum of validators from number `first` on.
pub fn certificate_of(genesis: &Genesis, first: usize, link: Link) -> Certificate {
    let signers = first..first + QUORUM as usize;
    let approvals: Vec<_> = signers
        .map(|index| key(index).approve(&genesis.params.genesis_hash, link))
        .collect();
    Certificate::build(&Validators::of_genesis(genesis), &approvals).unwrap()
}

/// Certificates for each checkpoint of a chain of blocks above `from`, up to `to`.
pub fn certificates(
    genesis: &Genesis,
    first: usize,
    blocks: &[Block],
    from: u64,
    to: u64,
) -> Vec<Certificate> {
    let sources = (from..to).step_by(usize::try_from(INTERVAL).unwrap());
    sources
        .map(|source| Link {
            source: at(genesis, blocks, source),
            target: at(genesis, blocks, source + INTERVAL),
        })
        .map(|link| certificate_of(genesis, first, link))
        .collect()
}

/// Puts certificates into a store, as a node does with those that it accepts.
pub fn put(store: &Arc<dyn Store>, certificates: &[Certificate]) {
    let mut batch = Batch::default();
    for each in certificates {
        put_certificate(&mut batch, each);
    }
    store.commit(&batch).unwrap();
}

/// A member with these blocks and certificates.
pub fn add_with(world: &mut World, blocks: &[Block], certificates: &[Certificate]) -> usize {
    let index = world.add_on(memory(), blocks);
    put(&world.members[index].store, certificates);
    world.restart(index);
    index
}

/// Gives a member blocks that it does not announce, even from the future.
pub fn give(world: &mut World, index: usize, blocks: &[Block]) {
    for block in blocks {
        world.give_later(index, block);
    }
}

/// The validators that a node has proofs against.
pub fn accused(node: &Node) -> Vec<Address> {
    let state = node.finality().read().unwrap();
    let votes = state.proofs().iter().filter_map(|kept| match &kept.proof {
        Proof::Votes(evidence) => Some(evidence.validator()),
        Proof::Certificates(..) => None,
    });
    let mut accused: Vec<Address> = votes.collect();
    accused.sort();
    accused.dedup();
    accused
}

/// Whether a node found certificates in conflict.
pub fn in_conflict(world: &World, index: usize) -> bool {
    let state = world.node(index).finality().read().unwrap();
    state.status().conflict
}
