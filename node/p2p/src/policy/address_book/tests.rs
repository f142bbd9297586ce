//! Tests of the address book.

#![allow(clippy::unwrap_used)]

use super::*;

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn book() -> (AddressBook, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (AddressBook::open(dir.path(), PeerId::random()), dir)
}

#[test]
fn known_peers_and_anchors_survive_a_restart() {
    let (mut book, dir) = book();
    let [anchor, tried, heard] = [(); 3].map(|()| PeerId::random());
    book.add_hearsay(heard, vec![address("/ip4/203.0.113.3/tcp/1")]);
    for (peer, last) in [(anchor, 1), (tried, 2)] {
        book.reached(peer, address(&format!("/ip4/203.0.113.{last}/tcp/1")), 50);
    }
    book.set_anchors(&[anchor], 4);
    // A few peers after a restart do not displace the anchors.
    book.set_anchors(&[tried], 2);
    book.set_anchors(&[anchor], 1);
    book.unsaved().unwrap()();
    assert!(book.unsaved().is_none());
    let again = AddressBook::open(dir.path(), PeerId::random());
    let order: Vec<_> = again
        .candidates(0)
        .into_iter()
        .map(|one| one.peer)
        .collect();
    assert_eq!(order, [anchor, tried, heard]);
    // The book never lists the node itself.
    assert_eq!(AddressBook::open(dir.path(), anchor).len(), 2);
}

#[test]
fn damage_costs_the_book_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    for garbage in [
        &b"[[peer]]\nid = \"x\"\naddresses = [\"nowhere\"]"[..],
        &[0; 10],
    ] {
        std::fs::write(&path, garbage).unwrap();
        assert!(AddressBook::open(dir.path(), PeerId::random()).len() == 0);
    }
}

#[test]
fn failures_put_off_and_then_forget() {
    let (mut book, _dir) = book();
    let [heard, tried] = [(); 2].map(|()| PeerId::random());
    book.add_hearsay(heard, vec![address("/ip4/203.0.113.3/tcp/1")]);
    book.reached(tried, address("/ip4/203.0.113.4/tcp/1"), 50);
    let due = |book: &AddressBook, now_ms| book.candidates(now_ms).len();
    book.dial_failed(&heard, 0);
    book.dial_failed(&tried, 0);
    assert_eq!(due(&book, 0), 0);
    assert_eq!(due(&book, BACKOFF_FIRST_MS), 2);
    for _ in 1..UNTRIED_FAILURES_MAX {
        book.dial_failed(&heard, 0);
        book.dial_failed(&tried, 0);
    }
    assert!(!book.peers.contains_key(&heard) && book.peers.contains_key(&tried));
    assert_eq!(due(&book, BACKOFF_MAX_MS), 1);
    for _ in 0..TRIED_FAILURES_MAX {
        book.dial_failed(&tried, 0);
    }
    assert_eq!(book.len(), 0);
}

#[test]
fn pauses_grow_and_stay_bounded() {
    for failures in [1, 2, 10, 40, u32::MAX] {
        let pause = backoff_ms(failures);
        assert!((BACKOFF_FIRST_MS / 2..=BACKOFF_MAX_MS).contains(&pause));
    }
    assert!(backoff_ms(30) >= BACKOFF_MAX_MS / 2);
}

fn in_provider(number: u16) -> Vec<Multiaddr> {
    let [high, low] = number.to_be_bytes();
    vec![address(&format!("/ip4/203.0.{high}.{low}/tcp/1"))]
}

#[test]
fn one_provider_can_not_fill_the_book() {
    let (mut book, _dir) = book();
    for number in 0..500 {
        book.add_hearsay(PeerId::random(), in_provider(number));
    }
    assert_eq!(book.len(), PER_PROVIDER_MAX);
    for number in 0..5_000_u16 {
        let [high, low] = number.to_be_bytes();
        let there = address(&format!("/ip4/5{}.{high}.{low}.1/tcp/1", number % 5));
        book.add_hearsay(PeerId::random(), vec![there]);
    }
    assert_eq!(book.len(), UNTRIED_MAX);
    // Tried peers have room of their own, with the same share for each provider.
    for number in 0..500 {
        let there = in_provider(number).remove(0);
        book.reached(PeerId::random(), there, u64::from(number));
    }
    assert_eq!(book.len(), UNTRIED_MAX + PER_PROVIDER_MAX);
    for number in 0..5_000_u16 {
        let [high, low] = number.to_be_bytes();
        let there = address(&format!("/ip4/5{}.{high}.{low}.1/tcp/1", number % 5));
        book.reached(PeerId::random(), there, 1_000);
    }
    assert_eq!(book.len(), UNTRIED_MAX + TRIED_MAX);
}

#[test]
fn a_full_book_still_learns() {
    let (mut book, _dir) = book();
    for number in 0..u16::try_from(UNTRIED_MAX).unwrap() {
        let [high, low] = number.to_be_bytes();
        let there = address(&format!("/ip4/5{}.{high}.{low}.1/tcp/1", number % 5));
        book.add_hearsay(PeerId::random(), vec![there]);
    }
    let newcomers: Vec<_> = (0..PER_PROVIDER_MAX).map(|_| PeerId::random()).collect();
    for (number, peer) in newcomers.iter().enumerate() {
        book.add_hearsay(*peer, in_provider(u16::try_from(number).unwrap()));
    }
    let kept = newcomers
        .iter()
        .filter(|peer| book.peers.contains_key(peer));
    // Some newcomers displace each other; most stay.
    assert!(kept.count() > PER_PROVIDER_MAX / 2);
    assert_eq!(book.len(), UNTRIED_MAX);
}

#[test]
fn hearsay_does_not_replace_claims_and_claims_not_proof() {
    let (mut book, _dir) = book();
    let peer = PeerId::random();
    let [wrong, own, proven] =
        ["192.0.2.1", "198.51.100.1", "203.0.113.1"].map(|ip| address(&format!("/ip4/{ip}/tcp/1")));
    let known = |book: &AddressBook| book.candidates(0).remove(0);
    book.add_hearsay(peer, vec![wrong.clone()]);
    assert_eq!(known(&book).addresses, std::slice::from_ref(&wrong));
    book.set_claimed(peer, vec![own.clone()]);
    book.add_hearsay(peer, vec![wrong.clone()]);
    assert_eq!(known(&book).addresses, std::slice::from_ref(&own));
    book.reached(peer, proven.clone(), 1);
    book.add_hearsay(peer, vec![wrong.clone()]);
    assert_eq!(known(&book).addresses, [proven.clone(), own]);
    // Even the peer itself can't remove the proven address, or move to another provider.
    book.set_claimed(peer, vec![wrong.clone()]);
    assert_eq!(known(&book).addresses, [proven.clone(), wrong]);
    assert_eq!(known(&book).provider, provider_of(&proven));
}

#[test]
fn lies_about_a_stranger_do_not_keep_the_truth_out() {
    let (mut book, _dir) = book();
    let peer = PeerId::random();
    let lies: Vec<_> = (0..4).map(|number| in_provider(number).remove(0)).collect();
    book.add_hearsay(peer, lies);
    let truth = address("/ip4/198.51.100.1/tcp/1");
    book.add_hearsay(peer, vec![truth.clone()]);
    let known = book.candidates(0).remove(0).addresses;
    assert!(known.contains(&truth) && known.len() == ADDRESSES_MAX);
}

#[test]
fn claimed_addresses_are_cut_to_what_can_be_believed() {
    let far = address("/ip4/203.0.113.9/tcp/1");
    let near = address("/ip4/127.0.0.1/tcp/1");
    let lan = address("/ip4/192.168.1.9/tcp/1");
    let relay = PeerId::random();
    let relayed = address(&format!("/ip4/203.0.113.1/tcp/1/p2p/{relay}/p2p-circuit"));
    let claimed = || {
        let name = address("/dns/localhost/tcp/1");
        let any = address("/ip4/0.0.0.0/tcp/1");
        let (relayed, near) = (relayed.clone(), near.clone());
        vec![relayed, name, near, lan.clone(), far.clone(), any]
    };
    assert_eq!(believable(claimed(), &far), [far.clone(), relayed.clone()]);
    // Behind a relay, a peer may be anywhere.
    assert_eq!(
        believable(claimed(), &relayed),
        [far.clone(), relayed.clone()]
    );
    assert_eq!(
        believable(claimed(), &lan),
        [lan.clone(), far.clone(), relayed.clone()]
    );
    assert_eq!(believable(claimed(), &near).len(), 4);
    let many = (0..1_000).map(|number| in_provider(number).remove(0));
    assert_eq!(believable(many.collect(), &near).len(), ADDRESSES_MAX);
    let (mut book, _dir) = book();
    let long = format!("/dns/{}/tcp/1", "x".repeat(240));
    book.add_hearsay(PeerId::random(), vec![address(&long)]);
    book.set_claimed(PeerId::random(), vec![address(&long)]);
    assert_eq!(book.len(), 0);
}
