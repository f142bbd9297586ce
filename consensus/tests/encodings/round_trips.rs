//! An encoded value decodes to the same value. No other bytes do.

use std::fmt::Debug;

use pithead_consensus::transaction::MAX_TRANSACTION_BYTES;
use pithead_consensus::{BlockHash, Decode, Encode, Evidence};
use proptest::prelude::*;

use crate::values::{
    accounts, approvals, blocks, bodies, certificates, commitments, headers, transactions,
    undo_records,
};
use pithead_testkit::key;

fn round_trips<T: Encode + Decode + PartialEq + Debug>(value: &T) {
    let bytes = value.encode();
    assert_eq!(T::decode(&bytes).as_ref(), Ok(value));
    // Encoding appends the same bytes to a buffer that is not empty.
    let mut appended = vec![7];
    value.encode_to(&mut appended);
    assert_eq!(appended[1..], bytes);
    // No shorter or longer input is the same value.
    assert!(T::decode(&bytes[..bytes.len() - 1]).is_err());
    assert!(T::decode(&[bytes, vec![0]].concat()).is_err());
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
        prop_assert!(value.size() <= MAX_TRANSACTION_BYTES);
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
