//! Which inbound peer has to leave when all inbound places are taken and another peer has a claim
//! to one. Knows no connections: a candidate is what the gate says of a peer.
//!
//! New identities cost nothing, so an attacker who wants all places can always ask for more. The
//! rules protect peers for merits that an attacker can't have cheaply:
//!
//! 1. Four peers stay for their providers: the longest connected peer of each of four providers.
//!    A secret decides which providers these are, different in each process.
//! 2. Of the rest, the eight with the shortest round trips stay.
//! 3. Of the rest, the four that were most recently the first to announce a block stay.
//! 4. Of the rest, the half that has been connected longest stays.
//! 5. Among the peers that are left, the provider with the most peers loses its newest one. If
//!    no peer is left, none has to leave; the caller decides what that means.
//!
//! Example: 40 peers, each of a provider of its own, with round trips and no blocks. Rule 1 keeps
//! 4, rule 2 keeps 8, rule 3 none, rule 4 keeps 14 of the other 28, and the newest of the last 14
//! leaves.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use libp2p::PeerId;

use crate::policy::ip_prefix::IpPrefix;

/// Peers that stay for their providers (rule 1).
const DIVERSE_KEPT: usize = 4;
/// Peers that stay for their round trip (rule 2).
const NEAR_KEPT: usize = 8;
/// Peers that stay for the blocks that they announced first (rule 3).
const USEFUL_KEPT: usize = 4;

/// An inbound peer, and its merits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EvictionCandidate {
    pub(crate) peer: PeerId,
    /// The peer's number in the gate's count of arrivals.
    pub(crate) arrival: u64,
    pub(crate) latency: Option<Duration>,
    /// When the peer was last the first to announce a block, in the same count; 0 for never.
    pub(crate) block_at: u64,
    pub(crate) provider: Option<IpPrefix>,
}

/// The peer that has to leave; `None` if all have earned their places.
#[must_use]
pub(crate) fn choose(mut peers: Vec<EvictionCandidate>, secret: &RandomState) -> Option<PeerId> {
    let place = |one: &EvictionCandidate| secret.hash_one(one.provider);
    peers.sort_by_key(|one| (one.provider.is_none(), place(one)));
    let mut diverse = Vec::new();
    for one in &peers {
        if diverse.len() < DIVERSE_KEPT
            && one.provider.is_some()
            && !diverse.contains(&one.provider)
        {
            diverse.push(one.provider);
        }
    }
    for provider in diverse {
        let same = peers
            .iter()
            .enumerate()
            .filter(|(_, one)| one.provider == provider);
        if let Some((index, _)) = same.min_by_key(|(_, one)| one.arrival) {
            peers.swap_remove(index);
        }
    }
    keep(&mut peers, NEAR_KEPT, |one| {
        one.latency.map(std::cmp::Reverse)
    });
    keep(&mut peers, USEFUL_KEPT, |one| {
        (one.block_at > 0).then_some(one.block_at)
    });
    let half = peers.len() / 2;
    keep(&mut peers, half, |one| Some(std::cmp::Reverse(one.arrival)));
    newest_of_crowd(&peers)
}

/// The newest peer of the provider that has the most peers among these.
#[must_use]
pub(crate) fn newest_of_crowd(peers: &[EvictionCandidate]) -> Option<PeerId> {
    let mut places = HashMap::new();
    for one in peers {
        *places.entry(one.provider).or_insert(0_usize) += 1;
    }
    let newest = |one: &&EvictionCandidate| (places.get(&one.provider).copied(), one.arrival);
    peers.iter().max_by_key(newest).map(|one| one.peer)
}

/// Takes up to `count` peers with the highest merit out of the list: these stay. A peer whose
/// merit is `None` is not taken out.
fn keep<M: Ord>(
    peers: &mut Vec<EvictionCandidate>,
    count: usize,
    merit: impl Fn(&EvictionCandidate) -> Option<M>,
) {
    peers.sort_by_key(|one| std::cmp::Reverse(merit(one)));
    let with_merit = peers.iter().take(count).filter(|one| merit(one).is_some());
    let kept = with_merit.count();
    peers.drain(..kept);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn peer(arrival: u64, ip: &str) -> EvictionCandidate {
        EvictionCandidate {
            peer: PeerId::random(),
            arrival,
            latency: None,
            block_at: 0,
            provider: Some(IpPrefix::provider(ip.parse().unwrap())),
        }
    }

    /// Lets newcomers of one provider arrive until no other peer is left to evict.
    fn besiege(mut peers: Vec<EvictionCandidate>) -> Vec<EvictionCandidate> {
        let (places, secret) = (peers.len(), RandomState::new());
        for arrival in 1_000..2_000 {
            let Some(leaves) = choose(peers.clone(), &secret) else {
                break;
            };
            peers.retain(|one| one.peer != leaves);
            peers.push(peer(arrival, "203.0.113.1"));
            assert_eq!(peers.len(), places);
        }
        peers
    }

    #[test]
    fn the_newest_of_the_most_crowded_place_leaves() {
        let mut peers: Vec<_> = (0..10)
            .map(|last| peer(last, &format!("198.{last}.0.1")))
            .collect();
        let crowd: Vec<_> = (10..30).map(|last| peer(last, "203.0.113.1")).collect();
        peers.extend(crowd.clone());
        assert_eq!(
            choose(peers, &RandomState::new()),
            Some(crowd.last().unwrap().peer)
        );
    }

    #[test]
    fn merit_outlasts_a_siege() {
        let mut peers: Vec<_> = (0..64_u64)
            .map(|last| peer(last, &format!("198.{}.0.1", last % 16)))
            .collect();
        // The newest peers, so that they have no other merit.
        for (index, one) in peers.iter_mut().enumerate().skip(56) {
            if index < 60 {
                one.latency = Some(Duration::from_millis(index as u64));
            } else {
                one.block_at = index as u64;
            }
        }
        let worthy: Vec<_> = peers[56..].iter().map(|one| one.peer).collect();
        let left = besiege(peers.clone());
        assert!(
            worthy
                .iter()
                .all(|one| left.iter().any(|other| other.peer == *one))
        );
        // More than half of the peers that were there before stay, too.
        let old = left.iter().filter(|one| one.arrival < 64).count();
        assert!(old > 32, "{old}");
        let parts: std::collections::HashSet<_> = left.iter().map(|one| one.provider).collect();
        assert!(parts.len() > DIVERSE_KEPT, "{parts:?}");
    }

    #[test]
    fn a_few_who_have_earned_it_all_stay() {
        let peers = (0..4)
            .map(|last| peer(last, &format!("198.{last}.0.1")))
            .collect();
        assert_eq!(choose(peers, &RandomState::new()), None);
    }
}
