//! Blocks on request, for tests of applications: a node of a dev network mines when its
//! operator asks, no other node does, and a search never outlives the call that wants it.

use pithead_api::v1;
use pithead_testkit::PIT;
use pithead_testkit::process::{Network, TestNode, data_dir, reason, signal, violated_field};
use tonic::Code;

#[tokio::test]
async fn a_dev_node_mines_by_itself_and_no_other_does() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start(&network, dir.path());
    let request = |count| v1::MineBlocksRequest {
        count,
        reward_address: network.address(7),
    };
    let mined = node
        .admin()
        .mine_blocks(request(3))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((mined.height, mined.block_hashes.len()), (3, 3));
    assert_eq!(mined.block_hashes[2], node.info().await.tip.unwrap().hash);
    assert_eq!(node.account(&network, 7).await.balance, 150 * PIT);
    for count in [0, 1_001] {
        let status = node.admin().mine_blocks(request(count)).await.unwrap_err();
        assert_eq!(violated_field(&status), "count");
    }
    let unnamed = v1::MineBlocksRequest {
        count: 1,
        reward_address: String::new(),
    };
    let status = node.admin().mine_blocks(unnamed).await.unwrap_err();
    assert_eq!(violated_field(&status), "reward_address");

    let other = Network::with(|file| {
        file.address_prefix = "tpit".to_owned();
        file.allocations.clear();
    });
    let other_dir = data_dir();
    let node = TestNode::start(&other, other_dir.path());
    let request = v1::MineBlocksRequest {
        count: 1,
        reward_address: other.address(7),
    };
    let status = node.admin().mine_blocks(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(reason(&status), "NOT_A_DEV_NETWORK");
}

#[tokio::test]
async fn a_search_ends_with_the_call_that_wants_it() {
    // The target is so hard that no search ends.
    let network = Network::with(|file| {
        file.bits = 0x0101_0000;
    });
    for cut_off in [true, false] {
        let dir = data_dir();
        let mut node = TestNode::start(&network, dir.path());
        let request = v1::MineBlocksRequest {
            count: 1,
            reward_address: network.address(7),
        };
        let mut admin = node.admin();
        let mut call = Box::pin(async move { admin.mine_blocks(request).await });
        // A node takes up the requests of one connection in order: once the second one is
        // answered, the search has begun.
        tokio::select! {
            biased;
            answer = &mut call => panic!("{answer:?}"),
            _ = node.info() => {}
        }
        if cut_off {
            signal(node.pid(), "TERM");
            let status = call.await.unwrap_err();
            assert_eq!(reason(&status), "NODE_STOPPING");
        } else {
            drop(call);
            signal(node.pid(), "TERM");
        }
        assert!(node.wait().await.success(), "{}", node.log());
    }
}
