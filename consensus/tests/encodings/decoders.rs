//! Decoders that are given anything: no panic, and no more memory than the input
//! accounts for.

use pithead_consensus::approval::{Approval, Link, SignedApproval};
use pithead_consensus::state::UndoRecord;
use pithead_consensus::{
    Account, Block, BlockCommitment, BlockHeader, Certificate, Decode, Encode, Evidence,
    SignedTransaction, TransactionBody,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::allocated_by;
use crate::values::blocks;

/// Decodes any bytes. The decoder must not panic, nor take more memory than the input
/// accounts for. A value that it accepts must encode to the same bytes.
fn decodes_safely<T: Encode + Decode>(bytes: &[u8]) {
    let (result, allocated) = allocated_by(|| T::decode(bytes));
    // An output has the largest factor: 40 bytes either way. Boxes, and vectors that
    // double, take up to four times that.
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
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn any_bytes_decode_safely(bytes in vec(any::<u8>(), 0..1_000)) {
        all_decode_safely(&bytes);
    }

    /// An altered encoding reaches deeper into a decoder than noise.
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

    /// Tries every count at its extremes.
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
