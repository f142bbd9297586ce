//! Who has to leave when all inbound places are taken and someone new comes.
//!
//! Identities cost nothing, so whoever wants all places can always ask for more.
//! What he can't have cheaply keeps a peer here: being near, having brought
//! blocks, having come from another part of the network, having come long ago.
//! Of the rest, the part of the network that holds the most places loses its
//! newest.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use libp2p::PeerId;

use crate::policy::address::Network;

/// Peers that stay for where they are; which parts of the network these are is
/// secret, and different in each process.
const DIVERSE_KEPT: usize = 4;
/// Peers that stay for their round trip.
const NEAR_KEPT: usize = 8;
/// Peers that stay for the blocks that they announced first.
const USEFUL_KEPT: usize = 4;

/// An inbound peer, and what speaks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) peer: PeerId,
    /// The how-manieth arrival it was.
    pub(crate) arrival: u64,
    pub(crate) latency: Option<Duration>,
    /// When it last was the first to announce a block, by the same count; 0:
    /// never.
    pub(crate) block_at: u64,
    pub(crate) provider: Option<Network>,
}

/// Who leaves; nobody, if all have earned their place.
#[must_use]
pub(crate) fn choose(mut peers: Vec<Candidate>, secret: &RandomState) -> Option<PeerId> {
    let place = |one: &Candidate| secret.hash_one(one.provider);
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
    // One of each such part: the one that has been here longest.
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

/// The newest of those from the part of the network that has the most here.
#[must_use]
pub(crate) fn newest_of_crowd(peers: &[Candidate]) -> Option<PeerId> {
    let mut places = HashMap::new();
    for one in peers {
        *places.entry(one.provider).or_insert(0_usize) += 1;
    }
    let newest = |one: &&Candidate| (places.get(&one.provider).copied(), one.arrival);
    peers.iter().max_by_key(newest).map(|one| one.peer)
}

/// Takes those out who stay: as many as that with the highest merit, if they have
/// any.
fn keep<M: Ord>(peers: &mut Vec<Candidate>, count: usize, merit: impl Fn(&Candidate) -> Option<M>) {
    peers.sort_by_key(|one| std::cmp::Reverse(merit(one)));
    let with_merit = peers.iter().take(count).filter(|one| merit(one).is_some());
    let kept = with_merit.count();
    peers.drain(..kept);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn peer(arrival: u64, ip: &str) -> Candidate {
        Candidate {
            peer: PeerId::random(),
            arrival,
            latency: None,
            block_at: 0,
            provider: Some(Network::provider(ip.parse().unwrap())),
        }
    }

    /// Lets newcomers of one provider come until nobody else is left to go.
    fn besiege(mut peers: Vec<Candidate>) -> Vec<Candidate> {
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
        // The newest, so that nothing else speaks for them.
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
        // And of all who were there before, more than half.
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
