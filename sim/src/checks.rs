//! What must hold: after each event, every half minute, and at the end.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use pithead_consensus::{BlockHash, Checkpoint};
use pithead_core::chain::verify;
use pithead_core::finality::{CONFLICTS_MAX, PROOFS_OF_ONE_MAX};
use pithead_core::store::{Snapshot, StoreError, Table};
use pithead_core::sync::{HEADERS_KEPT_MAX, SyncUsage};
use sha2::{Digest as _, Sha256};

use crate::finality::{state_of, status_of};
use crate::member::MEMPOOL_BYTES_MAX;
use crate::mining::next_work;
use crate::network::LINKS_MAX;
use crate::report::Moment;
use crate::schedule::Happening;
use crate::world::{SECOND_US, Simulation, Violation};

/// Requests to one peer without an answer (`node/src/sync/requests.rs`).
const PEER_REQUESTS_MAX: usize = 16;
/// Bytes of bodies that wait (`node/src/sync/download.rs`), and one answer.
const BODY_BYTES_MAX: usize = (96 + 4) << 20;
/// Announcements whose verdict is held back (`node/src/sync/announce.rs`).
const HELD_MAX: usize = 128;
/// Ids of transactions to be fetched (`node/src/sync/relay.rs`).
const WANTED_MAX: usize = 50_000;
/// Transactions that came too early (`node/src/sync/relay.rs`).
const EARLY_MAX: usize = 256;
/// Own transactions that are announced again (`node/src/sync/own.rs`).
const OWN_MAX: usize = 10_000;

/// Approvals of one validator (`node/src/finality/pool.rs`): two of each of the last
/// targets.
const APPROVALS_OF_ONE_MAX: usize = 2 * 128;

/// How often the network is looked at as a whole.
const INSPECT_US: u64 = 30 * SECOND_US;
/// After a split or a start a node has this long before it is held to the rest:
/// a few rounds of asking peers for their status.
const SETTLED_US: u64 = 240 * SECOND_US;
/// Blocks that were to be expected since the best chain last grew, and none came: by
/// chance once in e^20 blocks, half a thousand million.
const MISSING_BLOCKS_MAX: f64 = 20.0;
/// A node that starts mines no later than this.
const STARTED_US: u64 = 60 * SECOND_US;
/// How often a whole chain is replayed on the way.
const REPLAY_US: u64 = 240 * SECOND_US;
/// The same in longer runs: so often in all.
const REPLAYS_ON_THE_WAY: u64 = 6;
/// Nodes whose whole chain is replayed at the end; the others' tables are held
/// against theirs.
const REPLAYS_AT_END: usize = 3;

/// What the checks remember.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The best height at each inspection.
    heights: Vec<(u64, u64)>,
    /// Blocks that were to be expected since the best chain last grew.
    missing: f64,
    best_height: u64,
    /// The best chain at each inspection.
    pub(crate) timeline: Vec<Moment>,
    replayed_us: u64,
    pub(crate) inspections: u64,
    pub(crate) replays: u64,
}

impl Watch {
    /// A split has ended: progress is expected from here on.
    pub(crate) fn healed(&mut self) {
        self.missing = 0.0;
        self.heights.clear();
    }

    /// The best height that was known at least so long ago.
    fn height_before(&self, at_us: u64) -> u64 {
        let known = self.heights.iter().rev().find(|(when, _)| *when <= at_us);
        known.map_or(0, |(_, height)| *height)
    }
}

/// Holds what sync holds against its limits, and notes the most.
pub(crate) fn usage(now: &SyncUsage, most: &mut SyncUsage) -> Result<(), String> {
    let limits = [
        ("peers", now.peers, 2 * LINKS_MAX, &mut most.peers),
        ("headers", now.headers, HEADERS_KEPT_MAX, &mut most.headers),
        (
            "requests",
            now.requests,
            PEER_REQUESTS_MAX * 2 * LINKS_MAX,
            &mut most.requests,
        ),
        ("bodies", now.bodies, HEADERS_KEPT_MAX, &mut most.bodies),
        (
            "bytes of bodies",
            now.body_bytes,
            BODY_BYTES_MAX,
            &mut most.body_bytes,
        ),
        (
            "announcements held",
            now.held_announcements,
            HELD_MAX,
            &mut most.held_announcements,
        ),
        (
            "transactions wanted",
            now.wanted_transactions,
            WANTED_MAX,
            &mut most.wanted_transactions,
        ),
        (
            "own transactions",
            now.local_transactions,
            OWN_MAX,
            &mut most.local_transactions,
        ),
        (
            "early transactions",
            now.orphan_transactions,
            EARLY_MAX,
            &mut most.orphan_transactions,
        ),
    ];
    for (what, found, limit, most) in limits {
        if found > limit {
            return Err(format!("it holds {found} {what}, more than {limit}"));
        }
        *most = (*most).max(found);
    }
    Ok(())
}

impl Simulation {
    /// Whether the network has been whole for a while.
    pub(crate) fn is_settled(&self) -> bool {
        self.whole_since_us
            .is_some_and(|since| since == 0 || self.now_us >= since + SETTLED_US)
    }

    /// Honest nodes that have been up for a while.
    fn settled_members(&self) -> Vec<usize> {
        (0..self.members.len())
            .filter(|index| {
                let member = &self.members[*index];
                member.is_honest()
                    && member.node.is_some()
                    && self.now_us >= member.online_since_us + SETTLED_US
            })
            .collect()
    }

    /// The honest node with the most work behind its tip.
    pub(crate) fn best_honest(&self) -> Option<usize> {
        let honest = (0..self.members.len()).filter(|index| self.members[*index].is_honest());
        honest
            .filter_map(|index| {
                let node = self.members[index].node.as_ref()?;
                Some((node.chain().tip().chain_work, index))
            })
            // The first of equals, so that the order of nodes decides.
            .max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)))
            .map(|(_, index)| index)
    }

    /// Looks at the whole network.
    pub(crate) fn inspect(&mut self) -> Result<(), Violation> {
        self.after(INSPECT_US, Happening::Inspect);
        self.watch.inspections += 1;
        self.check_memory()?;
        let every_us = REPLAY_US.max(self.settings.secs * SECOND_US / REPLAYS_ON_THE_WAY);
        if self.now_us >= self.watch.replayed_us + every_us {
            self.watch.replayed_us = self.now_us;
            let index = self.dice.faults.below(self.members.len());
            if self.members[index].is_honest() && self.members[index].node.is_some() {
                self.replay(index)?;
            }
        }
        let Some(index) = self.best_honest() else {
            return Ok(());
        };
        let Some((best, height)) = self.members[index].tip() else {
            return Ok(());
        };
        self.note_moment(index, height);
        self.check_progress(index, height)?;
        let settled = self.settled_members();
        if self.is_settled() && self.now_us >= SETTLED_US {
            self.check_agreement(&settled, &best, height)?;
        }
        Ok(())
    }

    fn note_moment(&mut self, index: usize, height: u64) {
        if let Some(node) = &self.members[index].node {
            let status = status_of(node);
            self.watch.timeline.push(Moment {
                secs: self.secs(),
                height,
                approved: status.approved.height.0,
                last_final: status.last_final.height.0,
            });
        }
    }

    /// The chain grows as fast as those who mine on it let expect.
    fn check_progress(&mut self, best: usize, height: u64) -> Result<(), Violation> {
        let expected = self.expected_blocks(best, INSPECT_US);
        let watch = &mut self.watch;
        watch.heights.push((self.now_us, height));
        if height > watch.best_height {
            watch.best_height = height;
            watch.missing = 0.0;
            return Ok(());
        }
        // An approved chain wins over a longer one, and grows from where it is.
        if self.settings.validators > 0 {
            watch.best_height = height;
        }
        watch.missing += expected;
        if watch.missing > MISSING_BLOCKS_MAX {
            let what = format!(
                "no new best block where {:.0} were to be expected",
                watch.missing
            );
            return Err(self.violation(None, what));
        }
        Ok(())
    }

    /// Blocks that those who have been up for a while, and hear of the best chain,
    /// find in a time.
    fn expected_blocks(&self, best: usize, time_us: u64) -> f64 {
        let caught_up = self.is_settled() || self.whole_since_us.is_none();
        let work = self.members[best].node.as_ref().and_then(next_work);
        let Some(work) = work.filter(|_| caught_up && self.mining) else {
            return 0.0;
        };
        let share: f64 = self
            .members
            .iter()
            .zip(&self.side)
            .filter(|(member, side)| {
                **side == self.side[best]
                    && member.node.is_some()
                    && self.now_us >= member.online_since_us + STARTED_US
            })
            .map(|(member, _)| member.hash_share)
            .sum();
        share * self.hash_rate() / work * time_us as f64 / SECOND_US as f64
    }

    /// No two nodes disagree below the agreed depth, and none is left behind.
    fn check_agreement(
        &self,
        settled: &[usize],
        best: &BlockHash,
        height: u64,
    ) -> Result<(), Violation> {
        let depth = self.settings.agreed_depth;
        let before = self
            .watch
            .height_before(self.now_us.saturating_sub(SETTLED_US))
            // What was the best then may have lost to a shorter chain that is approved.
            .min(height);
        let mut judged: BTreeMap<BlockHash, bool> = BTreeMap::new();
        for index in settled {
            let Some((tip, own)) = self.members[*index].tip() else {
                continue;
            };
            // Where certificates conflict, each keeps to what was final first.
            if self.is_beyond_repair() && !self.shares_final(*index, best) {
                continue;
            }
            let level = own.min(height).saturating_sub(depth);
            let agrees = *judged.entry(tip).or_insert_with(|| {
                self.ledger.ancestor(&tip, level) == self.ledger.ancestor(best, level)
            });
            if !agrees {
                let what = format!(
                    "its tip {tip} at height {own} and the best one, {best} at height {height}, \
                     disagree at height {level}, {depth} blocks deep"
                );
                let what = what + &self.standings();
                return Err(self.violation(Some(*index), what));
            }
            if own + depth < before {
                let what = format!(
                    "it is left behind at height {own}: others had height {before} {} s ago",
                    SETTLED_US / SECOND_US
                );
                let what = what + &self.standings();
                return Err(self.violation(Some(*index), what));
            }
        }
        Ok(())
    }

    fn check_memory(&self) -> Result<(), Violation> {
        for (index, member) in self.members.iter().enumerate() {
            let Some(node) = &member.node else {
                continue;
            };
            let bytes = {
                let mempool = node.mempool().read();
                mempool.unwrap_or_else(PoisonError::into_inner).bytes()
            };
            if bytes > MEMPOOL_BYTES_MAX {
                let what = format!("its pool holds {bytes} bytes");
                return Err(self.violation(Some(index), what));
            }
            let (approvals, proofs) = {
                let finality = state_of(node);
                (finality.pooled(), finality.proofs().len())
            };
            let validators = self.settings.validators;
            if approvals > APPROVALS_OF_ONE_MAX * validators {
                let what = format!("it holds {approvals} approvals");
                return Err(self.violation(Some(index), what));
            }
            if proofs > PROOFS_OF_ONE_MAX * validators + CONFLICTS_MAX {
                let what = format!("it holds {proofs} proofs");
                return Err(self.violation(Some(index), what));
            }
            let open = member.judged.len();
            if open > HELD_MAX + EARLY_MAX {
                let what = format!("{open} gossip messages wait for a verdict");
                return Err(self.violation(Some(index), what));
            }
        }
        Ok(())
    }

    /// Whether a node's last final block is on the chain of this tip.
    fn shares_final(&self, index: usize, tip: &BlockHash) -> bool {
        let Some(node) = &self.members[index].node else {
            return true;
        };
        let last_final = status_of(node).last_final;
        self.ledger.ancestor(tip, last_final.height.0) == Some(last_final.hash)
    }

    /// Whether all honest nodes have the same tip; one for each last final block, if
    /// so many lie that certificates may conflict.
    pub(crate) fn honest_agree(&self) -> bool {
        let honest = self.members.iter().filter(|member| member.is_honest());
        let mut tips: BTreeMap<Option<Checkpoint>, _> = BTreeMap::new();
        for member in honest {
            let node = member.node.as_ref().filter(|_| self.is_beyond_repair());
            let last_final = node.map(|node| status_of(node).last_final);
            let tip = member.tip();
            if *tips.entry(last_final).or_insert(tip) != tip {
                return false;
            }
        }
        true
    }

    pub(crate) fn disagreement(&self, secs: u64) -> Violation {
        let best = self
            .best_honest()
            .and_then(|index| self.members[index].tip());
        let honest = self.members.iter().enumerate();
        let mut others = honest
            .filter(|(_, member)| member.is_honest() && member.tip() != best)
            .map(|(index, member)| (index, member.tip().map(|(_, height)| height)));
        let first = others.next();
        let count = 1 + others.count();
        let what = format!(
            "{count} honest nodes have another tip than the best one (height {:?}) {secs} s after \
             the last block; the first of them has height {:?}",
            best.map(|(_, height)| height),
            first.and_then(|(_, height)| height),
        );
        self.violation(first.map(|(index, _)| index), what)
    }

    /// Replays a node's whole chain from the genesis.
    fn replay(&mut self, index: usize) -> Result<(), Violation> {
        self.watch.replays += 1;
        let store = &self.members[index].store;
        match verify(store.as_ref(), &self.genesis, |_, _| {}) {
            Ok(_) => Ok(()),
            Err(error) => {
                let what = format!("its chain differs from its replay: {error}");
                Err(self.violation(Some(index), what))
            }
        }
    }

    /// All honest nodes hold, byte by byte, the state that some of them were
    /// found to hold by replays from the genesis.
    pub(crate) fn check_end(&mut self) -> Result<(), Violation> {
        self.check_memory()?;
        self.check_finality_at_end()?;
        let honest: Vec<usize> = (0..self.members.len())
            .filter(|index| self.members[*index].is_honest())
            .collect();
        for index in honest.iter().take(REPLAYS_AT_END) {
            self.replay(*index)?;
        }
        let mut first: BTreeMap<Option<BlockHash>, [u8; 32]> = BTreeMap::new();
        for index in honest {
            let tip = self.members[index].tip().map(|(hash, _)| hash);
            let store = self.members[index].store.clone();
            let state = best_chain_state(store.as_ref());
            let state = state.map_err(|error| self.storage_failed(index, &error))?;
            if *first.entry(tip).or_insert(state) != state {
                let what = "its tables differ from those of the other nodes";
                return Err(self.violation(Some(index), what));
            }
            let usage = self.members[index]
                .node
                .as_ref()
                .map(|node| node.sync_usage());
            if usage.is_some_and(|usage| usage.bodies > 0 || usage.body_bytes > 0) {
                return Err(self.violation(Some(index), "bodies are left over"));
            }
        }
        Ok(())
    }
}

/// A hash over every table that follows from the best chain alone.
fn best_chain_state(store: &dyn pithead_core::store::Store) -> Result<[u8; 32], StoreError> {
    let snapshot: Box<dyn Snapshot> = store.snapshot()?;
    let mut hasher = Sha256::new();
    for table in [
        Table::BestChain,
        Table::Undo,
        Table::Accounts,
        Table::StateNodes,
        Table::StaleNodes,
        Table::Transactions,
        Table::AccountTransactions,
    ] {
        let all = snapshot.range(table, &[], &[0xff; 128], usize::MAX, false)?;
        hasher.update((all.len() as u64).to_le_bytes());
        for (key, value) in all {
            hasher.update((key.len() as u64).to_le_bytes());
            hasher.update(&key);
            hasher.update((value.len() as u64).to_le_bytes());
            hasher.update(&value);
        }
    }
    Ok(hasher.finalize().into())
}
