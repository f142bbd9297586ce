//! The reference network as 25 processes (protocol §9). Blocks become final while at least 20
//! validators are there, wait while there are fewer, and neither half of a split finalises anything.

#![allow(clippy::unwrap_used)]

use pithead_api::v1;
use pithead_testkit::process::reference::{Reference, VALIDATORS};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_of_twenty_five_confirm() {
    let mut all = Reference::new();
    all.start_group(0..VALIDATORS).await;
    for _ in 0..3 {
        let height = all.mine(0, 0..VALIDATORS).await;
        all.until_final(height - 1).await;
    }
    // With five away, 20 are left: a quorum.
    for index in 20..VALIDATORS {
        all.nodes[index].take().unwrap().kill();
    }
    let mut height = 0;
    for _ in 0..2 {
        height = all.mine(1, 0..VALIDATORS).await;
        all.until_final(height - 1).await;
    }
    // With six away, blocks are not approved any more.
    all.nodes[19].take().unwrap().kill();
    let pending = all.mine(2, 0..VALIDATORS).await;
    let pending = all.mine(3, 0..VALIDATORS).await.max(pending);
    // All 19 that are there have voted for both blocks, and that is not enough.
    all.until_approvals(4, height + 1, 19).await;
    all.until_approvals(4, height + 2, 19).await;
    let info = all.node(4).info().await;
    assert_eq!(
        (info.approved_height, info.final_height),
        (height, height - 1)
    );
    assert_eq!(pending, height + 2);
    // One comes back, and blocks become final again.
    let bootnode = all.address(0).await;
    all.start(19, Some(&bootnode));
    all.until(19, "it catches up", async |node| {
        node.height().await == pending
    })
    .await;
    // Its vote approves the first of the two blocks. The others have voted for the second
    // block already, from an older checkpoint, so the second may stay unapproved:
    // 1. The next block is approved once all vote for it from the same checkpoint.
    // 2. The block after it makes that block final.
    all.until(0, "the vote is made up for", async |node| {
        node.info().await.approved_height > height
    })
    .await;
    all.until_settled(pending).await;
    let next = all.mine(0, 0..VALIDATORS).await;
    all.until_approved(next).await;
    all.mine(0, 0..VALIDATORS).await;
    all.until_final(next).await;
    let mut client = all.node(7).network();
    let evidence = client
        .list_evidence(v1::ListEvidenceRequest::default())
        .await;
    assert!(evidence.unwrap().into_inner().evidence.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_of_a_split_finalise_nothing_and_heal() {
    const HALF: usize = 13;
    let mut all = Reference::new();
    all.start_group(0..VALIDATORS).await;
    let mut before = 0;
    for _ in 0..2 {
        before = all.mine(0, 0..VALIDATORS).await;
        all.until_final(before - 1).await;
    }
    all.until_approved(before).await;
    all.split(HALF, true).await;
    for _ in 0..3 {
        all.mine(0, 0..HALF).await;
    }
    for _ in 0..2 {
        all.mine(HALF, HALF..VALIDATORS).await;
    }
    // Each half has all its own votes, and neither has a quorum.
    for (index, top, count) in [(0, 3, HALF), (HALF, 2, VALIDATORS - HALF)] {
        for height in [before + 1, before + top] {
            all.until_approvals(index, height, count).await;
        }
        let info = all.node(index).info().await;
        assert_eq!(
            (info.approved_height, info.final_height),
            (before, before - 1)
        );
    }
    all.split(HALF, false).await;
    let request = v1::AddPeerRequest {
        address: all.address(HALF).await,
    };
    all.node(0).admin().add_peer(request).await.unwrap();
    // The half with less work follows the other. From then on, all validators vote for the same
    // new blocks.
    let tip = all.node(0).info().await.tip.unwrap().hash;
    for index in HALF..VALIDATORS {
        all.until(index, "it follows the longer chain", async |node| {
            node.info().await.tip.unwrap().hash == tip
        })
        .await;
    }
    all.until_approved(before + 3).await;
    let mut height = 0;
    for _ in 0..3 {
        height = all.mine(1, 0..VALIDATORS).await;
        all.until_approved(height).await;
    }
    all.until_final(height - 1).await;
    for index in 0..VALIDATORS {
        let info = all.node(index).info().await;
        assert!(!info.finality_conflict);
        let mut client = all.node(index).network();
        let request = v1::ListEvidenceRequest::default();
        let evidence = client.list_evidence(request).await;
        assert!(evidence.unwrap().into_inner().evidence.is_empty());
    }
}
