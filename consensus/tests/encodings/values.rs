//! Random values of every encoded type.

use pithead_consensus::approval::{Approval, Checkpoint, Link, SignedApproval};
use pithead_consensus::state::{UndoEntry, UndoRecord};
use pithead_consensus::{
    Account, Address, Amount, Block, BlockCommitment, BlockHash, BlockHeader, Certificate,
    CompactTarget, Decode, Encode, Hash256, Height, Output, PublicKey, Signature,
    SignedTransaction, TransactionBody,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use pithead_testkit::grains;

pub(crate) fn addresses() -> impl Strategy<Value = Address> {
    any::<[u8; 32]>().prop_map(Address)
}

pub(crate) fn amounts() -> impl Strategy<Value = Amount> {
    (0..=Amount::MAX_MONEY.grains()).prop_map(grains)
}

pub(crate) fn public_keys() -> impl Strategy<Value = PublicKey> {
    (vec(any::<u8>(), 256)).prop_map(|mut modulus| {
        modulus[0] |= 0x80;
        modulus[255] |= 1;
        PublicKey::from_modulus(&modulus).unwrap()
    })
}

pub(crate) fn signatures() -> impl Strategy<Value = Signature> {
    vec(any::<u8>(), 256).prop_map(|bytes| Signature(Box::new(bytes.try_into().unwrap())))
}

prop_compose! {
    pub(crate) fn bodies()(
        sender in addresses(),
        sequence: u64,
        fee in amounts(),
        outputs in vec((addresses(), amounts()), 0..=255),
        data in vec(any::<u8>(), 0..=1024),
    ) -> TransactionBody {
        let output = |(recipient, amount)| Output { recipient, amount };
        TransactionBody { sender, sequence, fee, outputs: outputs.into_iter().map(output).collect(), data }
    }
}

prop_compose! {
    pub(crate) fn transactions()(
        body in bodies(),
        key in option::of(public_keys()),
        signature in signatures(),
    ) -> SignedTransaction {
        SignedTransaction { body, key, signature }
    }
}

prop_compose! {
    pub(crate) fn headers()(
        version: u32, prev: [u8; 32], root: [u8; 32], time: u32, bits: u32, nonce: u32,
    ) -> BlockHeader {
        BlockHeader {
            version,
            prev: BlockHash(prev),
            merkle_root: Hash256(root),
            time,
            bits: CompactTarget(bits),
            nonce,
        }
    }
}

prop_compose! {
    pub(crate) fn commitments()(
        transactions: [u8; 32], state: [u8; 32], reward_address in addresses(), extra_nonce: [u8; 8],
    ) -> BlockCommitment {
        BlockCommitment {
            transactions_root: Hash256(transactions),
            state_root: Hash256(state),
            reward_address,
            extra_nonce,
        }
    }
}

prop_compose! {
    pub(crate) fn blocks()(
        header in headers(),
        commitment in commitments(),
        transactions in vec(transactions(), 0..4),
    ) -> Block {
        Block { header, commitment, transactions }
    }
}

prop_compose! {
    pub(crate) fn accounts()(balance in amounts(), sequence: u64, key in public_keys()) -> Account {
        Account { balance, sequence, key: (sequence > 0).then_some(key) }
    }
}

prop_compose! {
    pub(crate) fn undo_records()(
        entries in vec((addresses(), amounts(), any::<u64>()), 0..20),
    ) -> UndoRecord {
        let entry = |(address, balance, sequence)| UndoEntry { address, balance, sequence };
        UndoRecord { entries: entries.into_iter().map(entry).collect() }
    }
}

pub(crate) fn checkpoints() -> impl Strategy<Value = Checkpoint> {
    any::<(u64, [u8; 32])>().prop_map(|(height, hash)| Checkpoint {
        height: Height(height),
        hash: BlockHash(hash),
    })
}

pub(crate) fn links() -> impl Strategy<Value = Link> {
    (checkpoints(), checkpoints()).prop_map(|(source, target)| Link { source, target })
}

prop_compose! {
    pub(crate) fn approvals()(validator in addresses(), link in links(), signature in signatures()) -> SignedApproval {
        SignedApproval { approval: Approval { validator, link }, signature }
    }
}

/// Bytes of a certificate: it has no public constructor that skips the checks.
pub(crate) fn certificates() -> impl Strategy<Value = Certificate> {
    (links(), vec((addresses(), signatures()), 0..5)).prop_map(|(link, approvals)| {
        let mut bytes = vec![1];
        link.encode_to(&mut bytes);
        bytes.extend((approvals.len() as u32).to_le_bytes());
        for (validator, signature) in approvals {
            bytes.extend(validator.0);
            bytes.extend(signature.0.as_slice());
        }
        Certificate::decode(&bytes).unwrap()
    })
}
