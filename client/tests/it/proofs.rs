//! What tests of evidence make proofs from: votes, and a genesis with validators.
//! The tests of the command use this file, too.
#![allow(clippy::unwrap_used, unreachable_pub)]

use pithead_client::SigningKey;
use pithead_consensus::genesis::{GenesisFile, Network, ValidatorEntry};
use pithead_consensus::{Approval, BlockHash, Checkpoint, Height, Link, SignedApproval};

pub fn link(source: (u64, u8), target: (u64, u8)) -> Link {
    let checkpoint = |(height, byte): (u64, u8)| Checkpoint {
        height: Height(height),
        hash: BlockHash([byte; 32]),
    };
    Link {
        source: checkpoint(source),
        target: checkpoint(target),
    }
}

pub fn approve(key: &SigningKey, link: Link, genesis: &BlockHash) -> SignedApproval {
    let approval = Approval {
        validator: key.address(),
        link,
    };
    SignedApproval {
        signature: key.sign(&approval.signing_message(genesis)).unwrap(),
        approval,
    }
}

/// The genesis of a network with these validators; checkpoints every 10 blocks.
pub fn genesis_file(keys: &[SigningKey], quorum: u32) -> GenesisFile {
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
