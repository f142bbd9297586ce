#!/usr/bin/env python3
"""Mining with real processes: what is searched, what is found, and how fast miners start
on new work.

    cargo build --release --workspace
    python3 tests/soak/mining.py soak --blocks 10000
    python3 tests/soak/mining.py first-hash --tips 500 --svg docs/figures/first-hash.svg
    python3 tests/soak/mining.py stale --minutes 10

`soak` runs four miners on one node. The node is restarted at random, and other blocks
come in between. The miners record everything, and the records must show that:

- no header was searched twice;
- no solution was missed: a part of the ranges is searched again by Python's SHA-256;
- every solution has an answer;
- a block is given up only if the node already had another block of its height;
- no program's memory grows.

`first-hash` measures the time from a new tip of the node to the first hash on it, for
each of two miners, and the time until every thread is on it.

`stale` counts the shares that come too late at a two-second block interval, and the
processor time that miners use besides hashing.

Standard library only. The programs are taken from --programs (target/release).
`network.py` runs the processes, `record.py` reads the records, `figures.py` computes and
plots.
"""

import argparse
import collections
import json
import math
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from figures import plot, row, wilson
from network import Heights, Network, compact, events, resident_mib, stamp, thread_seconds
from record import Record

# A sound miner never gets one of these answers.
REFUSED = {"high_hash", "bad_time", "invalid", "unspecified", "failed"}
# With this many shares, a rate of one in a thousand can be measured.
SHARES_MIN = 20_000
# The most memory that a node of a few thousand empty blocks may use: about twice what it
# needs.
NODE_MIB_MAX = 96
# A run in which no block comes for this long has failed.
STALL_SECS_MAX = 120


# --- soak -------------------------------------------------------------------

def soak(arguments):
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    dice = random.Random(seed)
    print(f"seed {seed}", flush=True)
    network = Network(arguments.programs, time=int(time.time()) - 5, interval=1,
                      half_life=1_000_000, bits=compact(arguments.hashes))
    network.start_node()
    names = [f"miner-{number}" for number in range(1, 5)]
    for name in names:
        network.start_miner(name, "--trace-ranges", str(network.folder / f"{name}.trace"))
    began = time.monotonic()
    height, restarts, other_tips, memory = disturb(network, dice, arguments.blocks)
    seconds = time.monotonic() - began
    network.stop_miners()
    network.stop_node()
    verified = subprocess.run(
        [network.program("pithead-node"), "--genesis", str(network.genesis),
         "--data-dir", str(network.data), "--verify"], capture_output=True, text=True)
    if verified.returncode != 0:
        sys.exit(f"--verify: {verified.stderr}")
    print(f"{height} blocks in {seconds:.0f} s; {restarts['SIGTERM']} restarts after SIGTERM, "
          f"{restarts['SIGKILL']} after SIGKILL; {other_tips} times other blocks in between")
    print(verified.stdout.strip())
    faults = faults_of_record(network, Record(network, names), dice, arguments.again)
    faults += faults_of_memory(memory)
    if faults:
        sys.exit(f"FAILED (see {network.folder}): " + "; ".join(faults))
    print("nothing was searched twice, nothing was lost, nothing grew")
    return network


def disturb(network, dice, blocks):
    """Restarts the node and mines other blocks at random, until the chain has `blocks`
    blocks. Returns its height, the restarts by signal, how many times other blocks came,
    and samples of memory."""
    heights, restarts, other_tips, memory, height = Heights(network), collections.Counter(), 0, [], 0
    next_restart = dice.randrange(40, 120)
    next_tips = dice.randrange(5, 30)
    next_sample = 0
    last_progress = time.monotonic()
    while height < blocks:
        time.sleep(0.02)
        now = heights.now()
        if now > height:
            height, last_progress = now, time.monotonic()
        if time.monotonic() - last_progress > STALL_SECS_MAX:
            sys.exit(f"no block for two minutes: see {network.folder}")
        if height >= next_sample:
            memory.append((resident_mib(network.node),
                           max(resident_mib(miner) for miner in network.miners.values())))
            next_sample = height + max(1, blocks // 20)
        if height >= next_tips:
            next_tips = height + dice.randrange(10, 60)
            count = str(dice.randrange(1, 4))
            done = network.client("mine-blocks", count, "--address", "miner", check=False)
            other_tips += bool(done)
        if height >= next_restart:
            next_restart = height + dice.randrange(100, 400)
            how = dice.choice([signal.SIGTERM, signal.SIGKILL])
            network.stop_node(how)
            restarts[how.name] += 1
            time.sleep(dice.random() / 2)
            network.start_node()
    return height, restarts, other_tips, memory


def faults_of_record(network, record, dice, part):
    """What the records show to be wrong. Searches a part of the ranges again."""
    doubles = record.doubles()
    again, differ = record.search_again(dice, part)
    lost = record.lost(network)
    answered = sum(record.answers.values())
    print(f"{record.ranges} ranges searched, {doubles} of them searched twice; {again} searched again "
          f"by another SHA-256, {differ} with other solutions than the miners found")
    print(f"{len(record.hits)} solutions, {answered} with an answer or a reason: "
          + ", ".join(f"{what} {count}" for what, count in record.answers.most_common()))
    print(f"{len(lost)} of {record.blocks} blocks given up with no other of their height")
    faults = []
    if doubles:
        faults.append("something was searched twice")
    if differ:
        faults.append("a kernel missed solutions, or made some up")
    if answered != len(record.hits) or record.unasked:
        faults.append("not every solution has one answer")
    if lost:
        faults.append("blocks were lost: " + ", ".join(lost[:5]))
    refused = REFUSED & set(record.answers)
    if refused:
        faults.append("solutions were refused: " + ", ".join(sorted(refused)))
    return faults


def faults_of_memory(memory):
    """Which memory grows, by samples of the node and of the largest miner."""
    node = [sample[0] for sample in memory]
    miner = [sample[1] for sample in memory]
    print(f"resident: node {node[0]:.0f} MiB at first, {max(node):.0f} at most, {node[-1]:.0f} at the end; "
          f"largest miner {miner[0]:.1f}, {max(miner):.1f}, {miner[-1]:.1f} MiB")
    faults = []
    if grows(miner, 4):
        faults.append("a miner's memory grows")
    if grows(node, 16) or max(node) > NODE_MIB_MAX:
        faults.append("the node's memory grows")
    return faults


def grows(samples, slack):
    """Whether the second half of the samples is well above the first."""
    half = len(samples) // 2
    return half > 1 and max(samples[half:]) > 1.5 * max(samples[:half]) + slack


# --- first hash ---------------------------------------------------------------

def first_hash(arguments):
    network = Network(arguments.programs, time=int(time.time()) - 5, interval=1,
                      half_life=10_000_000, bits=compact(arguments.hashes))
    network.start_node()
    names = ["miner-1", "miner-2"]
    for name in names:
        network.start_miner(name, threads=arguments.threads)
    heights = Heights(network)
    while heights.now() < arguments.tips + 2:
        time.sleep(0.2)
    network.stop_miners()
    network.stop_node()
    tips = {height: stamp(when) for when, height in network.tips()}
    samples, switches, censored = [], [], 0
    for name in names:
        works = [event for event in events(network.folder / f"{name}.log")
                 if event.get("message") == "new work"]
        seen = set()
        for work, after in zip(works, works[1:]):
            parent = work["height"] - 1
            if parent not in tips or parent <= 1 or parent in seen:
                continue
            seen.add(parent)
            arrived = stamp(work["timestamp"]) - tips[parent]
            waited = after.get("previous_first_hash_us")
            # Work that was replaced before its first hash counts as slower than any
            # other. Leaving it out would make the miners look faster.
            censored += waited is None
            samples.append(math.inf if waited is None else arrived * 1e3 + waited / 1e3)
            last = after.get("previous_last_worker_us")
            switches.append(math.inf if last is None else last / 1e3)
    samples.sort()
    switches.sort()
    if len(samples) < arguments.tips:
        sys.exit(f"only {len(samples)} samples: see {network.folder}")
    print(f"{len(tips)} tips, {len(samples)} first hashes of two miners of {arguments.threads} threads, "
          f"{censored} of them never: the next tip was faster")
    print("| | p50 | p90 | p99 | max |\n|---|--:|--:|--:|--:|")
    figures = row("the node's tip to the first hash", samples)
    row("work's arrival at a miner to its last thread on it", switches)
    if arguments.svg:
        pathlib.Path(arguments.svg).write_text(plot(samples, figures))
        print(f"plotted to {arguments.svg}")
    return network


# --- stale --------------------------------------------------------------------

def stale(arguments):
    network = Network(arguments.programs, time=int(time.time()) - 5, interval=2,
                      half_life=60, bits=compact(arguments.hashes))
    network.start_node("--share-interval-ms", str(arguments.share_interval_ms))
    names = [f"miner-{number}" for number in range(1, arguments.miners + 1)]
    for name in names:
        network.start_miner(name)
    # The difficulty has to adjust first, until a block comes every two seconds and the
    # shares come in their interval.
    time.sleep(arguments.settle_secs)
    before = {name: thread_seconds(network.miners[name]) for name in names}
    counted = workers(network)
    began = time.monotonic()
    first = network.height()
    time.sleep(arguments.minutes * 60)
    seconds = time.monotonic() - began
    blocks = network.height() - first
    counted = {what: count - counted[what] for what, count in workers(network).items()}
    besides = []
    for name in names:
        used = thread_seconds(network.miners[name])
        used.subtract(before[name])
        # The threads that hash have the names miner-0, miner-1, …
        besides.append(sum(count for thread, count in used.items()
                           if not thread.startswith("miner-")) / seconds)
    network.stop_miners()
    network.stop_node()
    late, right = counted["stale"], counted["accepted_shares"] + counted["stale"]
    low, high = wilson(late, right)
    print(f"{blocks} blocks in {seconds:.0f} s, one in {seconds / max(1, blocks):.2f} s; {len(names)} miners; "
          f"load of the machine {os.getloadavg()[1]:.1f}")
    print(f"{right} shares and blocks, {late} of them too late, {counted['side_blocks']} of these blocks: "
          f"{100 * late / max(1, right):.3f} % (95 % confidence: {100 * low:.3f} to {100 * high:.3f} %); "
          f"{counted['rejected']} rejected")
    print(f"besides hashing, each miner took {100 * sum(besides) / len(besides):.2f} % of a core, "
          f"{100 * max(besides):.2f} % at most")
    if right < SHARES_MIN:
        sys.exit(f"{right} shares are too few to tell one in a thousand: {SHARES_MIN} at least")
    return network


def workers(network):
    """The node's counts, of all miners together."""
    listed = json.loads(network.client("workers", "--json"))
    listed = listed if isinstance(listed, list) else listed["workers"]
    return collections.Counter({what: sum(worker[what] for worker in listed)
                                for what in ("accepted_shares", "stale", "side_blocks", "rejected")})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", default="target/release")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and records")
    kinds = parser.add_subparsers(required=True)
    one = kinds.add_parser("soak")
    one.add_argument("--blocks", type=int, default=10_000)
    one.add_argument("--hashes", type=int, default=1 << 21, help="hashes that a block takes on average")
    one.add_argument("--seed", type=int)
    one.add_argument("--again", type=float, default=0.001, help="part of the ranges to search again")
    one.set_defaults(run=soak)
    one = kinds.add_parser("first-hash")
    one.add_argument("--tips", type=int, default=500)
    one.add_argument("--hashes", type=int, default=1 << 24, help="hashes that a block takes on average")
    one.add_argument("--threads", type=int, default=1, help="threads of each miner")
    one.add_argument("--svg")
    one.set_defaults(run=first_hash)
    one = kinds.add_parser("stale")
    one.add_argument("--minutes", type=float, default=8)
    one.add_argument("--settle-secs", type=float, default=90)
    one.add_argument("--share-interval-ms", type=int, default=40)
    one.add_argument("--miners", type=int, default=2)
    one.add_argument("--hashes", type=int, default=1 << 27, help="hashes that the first block takes on average")
    one.set_defaults(run=stale)
    arguments = parser.parse_args()
    network = arguments.run(arguments)
    if arguments.keep:
        print(f"kept: {network.folder}")
    else:
        subprocess.run(["rm", "-rf", str(network.folder)], check=True)


if __name__ == "__main__":
    main()
