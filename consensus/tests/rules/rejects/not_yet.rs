//! Headers that can't be checked yet.

use pithead_consensus::BlockHeader;
use pithead_consensus::check::{NotYet, check_time_at, known_parent};
use pithead_consensus::genesis::Network;

#[test]
fn rejects_time_too_far_ahead() {
    let genesis = Network::Main.genesis().unwrap();
    let now = 1_800_000_000;
    let at = |time| {
        let header = BlockHeader {
            time,
            ..genesis.block.header
        };
        check_time_at(&genesis.params, &header, u64::from(now))
    };
    assert_eq!(at(now + 120), Ok(()));
    let error = NotYet::TimeTooFarAhead {
        found: now + 121,
        now: u64::from(now),
        max_future_secs: 120,
    };
    assert_eq!(at(now + 121), Err(error));
    assert_eq!(at(0), Ok(()));
}

#[test]
fn rejects_missing_parent() {
    let header = Network::Main.genesis().unwrap().block.header;
    let error = NotYet::MissingParent {
        parent: header.prev,
    };
    assert_eq!(known_parent::<u8>(&header, None), Err(error));
    assert_eq!(known_parent(&header, Some(7)), Ok(7));
}
