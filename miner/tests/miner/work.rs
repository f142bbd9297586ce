//! Work as a node sends it: which messages are taken, which are refused, and which headers
//! come of them.

use std::time::{Duration, Instant};

use pithead_api::v1::SubscribeWorkResponse;
use pithead_consensus::{Address, BlockCommitment, Decode as _};
use pithead_miner::work::{MiningWork, WorkError};
use proptest::prelude::*;

use crate::fake_node::{WorkSpec, reward_address};

fn check(message: SubscribeWorkResponse) -> Result<MiningWork, WorkError> {
    MiningWork::from_message(message, &reward_address(), 1, Instant::now())
}

fn message() -> SubscribeWorkResponse {
    WorkSpec::default().message()
}

fn refused(change: impl FnOnce(&mut SubscribeWorkResponse)) -> WorkError {
    let mut message = message();
    change(&mut message);
    check(message).unwrap_err()
}

#[test]
fn takes_work_that_holds_together() {
    let work = check(message()).unwrap();
    assert_eq!(work.height, WorkSpec::default().height);
    assert_eq!(work.header.bits.to_target().unwrap(), work.block_target);
}

#[test]
fn refuses_malformed_work() {
    let short = refused(|m| m.header = m.header.slice(..79));
    assert!(matches!(short, WorkError::Malformed { part: "header", .. }));
    let short = refused(|m| m.commitment = m.commitment.slice(..103));
    assert!(matches!(
        short,
        WorkError::Malformed {
            part: "commitment",
            ..
        }
    ));
}

#[test]
fn refuses_bad_targets() {
    let short = refused(|m| m.share_target = m.share_target.slice(1..));
    assert!(matches!(
        short,
        WorkError::BadTarget {
            field: "share target",
            bytes: 31
        }
    ));
    let zero = refused(|m| m.target = vec![0; 32].into());
    assert!(matches!(
        zero,
        WorkError::BadTarget {
            field: "target",
            bytes: 32
        }
    ));
}

#[test]
fn refuses_target_mismatch() {
    let error = refused(|m| m.target = m.share_target.clone());
    assert!(matches!(error, WorkError::TargetMismatch { .. }));
}

#[test]
fn refuses_bad_bits() {
    let error = refused(|m| {
        let mut header = m.header.to_vec();
        header[72..76].fill(0);
        m.header = header.into();
    });
    assert!(matches!(error, WorkError::BadBits(_)));
}

#[test]
fn refuses_root_mismatch() {
    let error = refused(|m| {
        let mut commitment = m.commitment.to_vec();
        commitment[103] = 1;
        m.commitment = commitment.into();
    });
    assert!(matches!(error, WorkError::RootMismatch));
}

#[test]
fn refuses_to_pay_somebody_else() {
    let spec = WorkSpec {
        reward_address: Address([9; 32]),
        ..WorkSpec::default()
    };
    let error = check(spec.message()).unwrap_err();
    assert!(matches!(error, WorkError::WrongAddress { .. }));
}

#[test]
fn refuses_work_without_a_time() {
    let error = refused(|m| {
        std::mem::swap(&mut m.min_time, &mut m.max_time);
    });
    assert!(matches!(error, WorkError::NoTime { .. }));
}

#[test]
fn the_share_target_is_never_harder_than_the_block_target() {
    let mut message = message();
    message.share_target = [vec![1], vec![0; 31]].concat().into();
    let work = check(message).unwrap();
    assert_eq!(work.share_target, work.block_target);
}

#[test]
fn the_extra_nonce_goes_behind_the_subscriptions_own() {
    let spec = WorkSpec {
        prefix: *b"node",
        ..WorkSpec::default()
    };
    let work = check(spec.message()).unwrap();
    let header = work.header_with(*b"mine", 5);
    let mut commitment = BlockCommitment::decode(&spec.message().commitment).unwrap();
    commitment.extra_nonce = *b"nodemine";
    assert_eq!(header.merkle_root, commitment.merkle_root());
    assert_eq!(header.time, 5);
    assert_eq!(header.prev, work.header.prev);
}

proptest! {
    #[test]
    fn the_time_follows_the_clock_within_bounds(
        time in any::<u32>(),
        min in any::<u32>(),
        width in any::<u32>(),
        elapsed in 0u64..100_000,
    ) {
        let spec = WorkSpec {
            time,
            times: (min, min.saturating_add(width)),
            ..WorkSpec::default()
        };
        let work = check(spec.message()).unwrap();
        let at = work.time_at(work.arrived + Duration::from_secs(elapsed));
        prop_assert!((spec.times.0..=spec.times.1).contains(&at));
        let free = u64::from(time) + elapsed;
        let bounded = free.clamp(u64::from(spec.times.0), u64::from(spec.times.1));
        prop_assert_eq!(u64::from(at), bounded);
        // At the instant of the arrival, the time is the header's own.
        prop_assert_eq!(work.time_at(work.arrived), time.clamp(spec.times.0, spec.times.1));
    }

    #[test]
    fn no_bytes_make_it_panic(
        header in prop::collection::vec(any::<u8>(), 0..120),
        commitment in prop::collection::vec(any::<u8>(), 0..120),
        target in prop::collection::vec(any::<u8>(), 0..40),
        seconds in any::<i64>(),
    ) {
        let mut message = message();
        message.header = header.into();
        prop_assert!(check(message.clone()).is_err());
        message = self::message();
        message.commitment = commitment.into();
        prop_assert!(check(message).is_err());
        message = self::message();
        message.target = target.into();
        prop_assert!(check(message).is_err());
        message = self::message();
        message.min_time = Some(prost_types::Timestamp { seconds, nanos: -1 });
        let _ = check(message);
    }
}
