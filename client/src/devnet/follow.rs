//! Following the chain of the first node: blocks and finality are shown as they
//! come.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_client::Client;

use super::network::Network;
use super::view::View;

/// Longest wait for one step; a block is due every two seconds.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(300);
/// More of it for each block that a step is to see.
pub(super) const BLOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Shows blocks and finality as they come, after a known block or from now on,
/// until `enough` says so, no longer than `limit`.
pub(super) async fn follow(
    client: &Client,
    view: &View,
    known: Vec<String>,
    limit: Duration,
    mut enough: impl FnMut(&Event) -> bool,
) -> Result<()> {
    let following = async {
        let mut shown = Shown::new(client, known).await?;
        loop {
            let event = shown.next(view).await?;
            if enough(&event) {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(limit, following)
        .await
        .with_context(|| format!("the step did not end within {} s", limit.as_secs()))?
}

/// Shows blocks and finality as they come, for ever.
pub(super) async fn keep_watching(network: &Network, view: &View) -> Result<()> {
    let mut shown = Shown::new(network.client(), Vec::new()).await?;
    loop {
        shown.next(view).await?;
    }
}

/// A chain that is followed, and how much of it is secured.
struct Shown<'a> {
    client: &'a Client,
    events: tonic::Streaming<v1::SubscribeChainResponse>,
    tip: u64,
    approved: u64,
}

impl<'a> Shown<'a> {
    async fn new(client: &'a Client, known: Vec<String>) -> Result<Self> {
        let view = v1::BlockView::Txids;
        Ok(Self {
            client,
            events: client.subscribe_chain(known, view).await?,
            tip: 0,
            approved: 0,
        })
    }

    /// Shows the next event and returns it.
    async fn next(&mut self, view: &View) -> Result<Event> {
        while let Some(message) = self.client.next(&mut self.events).await? {
            let Some(event) = message.event else {
                continue;
            };
            match &event {
                Event::Connected(block) => {
                    self.tip = block.header.as_ref().map_or(0, |header| header.height);
                    view.block(block);
                }
                Event::Start(header) => self.tip = header.height,
                Event::Disconnected(_) => self.tip = self.tip.saturating_sub(1),
                // What is approved is shown with what that made final.
                Event::Approved(header) => self.approved = header.height,
                Event::Final(header) if header.height > 0 => {
                    view.secured(self.tip, self.approved.max(header.height), header.height);
                }
                Event::Final(_) => {}
            }
            return Ok(event);
        }
        bail!("the node ended the stream of blocks")
    }
}
