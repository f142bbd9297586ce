//! Follows the chain of the first node and shows blocks and finality as they come.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_client::Client;

use super::processes::Devnet;
use super::view::DevnetView;

/// Longest wait for one step; a block is mined every two seconds on average.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(300);
/// Additional wait for each block that a step waits for.
pub(super) const BLOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Shows blocks and finality as they come, after the block `known` or from the tip
/// on, until `enough` says so. Fails after `limit`.
pub(super) async fn follow(
    client: &Client,
    view: &DevnetView,
    known: Vec<String>,
    limit: Duration,
    mut enough: impl FnMut(&Event) -> bool,
) -> Result<()> {
    let following = async {
        let mut shown = ChainStream::new(client, known).await?;
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
pub(super) async fn keep_watching(devnet: &Devnet, view: &DevnetView) -> Result<()> {
    let mut shown = ChainStream::new(devnet.client(), Vec::new()).await?;
    loop {
        shown.next(view).await?;
    }
}

/// A stream of the chain, and the heights that it has told so far.
struct ChainStream<'a> {
    client: &'a Client,
    events: tonic::Streaming<v1::SubscribeChainResponse>,
    tip: u64,
    approved: u64,
}

impl<'a> ChainStream<'a> {
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
    async fn next(&mut self, view: &DevnetView) -> Result<Event> {
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
