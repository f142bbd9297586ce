//! A real node whose clock is behind that of the peer that it chose: miners, operators and the
//! health service are told, and the peer is not blamed. When a clock counts as behind is tested
//! without sockets, in `pithead-core`.

use std::time::Duration;

use super::raw::{RawPeer, bans, framed};
use pithead_api::v1;
use pithead_consensus::{Checkpoint, Decode as _, Encode as _, Height};
use pithead_core::sync::{Request, Response, Status};
use pithead_testkit::key;
use pithead_testkit::process::{Network, TestNode, data_dir, end_of, next, now, reason};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

async fn serves_miners(node: &TestNode) -> bool {
    let request = HealthCheckRequest {
        service: "pithead.v1.MiningService".to_owned(),
    };
    let answer = HealthClient::new(node.channel()).check(request).await;
    answer.unwrap().into_inner().status() == ServingStatus::Serving
}

async fn subscribe(
    node: &TestNode,
    network: &Network,
) -> Result<tonic::Streaming<v1::SubscribeWorkResponse>, tonic::Status> {
    let request = v1::SubscribeWorkRequest {
        reward_address: network.address(7),
        ..v1::SubscribeWorkRequest::default()
    };
    let answer = node.mining().subscribe_work(request).await?;
    Ok(answer.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_behind_gives_miners_no_work_and_says_why() {
    let network = Network::easy();
    let dir = data_dir();
    let node = TestNode::start_with(&network, dir.path(), &["--listen", "/ip4/127.0.0.1/tcp/0"]);
    let mut work = subscribe(&node, &network).await.unwrap();
    next(&mut work).await;
    assert!(serves_miners(&node).await);
    assert_eq!(node.node_info().await.clock_behind_secs, 0);

    // To this peer it is an hour later.
    let chain = network.mirror();
    let elapsed = u32::try_from(now()).unwrap() + 3_600 - chain.tip().time;
    let header = chain.assemble(Vec::new(), key(7).address, elapsed).header;
    let one = header.bits.to_target().unwrap().work();
    let status = Status {
        best_hash: header.hash(),
        height: Height(1),
        chain_work: one.saturating_add(one),
        approved: Checkpoint {
            height: Height::GENESIS,
            hash: network.hash(),
        },
    };
    let mut peer = RawPeer::be_dialled(&network, &node, move |raw| {
        let response = match Request::decode(raw).ok()? {
            Request::Status(_) => Response::Status(status),
            Request::Headers { .. } => Response::Headers(vec![header]),
            _ => return None,
        };
        Some(framed(&response.encode()))
    })
    .await;
    peer.run_until("the node notices", async |_| {
        node.node_info().await.clock_behind_secs > 0
    })
    .await;
    let info = node.node_info().await;
    assert!((3_500..3_700).contains(&info.clock_behind_secs));
    assert!(!info.syncing);
    // Its miner is sent away, and no other is taken.
    let ended = end_of(&mut work).await.unwrap();
    let refused = subscribe(&node, &network).await.unwrap_err();
    for status in [ended, refused] {
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
        assert_eq!(reason(&status), "CLOCK_BEHIND");
        assert!(status.message().contains("set the clock"), "{status:?}");
    }
    peer.run_until("the health says so", async |_| !serves_miners(&node).await)
        .await;
    peer.run_for(Duration::from_secs(3)).await;
    let log = node.log();
    assert_eq!(log.matches("clock is behind: set it").count(), 1, "{log}");
    assert!(bans(&node).await.is_empty());

    // Once this chain has as much work, that block counts no more.
    let block = chain.assemble(Vec::new(), key(6).address, 1);
    let accepted = node.submit_block(&block).await;
    assert_eq!(accepted.outcome(), v1::SubmitOutcome::AcceptedBlock);
    peer.run_until("miners are served again", async |_| {
        serves_miners(&node).await
    })
    .await;
    assert_eq!(node.node_info().await.clock_behind_secs, 0);
    let mut work = subscribe(&node, &network).await.unwrap();
    assert_eq!(next(&mut work).await.height, 2);
}
