//! Bytes that are not an encoding.

use pithead_consensus::amount::AmountOutOfRangeError;
use pithead_consensus::key::PublicKeyError;
use pithead_consensus::transaction::{MAX_DATA_BYTES, MAX_OUTPUTS, MAX_TRANSACTION_BYTES};
use pithead_consensus::{
    Amount, Approval, Block, BlockHash, BlockHeader, Certificate, Decode, DecodeError, Encode,
    SignedTransaction, TransactionBody,
};

use pithead_testkit::{key, link};

fn transaction(sequence: u64) -> Vec<u8> {
    let genesis = BlockHash::ZERO;
    key(0)
        .pay(&genesis, sequence, 1, &[(key(1).address, 5)])
        .encode()
}

/// Offset of the key flag after a body with one output and no data.
const KEY_FLAG: usize = 1 + 1 + 32 + 8 + 8 + 2 + 40 + 2;

#[test]
fn rejects_unexpected_end() {
    let error = DecodeError::UnexpectedEnd {
        field: "nonce",
        needed: 4,
        left: 3,
    };
    assert_eq!(BlockHeader::decode(&[0; 79]), Err(error));
    let bytes = transaction(0);
    for size in 0..bytes.len() {
        let result = SignedTransaction::decode(&bytes[..size]);
        assert!(
            matches!(result, Err(DecodeError::UnexpectedEnd { .. })),
            "{size}: {result:?}"
        );
    }
}

#[test]
fn rejects_trailing_bytes() {
    let mut bytes = transaction(0);
    bytes.extend([0, 0]);
    let error = DecodeError::TrailingBytes { count: 2 };
    assert_eq!(SignedTransaction::decode(&bytes), Err(error));
}

#[test]
fn rejects_bad_value() {
    for (offset, found, field, expected) in [
        (0, 2, "transaction version", "1"),
        (1, 1, "transaction kind", "0 (transfer)"),
        (KEY_FLAG, 2, "key flag", "0 or 1"),
    ] {
        let mut bytes = transaction(0);
        bytes[offset] = found;
        let error = DecodeError::BadValue {
            field,
            found: u64::from(found),
            expected,
        };
        assert_eq!(SignedTransaction::decode(&bytes), Err(error));
    }
    let mut bytes = key(0)
        .approve(&BlockHash::ZERO, link(0, 10))
        .approval
        .encode();
    bytes[0] = 0;
    assert!(matches!(
        Approval::decode(&bytes),
        Err(DecodeError::BadValue {
            field: "approval version",
            found: 0,
            ..
        })
    ));
    let mut bytes = [2; 85];
    assert!(matches!(
        Certificate::decode(&bytes),
        Err(DecodeError::BadValue {
            field: "certificate version",
            found: 2,
            ..
        })
    ));
    bytes[0] = 1;
    assert!(matches!(
        Certificate::decode(&bytes),
        Err(DecodeError::OverLimit { .. })
    ));
}

#[test]
fn rejects_over_limit() {
    // The input could hold these counts, but the protocol forbids them.
    let mut body = TransactionBody::decode(&transaction(0)[..KEY_FLAG]).unwrap();
    body.outputs = vec![body.outputs[0]; MAX_OUTPUTS];
    body.data = vec![1; MAX_DATA_BYTES];
    assert_eq!(TransactionBody::decode(&body.encode()), Ok(body.clone()));
    let mut outputs = body.clone();
    outputs.outputs.push(body.outputs[0]);
    let error = DecodeError::OverLimit {
        field: "output count",
        found: MAX_OUTPUTS + 1,
        max: MAX_OUTPUTS,
    };
    assert_eq!(TransactionBody::decode(&outputs.encode()), Err(error));
    let mut data = body;
    data.data.push(1);
    let error = DecodeError::OverLimit {
        field: "data length",
        found: MAX_DATA_BYTES + 1,
        max: MAX_DATA_BYTES,
    };
    assert_eq!(TransactionBody::decode(&data.encode()), Err(error));

    let long = vec![0; MAX_TRANSACTION_BYTES + 1];
    let error = DecodeError::OverLimit {
        field: "transaction size",
        found: long.len(),
        max: MAX_TRANSACTION_BYTES,
    };
    assert_eq!(SignedTransaction::decode(&long), Err(error));

    // The input can't hold these counts.
    let mut block = vec![0; 80 + 104];
    block.extend(u32::MAX.to_le_bytes());
    assert!(matches!(
        Block::decode(&block),
        Err(DecodeError::OverLimit {
            field: "transaction count",
            max: 0,
            ..
        })
    ));
}

#[test]
fn rejects_amount_out_of_range() {
    let found = Amount::MAX_MONEY.grains() + 1;
    let mut bytes = transaction(0);
    let fee = 1 + 1 + 32 + 8;
    bytes[fee..fee + 8].copy_from_slice(&found.to_le_bytes());
    let error = DecodeError::AmountOutOfRange {
        field: "fee",
        error: AmountOutOfRangeError {
            found: u128::from(found),
        },
    };
    assert_eq!(SignedTransaction::decode(&bytes), Err(error));
}

#[test]
fn rejects_bad_public_key() {
    let mut bytes = transaction(0);
    bytes[KEY_FLAG + 1] &= 0x7f;
    let error = DecodeError::BadPublicKey(PublicKeyError::TopBitClear);
    assert_eq!(SignedTransaction::decode(&bytes), Err(error));
}
