//! The order in which the core takes what waits for it: a block on the present tip does not wait
//! behind others. The clock holds the core up, because the core's thread reads it once for each
//! command: a test lets as many commands pass as it wants.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use pithead_consensus::Block;
use pithead_core::chain::AcceptError;
use pithead_core::node::BlockVerdict;
use pithead_engine::{Clock, Engine, Started, Stopped};
use pithead_testkit::chain::mine;
use pithead_testkit::key;
use pithead_testkit::nodes::{NOW, branch, chain_of, empty, file, give_all, memory, open};
use tokio::task::JoinHandle;

/// Long enough for any machine: the tests wait for events.
const PATIENCE: Duration = Duration::from_secs(60);

type Verdict = Result<Result<BlockVerdict, AcceptError>, Stopped>;

/// How many commands may pass.
#[derive(Default)]
struct Gate {
    passes: Mutex<u64>,
    changed: Condvar,
}

impl Gate {
    fn admit(&self, more: u64) {
        *self.passes.lock().unwrap() += more;
        self.changed.notify_all();
    }

    fn clock(gate: &Arc<Self>) -> Clock {
        let gate = Arc::clone(gate);
        Arc::new(move || {
            let mut passes = gate.passes.lock().unwrap();
            while *passes == 0 {
                passes = gate.changed.wait(passes).unwrap();
            }
            *passes -= 1;
            NOW
        })
    }
}

/// The same block with another extra nonce, mined again.
fn variant(block: &Block, number: u64) -> Block {
    let mut block = block.clone();
    block.commitment.extra_nonce = number.to_le_bytes();
    block.header.merkle_root = block.commitment.merkle_root();
    mine(&mut block.header);
    block
}

/// Hands blocks in, each by a task of its own, and returns once all of them wait for the core.
async fn submit(
    engine: &Engine,
    blocks: impl IntoIterator<Item = Block>,
) -> Vec<JoinHandle<Verdict>> {
    let tasks = blocks.into_iter().map(|block| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.submit_block(block).await })
    });
    let tasks: Vec<_> = tasks.collect();
    // One thread runs all tasks, and at least one of them for each time that this one yields: each
    // has run up to where it waits.
    for _ in &tasks {
        tokio::task::yield_now().await;
    }
    tasks
}

async fn verdict(task: JoinHandle<Verdict>) -> Result<BlockVerdict, AcceptError> {
    let waited = tokio::time::timeout(PATIENCE, task).await;
    waited.expect("the core has come to it").unwrap().unwrap()
}

#[tokio::test]
async fn a_new_tip_does_not_wait_behind_hundreds_of_siblings() {
    let file = file();
    let blocks = branch(&file, &[], &key(6).address, &empty(3));
    let fourth = chain_of(&file, &blocks).assemble(Vec::new(), key(6).address, 2);
    let chain = [blocks.clone(), vec![fourth.clone()]].concat();
    let fifth = chain_of(&file, &chain).assemble(Vec::new(), key(6).address, 2);
    let mut node = open(&memory(), &file.check().unwrap(), NOW);
    give_all(&mut node, &blocks, NOW);

    let gate = Arc::new(Gate::default());
    // One for the first template.
    gate.admit(1);
    let Started { engine, .. } = Engine::start(node, Gate::clock(&gate)).unwrap();
    // The core is held up in its first command; the others wait behind it.
    let siblings = (0..500).map(|number| variant(&blocks[2], number + 1));
    let old = submit(&engine, siblings).await;
    // Of the next tip's blocks, too, there are more than one.
    let rivals = (0..10).map(|number| variant(&fourth, number + 1));
    let mut next = submit(&engine, [fourth.clone()].into_iter().chain(rivals)).await;
    // The command that the core is at, and one more.
    gate.admit(2);
    let first = verdict(next.remove(0)).await.unwrap();
    assert_eq!(first, BlockVerdict::NewTip);

    // Its rivals are siblings now. The block after it comes before them and the others, one of
    // which has its turn in between.
    let after = submit(&engine, [fifth]).await;
    gate.admit(2);
    for task in after {
        assert_eq!(verdict(task).await.unwrap(), BlockVerdict::NewTip);
    }

    // All others get their answer: a few are stored, the rest refused.
    gate.admit(u64::MAX / 2);
    let (mut stored, mut refused) = (0, 0);
    for task in old.into_iter().chain(next) {
        match verdict(task).await {
            Ok(BlockVerdict::Side) => stored += 1,
            Err(AcceptError::TooManySiblings { .. }) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((stored, refused), (16, 494));
}

#[tokio::test]
async fn blocks_on_the_tip_leave_every_other_command_its_turn() {
    let file = file();
    let blocks = branch(&file, &[], &key(6).address, &empty(3));
    let next = chain_of(&file, &blocks).assemble(Vec::new(), key(6).address, 2);
    let mut node = open(&memory(), &file.check().unwrap(), NOW);
    give_all(&mut node, &blocks, NOW);
    let gate = Arc::new(Gate::default());
    gate.admit(1);
    let Started { engine, .. } = Engine::start(node, Gate::clock(&gate)).unwrap();
    // Blocks with the work of a tip, but of the wrong state root.
    let mut bad = next;
    bad.commitment.state_root = bad.commitment.transactions_root;
    let bad = submit(&engine, (0..10).map(|number| variant(&bad, number))).await;
    let template = tokio::spawn({
        let engine = engine.clone();
        async move { engine.fresh_template().await }
    });
    tokio::task::yield_now().await;
    // Two at most have gone before the core came to it.
    gate.admit(3);
    let waited = tokio::time::timeout(PATIENCE, template).await;
    waited
        .expect("its turn has come")
        .unwrap()
        .unwrap()
        .unwrap();
    gate.admit(u64::MAX / 2);
    for task in bad {
        assert!(matches!(verdict(task).await, Err(AcceptError::Invalid(_))));
    }
}
