//! What tests wait for at running nodes: a tip, a height, a condition. Every wait has an end
//! and fails with the node's log.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pithead_api::v1;

use super::node::TestNode;
use super::program::{PATIENCE, POLL};

impl TestNode {
    /// Polls until `look` finds something that no stream reports. `what` describes it in the
    /// failure.
    pub async fn until<T>(&self, what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
        self.until_within(PATIENCE, what, look).await
    }

    /// The same with another limit than [`PATIENCE`].
    pub async fn until_within<T>(
        &self,
        patience: Duration,
        what: &str,
        mut look: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < deadline, "{what}: {}", self.log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the log contains a text.
    pub async fn until_logged(&self, text: &str) {
        let what = format!("the log says {text:?}");
        self.until(&what, async || self.log().contains(text).then_some(()))
            .await;
    }

    /// Follows the chain until one of its blocks is the awaited one.
    async fn until_step(&self, what: &str, is_it: impl Fn(&v1::BlockHeader) -> bool) {
        use v1::subscribe_chain_response::Event;
        let request = v1::SubscribeChainRequest::default();
        let stream = self.chain().subscribe_chain(request).await;
        let mut stream = stream.unwrap().into_inner();
        let following = async {
            loop {
                let step = stream.message().await.unwrap().expect("it goes on");
                let header = match step.event.unwrap() {
                    Event::Start(header) => header,
                    Event::Connected(block) => block.header.unwrap(),
                    _ => continue,
                };
                if is_it(&header) {
                    return;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, following).await.is_err() {
            panic!("{what}: {}", self.log());
        }
    }

    /// Waits until a block has become the tip; another may have followed by then.
    pub async fn until_tip(&self, hash: &str) {
        self.until_step(&format!("the tip is {hash}"), |tip| tip.hash == hash)
            .await;
    }

    /// Waits until the chain has so many blocks.
    pub async fn until_height(&self, height: u64) {
        self.until_step(&format!("{height} blocks"), |tip| tip.height >= height)
            .await;
    }
}

/// Waits until each node has approved the checkpoint at a height or has all `votes` votes for it,
/// and all nodes have the same highest approved checkpoint. All validators then vote for the next
/// block from that same checkpoint.
pub async fn until_settled(nodes: &[&TestNode], height: u64, votes: usize, patience: Duration) {
    for node in nodes {
        node.until_within(patience, "every vote comes", async || {
            let settled = node.info().await.approved_height >= height
                || node.approvals_at(height).await >= votes;
            settled.then_some(())
        })
        .await;
    }
    nodes[0]
        .until_within(patience, "all approve the same", async || {
            let mut approved = BTreeSet::new();
            for node in nodes {
                approved.insert(node.info().await.approved_height);
            }
            (approved.len() == 1).then_some(())
        })
        .await;
}
