//! Sync under random conditions, drawn from a seed: connections come and go, gossip is lost, clocks
//! differ, nodes restart and some peers lie. Honest nodes still agree and never blame each other.

use pithead_core::sync::{Request, Response};
use pithead_testkit::nodes::pay;
use pithead_testkit::world::{Reply, World};

/// Numbers that look random (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % sides
    }
}

/// Honest members come first, then those that lie.
const HONEST: usize = 8;
const LIARS: usize = 3;

/// Answers wrongly now and then, in one of several ways.
fn liar(seed: u64) -> impl FnMut(&Request, Response) -> Reply + 'static {
    let mut dice = Dice(seed);
    let mut earlier: Option<Response> = None;
    move |_, honest| match dice.roll(6) {
        0 => Reply::Silence,
        1 => earlier.clone().map_or(Reply::Silence, Reply::Answer),
        2 => match honest {
            Response::Blocks(mut blocks) => {
                blocks.reverse();
                Reply::Answer(Response::Blocks(blocks))
            }
            Response::Headers(headers) => {
                Reply::Answer(Response::Headers(headers.into_iter().skip(1).collect()))
            }
            Response::Transactions(_) => Reply::Answer(Response::Transactions(Vec::new())),
            other => Reply::Answer(other),
        },
        _ => {
            earlier = Some(honest.clone());
            Reply::Answer(honest)
        }
    }
}

/// The result of a run. It leaves block hashes out, because signatures are salted.
#[derive(Debug, PartialEq)]
struct Outcome {
    height: u64,
    transactions: u64,
    /// In order: the honest member that reported a penalty, and the member that it blames.
    blamed: Vec<(usize, usize)>,
    /// How many requests each honest member made.
    asked: Vec<usize>,
}

/// Runs the weather of a seed: 150 random steps, and then time to settle.
fn weather(seed: u64) -> Outcome {
    let mut dice = Dice(seed.wrapping_mul(2) + 1);
    let mut world = World::new();
    for _ in 0..HONEST {
        world.add(&[]);
    }
    for number in 0..LIARS {
        world.add_odd(&[], liar(seed + number as u64 + 1));
    }
    // Clocks as far apart as may be, and one gossip message in ten is lost.
    for node in 0..HONEST {
        world.members[node].skew_secs = dice.roll(11) as i64 - 5;
    }
    world.loss = 10;
    let mut sequences = [0; 4];
    for _ in 0..150 {
        change_a_link(&mut world, &mut dice);
        let at = dice.roll(HONEST as u64) as usize;
        let_one_act(&mut world, &mut dice, at, &mut sequences);
        world.run_for(dice.roll(2_500));
    }
    settle(&mut world);
    outcome(&world, seed)
}

/// Draws two members, and connects them or, once in three times, cuts them off.
fn change_a_link(world: &mut World, dice: &mut Dice) {
    let all = (HONEST + LIARS) as u64;
    let (a, b) = (dice.roll(all) as usize, dice.roll(all) as usize);
    if a != b && world.are_connected(a, b) {
        if dice.roll(3) == 0 {
            world.disconnect(a, b);
        }
    } else if a != b {
        world.connect(a, b);
    }
}

/// An honest member submits a payment, finds a block, or is restarted now and then.
/// `sequences` are the next ones of the four accounts that pay.
fn let_one_act(world: &mut World, dice: &mut Dice, at: usize, sequences: &mut [u64; 4]) {
    match dice.roll(3) {
        0 => {
            let owner = dice.roll(4) as usize;
            let transaction = pay(&world.file, owner, sequences[owner], (owner + 1) % 4);
            // Another node may not know the sender's earlier ones yet.
            if world.try_submit(at, transaction) {
                sequences[owner] += 1;
            }
        }
        1 => {
            world.mine(at);
        }
        _ if dice.roll(12) == 0 => world.restart(at),
        _ => {}
    }
}

/// The weather clears: the honest nodes form a ring, no message is lost, and all of them
/// come to have the block that one of them finds. Then the liars are cut off.
fn settle(world: &mut World) {
    for node in 0..HONEST {
        let next = (node + 1) % HONEST;
        if !world.are_connected(node, next) {
            world.connect(node, next);
        }
    }
    world.loss = 0;
    world.run_for(90_000);
    let best = world.mine(0);
    world.run_until(60_000, |world| {
        (0..HONEST).all(|node| world.tip(node) == best.hash())
    });
    for liar in HONEST..HONEST + LIARS {
        for node in 0..HONEST {
            world.disconnect(node, liar);
        }
    }
}

/// Checks that no honest node is blamed and that what nodes held was bounded, and sums up.
fn outcome(world: &World, seed: u64) -> Outcome {
    let blamed = world.blamed_by(0..HONEST);
    let honest: Vec<_> = blamed.iter().filter(|(_, who)| *who < HONEST).collect();
    assert!(
        honest.is_empty(),
        "seed {seed}: {honest:?} are blamed unjustly"
    );
    for node in 0..HONEST {
        let most = world.members[node].most;
        assert!(
            most.requests <= 16 * (HONEST + LIARS),
            "seed {seed}: {most:?}"
        );
        assert!(most.headers <= 2_000, "seed {seed}: {most:?}");
        let usage = world.node(node).sync_usage();
        assert_eq!((usage.bodies, usage.body_bytes), (0, 0), "seed {seed}");
    }
    let tip = world.node(0).chain().tip();
    Outcome {
        height: tip.height.0,
        transactions: tip.outcome.transactions_total,
        blamed,
        asked: (0..HONEST)
            .map(|node| world.members[node].asked.len())
            .collect(),
    }
}

#[test]
fn honest_nodes_agree_and_blame_none_of_their_own() {
    let outcomes: Vec<Outcome> = (1..=12).map(weather).collect();
    let blamed: usize = outcomes.iter().map(|outcome| outcome.blamed.len()).sum();
    assert!(blamed > 0, "the liars do not go unseen");
}

#[test]
fn same_seed_runs_the_same_way() {
    assert_eq!(weather(99), weather(99));
}
