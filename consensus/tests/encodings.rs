//! Encodings: every value comes back as it was, no input makes a decoder panic
//! or allocate beyond it, and no two byte strings stand for one value.

#![allow(clippy::unwrap_used)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Debug;

use common::key;
use pithead_consensus::approval::{Approval, Checkpoint, Link, SignedApproval};
use pithead_consensus::state::{UndoEntry, UndoRecord};
use pithead_consensus::{
    Account, Address, Amount, Block, BlockCommitment, BlockHash, BlockHeader, Certificate,
    CompactTarget, Decode, Encode, Evidence, Hash256, Height, Output, PublicKey, Signature,
    SignedTransaction, TransactionBody,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Counts the bytes that a thread allocates, to catch a decoder that believes a
/// length before it has seen the bytes.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|total| total.set(total.get() + layout.size()));
        // SAFETY: the caller's promises hold for the system allocator too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from the system allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn addresses() -> impl Strategy<Value = Address> {
    any::<[u8; 32]>().prop_map(Address)
}

fn amounts() -> impl Strategy<Value = Amount> {
    (0..=Amount::MAX_MONEY.grains()).prop_map(common::grains)
}

fn public_keys() -> impl Strategy<Value = PublicKey> {
    (vec(any::<u8>(), 256)).prop_map(|mut modulus| {
        modulus[0] |= 0x80;
        modulus[255] |= 1;
        PublicKey::from_modulus(&modulus).unwrap()
    })
}

fn signatures() -> impl Strategy<Value = Signature> {
    vec(any::<u8>(), 256).prop_map(|bytes| Signature(Box::new(bytes.try_into().unwrap())))
}

prop_compose! {
    fn bodies()(
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
    fn transactions()(
        body in bodies(),
        key in option::of(public_keys()),
        signature in signatures(),
    ) -> SignedTransaction {
        SignedTransaction { body, key, signature }
    }
}

prop_compose! {
    fn headers()(
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
    fn commitments()(
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
    fn blocks()(
        header in headers(),
        commitment in commitments(),
        transactions in vec(transactions(), 0..4),
    ) -> Block {
        Block { header, commitment, transactions }
    }
}

prop_compose! {
    fn accounts()(balance in amounts(), sequence: u64, key in public_keys()) -> Account {
        Account { balance, sequence, key: (sequence > 0).then_some(key) }
    }
}

prop_compose! {
    fn undo_records()(
        entries in vec((addresses(), amounts(), any::<u64>()), 0..20),
    ) -> UndoRecord {
        let entry = |(address, balance, sequence)| UndoEntry { address, balance, sequence };
        UndoRecord { entries: entries.into_iter().map(entry).collect() }
    }
}

fn checkpoints() -> impl Strategy<Value = Checkpoint> {
    any::<(u64, [u8; 32])>().prop_map(|(height, hash)| Checkpoint {
        height: Height(height),
        hash: BlockHash(hash),
    })
}

fn links() -> impl Strategy<Value = Link> {
    (checkpoints(), checkpoints()).prop_map(|(source, target)| Link { source, target })
}

prop_compose! {
    fn approvals()(validator in addresses(), link in links(), signature in signatures()) -> SignedApproval {
        SignedApproval { approval: Approval { validator, link }, signature }
    }
}

/// Bytes of a certificate: it has no public constructor that skips the checks.
fn certificates() -> impl Strategy<Value = Certificate> {
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

fn round_trips<T: Encode + Decode + PartialEq + Debug>(value: &T) {
    let bytes = value.encode();
    assert_eq!(T::decode(&bytes).as_ref(), Ok(value));
    // Appending to what is there is the same as encoding alone.
    let mut appended = vec![7];
    value.encode_to(&mut appended);
    assert_eq!(appended[1..], bytes);
    // No shorter or longer input is the same value.
    assert!(T::decode(&bytes[..bytes.len() - 1]).is_err());
    assert!(T::decode(&[bytes, vec![0]].concat()).is_err());
}

/// Decodes any bytes: no panic, no more memory than the input accounts for, and
/// what it accepts encodes to the very same bytes.
fn decodes_safely<T: Encode + Decode>(bytes: &[u8]) {
    ALLOCATED.set(0);
    let result = T::decode(bytes);
    let allocated = ALLOCATED.get();
    // The largest factor is an output, 40 bytes either way; boxes and vectors
    // that double leave room for four times that.
    assert!(
        allocated <= 4 * bytes.len() + 2_048,
        "{allocated} for {}",
        bytes.len()
    );
    if let Ok(value) = result {
        assert_eq!(value.encode(), bytes);
    }
}

fn all_decode_safely(bytes: &[u8]) {
    decodes_safely::<BlockHeader>(bytes);
    decodes_safely::<BlockCommitment>(bytes);
    decodes_safely::<TransactionBody>(bytes);
    decodes_safely::<SignedTransaction>(bytes);
    decodes_safely::<Block>(bytes);
    decodes_safely::<Account>(bytes);
    decodes_safely::<UndoRecord>(bytes);
    decodes_safely::<Link>(bytes);
    decodes_safely::<Approval>(bytes);
    decodes_safely::<SignedApproval>(bytes);
    decodes_safely::<Certificate>(bytes);
    decodes_safely::<Evidence>(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn headers_round_trip(value in headers()) {
        round_trips(&value);
        prop_assert_eq!(value.encode().len(), 80);
    }

    #[test]
    fn commitments_round_trip(value in commitments()) {
        round_trips(&value);
        prop_assert_eq!(value.encode().len(), 104);
    }

    #[test]
    fn bodies_round_trip(value in bodies()) {
        round_trips(&value);
    }

    #[test]
    fn transactions_round_trip(value in transactions()) {
        round_trips(&value);
        prop_assert_eq!(value.encode().len(), value.size());
        prop_assert!(value.size() <= pithead_consensus::transaction::MAX_TRANSACTION_BYTES);
    }

    #[test]
    fn blocks_round_trip(value in blocks()) {
        round_trips(&value);
        prop_assert_eq!(value.encode().len(), value.size());
    }

    #[test]
    fn accounts_round_trip(value in accounts()) {
        round_trips(&value);
    }

    #[test]
    fn undo_records_round_trip(value in undo_records()) {
        round_trips(&value);
    }

    #[test]
    fn approvals_round_trip(value in approvals()) {
        round_trips(&value);
        round_trips(&value.approval);
        round_trips(&value.approval.link);
        prop_assert_eq!(value.approval.encode().len(), 113);
        prop_assert_eq!(value.encode().len(), 369);
    }

    #[test]
    fn certificates_round_trip(value in certificates()) {
        round_trips(&value);
    }

    #[test]
    fn evidence_round_trips(a in approvals(), b in approvals()) {
        let value = Evidence::decode(&[a.encode(), b.encode()].concat()).unwrap();
        round_trips(&value);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn any_bytes_decode_safely(bytes in vec(any::<u8>(), 0..1_000)) {
        all_decode_safely(&bytes);
    }

    /// Near misses reach deeper than noise.
    #[test]
    fn altered_encodings_decode_safely(
        block in blocks(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = block.encode();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        decodes_safely::<Block>(&bytes);
        let transaction = bytes.get(188..).unwrap_or_default();
        decodes_safely::<SignedTransaction>(transaction);
        decodes_safely::<TransactionBody>(transaction);
    }

    /// Every count is tried at its extremes.
    #[test]
    fn large_counts_decode_safely(mut bytes in vec(any::<u8>(), 8..400), place: prop::sample::Index) {
        let place = place.index(bytes.len() - 4);
        bytes[0] = 1;
        bytes[place..place + 4].fill(0xff);
        all_decode_safely(&bytes);
        bytes[..4].fill(0xff);
        all_decode_safely(&bytes);
    }
}

#[test]
fn a_real_payment_takes_about_360_bytes() {
    // Protocol §3: later transactions leave the key out.
    let genesis = BlockHash::ZERO;
    let size = |sequence| {
        key(0)
            .pay(&genesis, sequence, 1, &[(key(1).address, 1)])
            .size()
    };
    assert_eq!(size(1), 351);
    assert_eq!(size(0), 351 + 256);
}
