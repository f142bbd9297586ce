//! Measures how long blocks take to be approved and to become final, as a client
//! of the first node sees it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use pithead_api::v1;
use pithead_api::v1::subscribe_chain_response::Event;
use pithead_client::Client;
use tokio::task::JoinHandle;

/// Most blocks that are measured at a time, and most measurements that are kept.
const BLOCKS_MAX: usize = 100_000;

/// Measures in the background until it is dropped.
pub(super) struct Stopwatch {
    times: Arc<Mutex<Times>>,
    task: JoinHandle<()>,
}

/// The measurements of both kinds of event.
#[derive(Debug, Default)]
pub(super) struct Times {
    approved: Latencies,
    last_final: Latencies,
}

/// Times from a block to the first event of one kind that covers it.
#[derive(Debug, Default)]
struct Latencies {
    /// When each block came that no event has covered yet, by height.
    open: BTreeMap<u64, Instant>,
    taken: Vec<Duration>,
}

/// A summary of the times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spread {
    /// Number of blocks that were measured.
    pub(super) count: usize,
    /// Half of the times are at most this long.
    pub(super) p50: Duration,
    /// 99 % of the times are at most this long.
    pub(super) p99: Duration,
}

impl Stopwatch {
    /// Follows the chain from its tip on.
    pub(super) async fn start(client: &Client) -> Result<Self> {
        let times = Arc::<Mutex<Times>>::default();
        let mut events = client
            .subscribe_chain(Vec::new(), v1::BlockView::Header)
            .await?;
        let (client, shared) = (client.clone(), Arc::clone(&times));
        let task = tokio::spawn(async move {
            // A stream that ends early ends the measuring, not the network.
            while let Ok(Some(message)) = client.next(&mut events).await {
                let now = Instant::now();
                if let Some(event) = &message.event {
                    let mut times = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    times.observe(event, now);
                }
            }
        });
        Ok(Self { times, task })
    }

    /// The times from block to approved, and from block to final.
    pub(super) fn spreads(&self) -> (Option<Spread>, Option<Spread>) {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        (times.approved.spread(), times.last_final.spread())
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Times {
    fn observe(&mut self, event: &Event, now: Instant) {
        let height_of = |block: &v1::Block| block.header.as_ref().map_or(0, |one| one.height);
        match event {
            Event::Connected(block) => {
                for latencies in [&mut self.approved, &mut self.last_final] {
                    latencies.begin(height_of(block), now);
                }
            }
            Event::Disconnected(block) => {
                for latencies in [&mut self.approved, &mut self.last_final] {
                    latencies.open.remove(&height_of(block));
                }
            }
            Event::Approved(header) => self.approved.end(header.height, now),
            Event::Final(header) => self.last_final.end(header.height, now),
            Event::Start(_) => {}
        }
    }
}

impl Latencies {
    fn begin(&mut self, height: u64, now: Instant) {
        if self.open.len() < BLOCKS_MAX {
            self.open.insert(height, now);
        }
    }

    /// Ends the measuring of every block up to this height: a checkpoint covers them.
    fn end(&mut self, height: u64, now: Instant) {
        while let Some(first) = self.open.first_entry()
            && *first.key() <= height
        {
            let taken = now.saturating_duration_since(first.remove());
            if self.taken.len() < BLOCKS_MAX {
                self.taken.push(taken);
            }
        }
    }

    fn spread(&self) -> Option<Spread> {
        let mut taken = self.taken.clone();
        taken.sort_unstable();
        // The nearest-rank percentile: the smallest time that so many per cent of all
        // times do not exceed.
        let rank = |percent: usize| {
            let rank = (taken.len() * percent).div_ceil(100).max(1);
            taken.get(rank - 1).copied()
        };
        Some(Spread {
            count: taken.len(),
            p50: rank(50)?,
            p99: rank(99)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn header(height: u64) -> v1::BlockHeader {
        v1::BlockHeader {
            height,
            ..v1::BlockHeader::default()
        }
    }

    fn block(height: u64) -> v1::Block {
        v1::Block {
            header: Some(header(height)),
            ..v1::Block::default()
        }
    }

    #[test]
    fn each_block_counts_until_a_checkpoint_covers_it() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut times = Times::default();
        assert_eq!(times.approved.spread(), None);
        for (event, seconds) in [
            // What was approved before the first block says nothing.
            (Event::Start(header(0)), 0),
            (Event::Approved(header(0)), 0),
            (Event::Connected(block(1)), 10),
            (Event::Connected(block(2)), 20),
            (Event::Disconnected(block(2)), 21),
            (Event::Connected(block(2)), 25),
            (Event::Approved(header(2)), 30),
            (Event::Final(header(1)), 31),
            // Told again after a reconnection: counted once.
            (Event::Approved(header(2)), 90),
        ] {
            times.observe(&event, at(seconds));
        }
        assert_eq!(
            times.approved.spread(),
            Some(Spread {
                count: 2,
                p50: Duration::from_secs(5),
                p99: Duration::from_secs(20),
            })
        );
        let spread = times.last_final.spread().unwrap();
        assert_eq!((spread.count, spread.p50), (1, Duration::from_secs(21)));
        assert_eq!(times.last_final.open.len(), 1);
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let latencies = Latencies {
            taken: (1..=200).map(Duration::from_millis).collect(),
            ..Latencies::default()
        };
        let spread = latencies.spread().unwrap();
        assert_eq!(spread.p50, Duration::from_millis(100));
        assert_eq!(spread.p99, Duration::from_millis(198));
    }
}
