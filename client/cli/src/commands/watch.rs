//! `pithead watch`: shows the chain as it grows, with its reorganisations. When
//! the connection breaks, it resumes without a gap.

use std::collections::VecDeque;
use std::time::Duration;

use clap::Args;
use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_client::{Client, ClientError};
use pithead_consensus::BlockHash;

use super::context::Context;
use super::names::{WalletNames, short_named};
use crate::terminal::output::{DIM, GREEN, RED, YELLOW, note};
use crate::terminal::show::{BlockJson, HeaderJson};
use crate::terminal::words::{counted, iso, pit, short_hash};

/// Hashes kept to resume from: as many as a node takes.
const KNOWN_HASHES_MAX: usize = 101;
/// Pause before the first try to reconnect; it doubles up to the longest.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// The longest pause between tries.
const BACKOFF_MAX: Duration = Duration::from_secs(8);

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Start after this block instead of at the tip.
    #[arg(long, value_name = "HASH")]
    from: Option<BlockHash>,
    /// End after this many new blocks.
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
}

/// What has been shown of the chain so far.
struct ChainWatch<'a> {
    context: &'a Context,
    names: WalletNames,
    /// Hashes of the chain as shown so far, newest first.
    known: VecDeque<String>,
    /// Blocks that have left the chain since the last one that joined it.
    left: u64,
    /// Blocks that joined the chain.
    joined: u64,
    /// Height of the tip as shown.
    tip_height: u64,
    /// Blocks to see before the end.
    wanted: Option<u64>,
}

pub(crate) async fn run(context: &Context, args: WatchArgs) -> anyhow::Result<()> {
    let (client, chain, _) = context.connect_to_chain().await?;
    let mut watch = ChainWatch {
        context,
        names: context.names(&chain),
        known: args.from.iter().map(ToString::to_string).collect(),
        left: 0,
        joined: 0,
        tip_height: 0,
        wanted: args.count,
    };
    let mut backoff = BACKOFF_MIN;
    let mut connected_once = false;
    while !watch.is_done() {
        let seen = watch.joined;
        let ended = watch.follow(&client, &mut connected_once).await;
        if watch.joined > seen {
            backoff = BACKOFF_MIN;
        }
        let reason = match ended {
            Ok(()) if watch.is_done() => break,
            Ok(()) => "the node ended the stream".to_owned(),
            Err(StreamEnd::Output(error)) => return Err(error),
            Err(StreamEnd::Node(error)) if !connected_once => return Err(error.into()),
            Err(StreamEnd::Node(ClientError::NotFound { .. })) => {
                note("the node knows none of the blocks shown so far: going on at its tip");
                watch.known.clear();
                continue;
            }
            // A node that dropped this client for reading too slowly is asked again, too.
            Err(StreamEnd::Node(
                error @ (ClientError::RateLimited { .. } | ClientError::Status { .. }),
            )) => error.to_string(),
            Err(StreamEnd::Node(error)) if error.is_disconnect() => error.to_string(),
            Err(StreamEnd::Node(error)) => return Err(error.into()),
        };
        note(format!(
            "{reason}; trying again in {} ms",
            backoff.as_millis()
        ));
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    Ok(())
}

/// Why a stream of blocks broke.
enum StreamEnd {
    /// The node refused, or the connection broke.
    Node(ClientError),
    /// Standard output is closed.
    Output(anyhow::Error),
}

impl From<ClientError> for StreamEnd {
    fn from(error: ClientError) -> Self {
        Self::Node(error)
    }
}

impl From<anyhow::Error> for StreamEnd {
    fn from(error: anyhow::Error) -> Self {
        Self::Output(error)
    }
}

impl ChainWatch<'_> {
    fn is_done(&self) -> bool {
        self.wanted.is_some_and(|wanted| self.joined >= wanted)
    }

    async fn follow(
        &mut self,
        client: &Client,
        connected_once: &mut bool,
    ) -> Result<(), StreamEnd> {
        let known: Vec<String> = self.known.iter().cloned().collect();
        let mut stream = client.subscribe_chain(known, v1::BlockView::Header).await?;
        while !self.is_done() {
            let Some(message) = client.next(&mut stream).await? else {
                return Ok(());
            };
            *connected_once = true;
            if self.context.json() {
                self.print_json(&message)?;
            } else {
                self.print(&message)?;
            }
            self.advance(&message);
        }
        Ok(())
    }

    /// Keeps the hashes of the chain as shown, to resume from them.
    fn advance(&mut self, message: &v1::SubscribeChainResponse) {
        match &message.event {
            Some(Event::Start(header)) => {
                self.tip_height = header.height;
                // The node starts below the last block shown: the blocks above left the chain.
                while self.known.front().is_some_and(|hash| *hash != header.hash) {
                    self.known.pop_front();
                }
                if self.known.is_empty() {
                    self.known.push_front(header.hash.clone());
                }
            }
            Some(Event::Connected(block)) => {
                self.tip_height = block.header.as_ref().map_or(0, |header| header.height);
                self.joined += 1;
                self.left = 0;
                self.known.push_front(message.cursor.clone());
                self.known.truncate(KNOWN_HASHES_MAX);
            }
            Some(Event::Disconnected(block)) => {
                self.left += 1;
                self.tip_height = self.tip_height.saturating_sub(1);
                let gone = block.header.as_ref().map(|header| &header.hash);
                if self.known.front() == gone {
                    self.known.pop_front();
                }
                if self.known.front() != Some(&message.cursor) {
                    self.known.push_front(message.cursor.clone());
                }
            }
            _ => {}
        }
    }

    fn print(&self, message: &v1::SubscribeChainResponse) -> anyhow::Result<()> {
        let out = self.context.out;
        let place = |header: &v1::BlockHeader| {
            format!("{:>7}  {}", header.height, short_hash(&header.hash))
        };
        let line = match &message.event {
            Some(Event::Start(header)) => {
                let text = format!("{}  {}", iso(header.time.as_ref()), place(header));
                format!("{}  {text}", out.paint(&[DIM], "at      "))
            }
            Some(Event::Connected(block)) => {
                let header = block.header.clone().unwrap_or_default();
                let commitment = block.commitment.clone().unwrap_or_default();
                if self.left > 0 {
                    let text = format!(
                        "reorganisation: {} left the chain at height {}",
                        counted(self.left, "block"),
                        header.height
                    );
                    out.line(out.paint(&[YELLOW], &text))?;
                }
                format!(
                    "{}  {}  {}  {:>4} txs  fees {} PIT  reward to {}",
                    out.paint(&[GREEN], "block   "),
                    iso(header.time.as_ref()),
                    place(&header),
                    block.transaction_count,
                    pit(block.fees),
                    short_named(&self.names, &commitment.reward_address),
                )
            }
            Some(Event::Disconnected(block)) => {
                let header = block.header.clone().unwrap_or_default();
                let text = format!("{}  {}", iso(header.time.as_ref()), place(&header));
                format!("{}  {text}  left the chain", out.paint(&[RED], "stale   "))
            }
            Some(Event::Approved(header)) => self.secured("approved", header, &place(header)),
            Some(Event::Final(header)) => self.secured("final   ", header, &place(header)),
            None => return Ok(()),
        };
        Ok(out.line(line)?)
    }

    /// The line of a checkpoint that the validators approved, or that is final.
    fn secured(&self, what: &str, header: &v1::BlockHeader, place: &str) -> String {
        let lag = self.tip_height.saturating_sub(header.height);
        let behind = match lag {
            0 => "the tip".to_owned(),
            _ => format!("{} behind the tip", counted(lag, "block")),
        };
        let out = self.context.out;
        let time = iso(header.time.as_ref());
        format!("{}  {time}  {place}  {behind}", out.paint(&[GREEN], what))
    }

    fn print_json(&self, message: &v1::SubscribeChainResponse) -> anyhow::Result<()> {
        let header = |header: &v1::BlockHeader| serde_json::to_value(HeaderJson::from(header));
        let block = |block: &v1::Block| serde_json::to_value(BlockJson::from(block));
        let (event, key, value) = match &message.event {
            Some(Event::Start(found)) => ("start", "header", header(found)?),
            Some(Event::Connected(found)) => ("connected", "block", block(found)?),
            Some(Event::Disconnected(found)) => ("disconnected", "block", block(found)?),
            Some(Event::Approved(found)) => ("approved", "header", header(found)?),
            Some(Event::Final(found)) => ("final", "header", header(found)?),
            None => return Ok(()),
        };
        self.context.out.json_line(&serde_json::json!({
            "event": event,
            "cursor": message.cursor,
            key: value,
        }))
    }
}
