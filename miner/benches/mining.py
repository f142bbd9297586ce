#!/usr/bin/env python3
"""Mining between real processes: what was searched, what was found, and how fast
new work is taken up.

    cargo build --release --workspace
    python3 miner/benches/mining.py soak --blocks 10000
    python3 miner/benches/mining.py first-hash --tips 500 --svg docs/figures/first-hash.svg
    python3 miner/benches/mining.py stale --minutes 10

`soak` lets four miners mine on one node that is restarted and given other blocks
at random, and holds their records to what they promise: nothing is searched twice,
every solution there was is found (a part of the ranges is searched again, by
Python's SHA-256), every solution found has an answer, and a block is given up only
once there was another of its height; no memory grows. `first-hash` measures the time
from a node's new tip to each of two miners' first hash on it, and until every thread
is on it. `stale` counts shares that came too late at a two-second block interval,
and what the miners do besides hashing.

Standard library only. Programs are taken from --programs (target/release).
"""

import argparse
import collections
import datetime
import hashlib
import itertools
import json
import math
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

GENESIS = """\
name = "mining bench"
address_prefix = "dpit"
time = {time}
bits = {bits}
pow_limit_bits = {bits}
block_interval_secs = {interval}
half_life_secs = {half_life}
max_future_secs = 60
max_block_bytes = 2000000
reward_maturity = 0
checkpoint_interval = 10
approval_quorum = 0
"""
# Whoever has the key; nobody here spends.
START_SECS = 30
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
# Answers after which a block is on nobody's chain.
GIVEN_UP = {"queue_full", "in_vain", "at_the_end", "unknown_work", "not_synced", "stale_work"}
# Answers that no sound miner gets.
REFUSED = {"high_hash", "bad_time", "invalid", "unspecified", "failed"}
# Shares from which on a rate of one in a thousand can be told.
SHARES_MIN = 20_000
# Nonces of a stretch that is searched again.
STRETCH = 1 << 10
# Far above what a node of a few thousand empty blocks needs.
NODE_MIB_MAX = 96


def compact(hashes):
    """The compact target that takes so many hashes on average."""
    target = (1 << 256) // hashes
    size = (target.bit_length() + 7) // 8
    mantissa = target >> (8 * (size - 3))
    if mantissa & 0x800000:
        mantissa >>= 8
        size += 1
    return size << 24 | mantissa


class Network:
    """A folder with a genesis, and the processes on it."""

    def __init__(self, programs, **genesis):
        self.programs = pathlib.Path(programs).resolve()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pithead-mining-"))
        self.genesis = self.folder / "genesis.toml"
        self.genesis.write_text(GENESIS.format(**genesis))
        self.data = self.folder / "node"
        self.wallets = self.folder / "wallets"
        self.node = None
        self.port = 0
        self.starts = 0
        self.miners = {}
        self.client("wallet", "new", "miner", "--no-passphrase", offline=True)
        listed = json.loads(self.client("wallet", "list", "--json", offline=True))
        listed = listed if isinstance(listed, list) else listed["wallets"]
        self.address = listed[0]["address"]

    def program(self, name):
        path = self.programs / name
        if not path.exists():
            sys.exit(f"{path} is not there: build the workspace first")
        return str(path)

    def client(self, *arguments, offline=False, check=True):
        command = [self.program("pithead"), "--wallet-dir", str(self.wallets)]
        if offline:
            command += ["--network", "dev"]
        else:
            command += ["--node", self.url, "--token-file", str(self.data / "admin.token")]
        done = subprocess.run(command + list(arguments), capture_output=True, text=True)
        if check and done.returncode != 0:
            sys.exit(f"{' '.join(command + list(arguments))}: {done.stderr}")
        return done.stdout

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start_node(self, *flags):
        self.starts += 1
        ready = self.folder / f"ready-{self.starts}"
        log = open(self.folder / f"node-{self.starts}.log", "w")
        self.node = subprocess.Popen(
            [self.program("pithead-node"), "--genesis", str(self.genesis),
             "--data-dir", str(self.data), "--offline", "--log-format", "json",
             "--rpc-listen", f"127.0.0.1:{self.port}", "--ready-file", str(ready),
             "--rpc-requests-per-minute", "0", *flags],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        deadline = time.monotonic() + START_SECS
        while not ready.exists():
            if self.node.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the node does not start: see {log.name}")
            time.sleep(0.01)
        # The same port again after a restart: miners come back to it.
        self.port = int(ready.read_text().strip().rsplit(":", 1)[1])

    def stop_node(self, how=signal.SIGTERM):
        self.node.send_signal(how)
        self.node.wait(timeout=START_SECS)

    def start_miner(self, name, *flags, threads=1):
        log = open(self.folder / f"{name}.log", "w")
        out = open(self.folder / f"{name}.json", "w")
        environment = {**os.environ, "RUST_LOG": "pithead_miner=debug"}
        self.miners[name] = subprocess.Popen(
            [self.program("pithead-miner"), "--node", self.url, "--address", self.address,
             "--worker", name, "--threads", str(threads), "--log-format", "json",
             "--token-file", str(self.data / "mine.token"), "--json-stats", *flags],
            stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=environment)

    def stop_miners(self):
        for miner in self.miners.values():
            miner.send_signal(signal.SIGTERM)
        for miner in self.miners.values():
            miner.wait(timeout=START_SECS)
        return {name: json.loads((self.folder / f"{name}.json").read_text())
                for name in self.miners}

    def height(self):
        """The height that the node logged last."""
        return max((height for _, height in self.tips()), default=0)

    def tips(self):
        for number in range(1, self.starts + 1):
            for event in events(self.folder / f"node-{number}.log"):
                if event.get("message") in ("new tip", "reorganised to a better chain"):
                    yield event["timestamp"], event["height"]


def events(path):
    with open(path) as lines:
        for line in lines:
            # The last line may be half written.
            if line.endswith("}\n"):
                event = json.loads(line)
                event.update(event.pop("fields", {}))
                yield event


class Heights:
    """Follows the node's log to know its height without asking it."""

    def __init__(self, network):
        self.network, self.height, self.start, self.offset = network, 0, 1, 0

    def now(self):
        while True:
            path = self.network.folder / f"node-{self.start}.log"
            with open(path) as log:
                log.seek(self.offset)
                text = log.read()
            whole = text[:text.rfind("\n") + 1]
            self.offset += len(whole.encode())
            for line in whole.splitlines():
                event = json.loads(line)
                event.update(event.pop("fields", {}))
                if event.get("message") in ("new tip", "reorganised to a better chain"):
                    self.height = max(self.height, event["height"])
            if self.start == self.network.starts:
                return self.height
            self.start, self.offset = self.start + 1, 0


def resident_mib(process):
    with open(f"/proc/{process.pid}/status") as status:
        for line in status:
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    return 0.0


def thread_seconds(process):
    """CPU seconds of a process's threads by name."""
    found = collections.Counter()
    for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
        try:
            name, fields = (task / "stat").read_text().rsplit(")", 1)
        except OSError:
            continue
        fields = fields.split()
        found[name.split("(", 1)[1]] += (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
    return found


def quantile(values, percent):
    """Nearest rank."""
    return values[max(0, -(-len(values) * percent // 100) - 1)]


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
    heights, began = Heights(network), time.monotonic()
    restarts, other_tips, memory, height = collections.Counter(), 0, [], 0
    next_restart = dice.randrange(40, 120)
    next_tips = dice.randrange(5, 30)
    next_sample = 0
    last_progress = time.monotonic()
    while height < arguments.blocks:
        time.sleep(0.02)
        now = heights.now()
        if now > height:
            height, last_progress = now, time.monotonic()
        if time.monotonic() - last_progress > 120:
            sys.exit(f"no block for two minutes: see {network.folder}")
        if height >= next_sample:
            memory.append((height, resident_mib(network.node),
                           max(resident_mib(miner) for miner in network.miners.values())))
            next_sample = height + max(1, arguments.blocks // 20)
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
    seconds = time.monotonic() - began
    summaries = network.stop_miners()
    network.stop_node()
    verified = subprocess.run(
        [network.program("pithead-node"), "--genesis", str(network.genesis),
         "--data-dir", str(network.data), "--verify"], capture_output=True, text=True)
    if verified.returncode != 0:
        sys.exit(f"--verify: {verified.stderr}")
    record = Record(network, names)
    doubles = record.doubles()
    again, differ = record.search_again(dice, arguments.again)
    lost = record.lost(network)
    answered = sum(record.answers.values())
    print(f"{height} blocks in {seconds:.0f} s; {restarts['SIGTERM']} restarts after SIGTERM, "
          f"{restarts['SIGKILL']} after SIGKILL; {other_tips} times other blocks in between")
    print(verified.stdout.strip())
    print(f"{record.ranges} ranges searched, {doubles} of them searched twice; {again} searched again "
          f"by another SHA-256, {differ} with other solutions than the miners found")
    print(f"{len(record.hits)} solutions, {answered} with an answer or a reason: "
          + ", ".join(f"{what} {count}" for what, count in record.answers.most_common()))
    print(f"{len(lost)} of {record.blocks} blocks given up with no other of their height")
    node = [sample[1] for sample in memory]
    miner = [sample[2] for sample in memory]
    print(f"resident: node {node[0]:.0f} MiB at first, {max(node):.0f} at most, {node[-1]:.0f} at the end; "
          f"largest miner {miner[0]:.1f}, {max(miner):.1f}, {miner[-1]:.1f} MiB")
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
    if grows(miner, 4):
        faults.append("a miner's memory grows")
    if grows(node, 16) or max(node) > NODE_MIB_MAX:
        faults.append("the node's memory grows")
    if faults:
        sys.exit(f"FAILED (see {network.folder}): " + "; ".join(faults))
    print("nothing was searched twice, nothing was lost, nothing grew")
    return network


def grows(samples, slack):
    """Whether the second half of the samples is well above the first."""
    half = len(samples) // 2
    return half > 1 and max(samples[half:]) > 1.5 * max(samples[:half]) + slack


class Record:
    """What the miners put on record; miner/src/trace.rs says how."""

    def __init__(self, network, names):
        self.jobs, self.searched, self.hits = {}, collections.defaultdict(list), []
        self.answers, self.given_up, self.ranges, self.blocks, self.unasked = collections.Counter(), [], 0, 0, 0
        for name in names:
            open_hits = collections.defaultdict(list)
            with open(network.folder / f"{name}.trace") as lines:
                for line in lines:
                    what, *rest = line.split()
                    if what == "job":
                        job, header, versions, target = rest
                        self.jobs[name, job] = (header, versions, target)
                    elif what == "range":
                        job, start, count = rest
                        self.add_range((name, job), int(start), int(count))
                    elif what == "hit":
                        job, version, nonce, found, kind, height = rest
                        self.hits.append(((name, job), int(version, 16), int(nonce)))
                        self.blocks += kind == "block"
                        open_hits[found].append((kind, int(height)))
                    else:
                        found, outcome, ms = rest
                        self.answers[outcome] += 1
                        if not open_hits[found]:
                            self.unasked += 1
                            continue
                        kind, height = open_hits[found].pop()
                        if kind == "block" and outcome in GIVEN_UP:
                            self.given_up.append((found, height, int(ms) / 1e3))

    def add_range(self, job, start, count):
        """Batches follow each other: most are one range with the one before."""
        self.ranges += 1
        own = self.searched[job]
        if own and own[-1][1] == start:
            own[-1][1] += count
        else:
            own.append([start, start + count])

    def doubles(self):
        """Ranges that overlap another of the same header, whatever they were
        tried together with."""
        by_header = collections.defaultdict(list)
        for job, ranges in self.searched.items():
            header, versions, _ = self.jobs[job]
            for version in versions.split(","):
                by_header[header, version] += ranges
        doubles = 0
        for ranges in by_header.values():
            end = 0
            for start, after in sorted(ranges):
                doubles += start < end
                end = max(end, after)
        return doubles

    def search_again(self, dice, part):
        """Tries a random part of the nonces again: how many stretches, and how many
        of them have other solutions than the miners found."""
        found = collections.defaultdict(set)
        for job, version, nonce in self.hits:
            found[job].add((version, nonce))
        # What was searched for long is looked at more often.
        jobs = list(self.searched)
        sizes = (sum(end - start for start, end in self.searched[job]) for job in jobs)
        chosen = dice.choices(jobs, cum_weights=list(itertools.accumulate(sizes)),
                              k=max(1, round(self.ranges * part)))
        differ = 0
        for job in chosen:
            start, end = dice.choice(self.searched[job])
            first = dice.randrange(start, end)
            last = min(end, first + STRETCH)
            header, versions, target = self.jobs[job]
            expected = set()
            for version in (int(text, 16) for text in versions.split(",")):
                expected |= solutions(header, version, int.from_bytes(bytes.fromhex(target), "little"), first, last)
            got = {hit for hit in found[job] if first <= hit[1] < last}
            differ += expected != got
        return len(chosen), differ

    def lost(self, network):
        """Blocks that were given up while the node had none of their height."""
        first = {}
        for when, height in network.tips():
            first[height] = min(first.get(height, math.inf), stamp(when))
        # A tip of a height has one of every height below.
        heights = sorted(first)
        earliest, soonest = {}, math.inf
        for height in reversed(heights):
            soonest = min(soonest, first[height])
            earliest[height] = soonest
        return [f"{found} at height {height}" for found, height, at in self.given_up
                if earliest.get(height, math.inf) > at]


def solutions(header, version, target, first, last):
    """Nonces from first up to last whose header meets the target."""
    raw = bytearray(bytes.fromhex(header))
    raw[:4] = version.to_bytes(4, "little")
    begun, sha256, found = hashlib.sha256(raw[:64]), hashlib.sha256, set()
    tail = bytes(raw[64:76])
    for nonce in range(first, last):
        inner = begun.copy()
        inner.update(tail + nonce.to_bytes(4, "little"))
        if int.from_bytes(sha256(inner.digest()).digest(), "little") <= target:
            found.add((version, nonce))
    return found


# --- first hash ---------------------------------------------------------------

def stamp(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


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
            # Work that was replaced before anyone was on it counts as slower than
            # any other: it must not look as if it had never been.
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


def row(what, samples):
    figures = {percent: quantile(samples, percent) for percent in (50, 90, 99, 100)}
    print(f"| {what} | " + " | ".join(f"{figures[percent]:.2f} ms" for percent in (50, 90, 99, 100)) + " |")
    return figures


def plot(samples, figures):
    """The part of first hashes by time since the tip, as SVG."""
    width, height, left, top, right, bottom = 640, 320, 56, 20, 20, 44
    longest = max(10.0, figures[99] * 2)
    x = lambda ms: left + (width - left - right) * min(ms, longest) / longest
    y = lambda part: height - bottom - (height - top - bottom) * part
    points = [f"{x(0):.1f},{y(0):.1f}"]
    for rank, ms in enumerate(samples, 1):
        if ms > longest:
            break
        points.append(f"{x(ms):.1f},{y(rank / len(samples)):.1f}")
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for percent in (0, 25, 50, 75, 100):
        at = y(percent / 100)
        lines.append(f'<line x1="{left}" y1="{at:.1f}" x2="{width - right}" y2="{at:.1f}" stroke="#ddd"/>')
        lines.append(f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{percent} %</text>')
    step = longest / 5
    for number in range(6):
        at = x(step * number)
        lines.append(f'<text x="{at:.1f}" y="{height - bottom + 18}" text-anchor="middle">{step * number:.3g}</text>')
    for percent, colour in ((50, "#2a7"), (99, "#c40")):
        at = x(figures[percent])
        lines.append(f'<line x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{height - bottom}" stroke="{colour}" stroke-dasharray="4 3"/>')
        lines.append(f'<text x="{at + 4:.1f}" y="{top + 12 + (14 if percent == 99 else 0)}" fill="{colour}">'
                     f'{percent} %: {figures[percent]:.2f} ms</text>')
    lines.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="#236" stroke-width="1.5"/>')
    lines.append(f'<text x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle">'
                 'milliseconds from the node\'s new tip to a miner\'s first hash on it</text>')
    return "\n".join(lines + ["</svg>", ""])


# --- stale --------------------------------------------------------------------

def stale(arguments):
    network = Network(arguments.programs, time=int(time.time()) - 5, interval=2,
                      half_life=60, bits=compact(arguments.hashes))
    network.start_node("--share-interval-ms", str(arguments.share_interval_ms))
    names = [f"miner-{number}" for number in range(1, arguments.miners + 1)]
    for name in names:
        network.start_miner(name)
    # Until the blocks come every two seconds, and the shares as often as they should.
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
        # The threads that hash are called miner-0, miner-1, …
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
    """The node's own counts, of all miners together."""
    listed = json.loads(network.client("workers", "--json"))
    listed = listed if isinstance(listed, list) else listed["workers"]
    return collections.Counter({what: sum(worker[what] for worker in listed)
                                for what in ("accepted_shares", "stale", "side_blocks", "rejected")})


def wilson(hits, trials):
    """The interval that holds the true part with 95 % confidence (Wilson)."""
    if not trials:
        return 0.0, 1.0
    z = 1.96
    part, spread = hits / trials, z * z / trials
    middle = part + spread / 2
    width = z * math.sqrt(part * (1 - part) / trials + spread / trials / 4)
    return max(0.0, (middle - width) / (1 + spread)), (middle + width) / (1 + spread)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", default="target/release")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and records")
    kinds = parser.add_subparsers(required=True)
    one = kinds.add_parser("soak")
    one.add_argument("--blocks", type=int, default=10_000)
    one.add_argument("--hashes", type=int, default=1 << 21, help="for a block, on average")
    one.add_argument("--seed", type=int)
    one.add_argument("--again", type=float, default=0.001, help="part of the ranges that is searched again")
    one.set_defaults(run=soak)
    one = kinds.add_parser("first-hash")
    one.add_argument("--tips", type=int, default=500)
    one.add_argument("--hashes", type=int, default=1 << 24, help="for a block, on average")
    one.add_argument("--threads", type=int, default=1, help="of each miner")
    one.add_argument("--svg")
    one.set_defaults(run=first_hash)
    one = kinds.add_parser("stale")
    one.add_argument("--minutes", type=float, default=8)
    one.add_argument("--settle-secs", type=float, default=90)
    one.add_argument("--share-interval-ms", type=int, default=40)
    one.add_argument("--miners", type=int, default=2)
    one.add_argument("--hashes", type=int, default=1 << 27, help="for a block, at first")
    one.set_defaults(run=stale)
    arguments = parser.parse_args()
    network = arguments.run(arguments)
    if arguments.keep:
        print(f"kept: {network.folder}")
    else:
        subprocess.run(["rm", "-rf", str(network.folder)], check=True)


if __name__ == "__main__":
    main()
