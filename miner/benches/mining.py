#!/usr/bin/env python3
"""Mining between real processes: what was searched, what was found, and how fast
new work is taken up.

    cargo build --release --workspace
    python3 miner/benches/mining.py soak --blocks 10000
    python3 miner/benches/mining.py first-hash --tips 500 --svg docs/figures/first-hash.svg
    python3 miner/benches/mining.py stale --minutes 10

`soak` lets four miners mine on one node that is restarted and given other blocks
at random, and holds their records to three promises: nothing is searched twice, no
solution is lost, no memory grows. `first-hash` measures the time from a node's
new tip to each of two miners' first hash on it. `stale` counts shares that came
too late at a two-second block interval, and what the miners do besides hashing.

Standard library only. Programs are taken from --programs (target/release).
"""

import argparse
import collections
import datetime
import json
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

    def start_node(self):
        self.starts += 1
        ready = self.folder / f"ready-{self.starts}"
        log = open(self.folder / f"node-{self.starts}.log", "w")
        self.node = subprocess.Popen(
            [self.program("pithead-node"), "--genesis", str(self.genesis),
             "--data-dir", str(self.data), "--offline", "--log-format", "json",
             "--rpc-listen", f"127.0.0.1:{self.port}", "--ready-file", str(ready),
             "--rpc-requests-per-minute", "0"],
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
    ranges, doubles = check_ranges(network, names)
    hits, lost, answers = check_hits(network, names)
    print(f"{height} blocks in {seconds:.0f} s; {restarts['SIGTERM']} restarts after SIGTERM, "
          f"{restarts['SIGKILL']} after SIGKILL; {other_tips} times other blocks in between")
    print(verified.stdout.strip())
    print(f"{ranges} ranges searched, {doubles} of them searched twice")
    print(f"{hits} solutions handed in, {lost} without an answer or a reason; "
          + ", ".join(f"{what} {count}" for what, count in answers.most_common()))
    half = memory[len(memory) // 2:]
    node = [sample[1] for sample in memory]
    miner = [sample[2] for sample in memory]
    print(f"resident: node {node[0]:.0f} MiB at first, {max(node):.0f} at most, {node[-1]:.0f} at the end; "
          f"largest miner {miner[0]:.1f}, {max(miner):.1f}, {miner[-1]:.1f} MiB")
    late = [sample[2] for sample in half]
    faults = []
    if doubles:
        faults.append("something was searched twice")
    if lost:
        faults.append("solutions were lost")
    if len(late) > 2 and late[-1] > 1.5 * late[0] + 4:
        faults.append("a miner's memory grows")
    if faults:
        sys.exit(f"FAILED (see {network.folder}): " + "; ".join(faults))
    print("nothing was searched twice, nothing was lost, nothing grew")
    return network


def check_ranges(network, names):
    """How many ranges there are, and how many overlap another of their header."""
    by_header, count = collections.defaultdict(list), 0
    for name in names:
        with open(network.folder / f"{name}.trace") as lines:
            for line in lines:
                if line.startswith("range "):
                    _, header, versions, start, length = line.split()
                    by_header[header, versions].append((int(start), int(length)))
                    count += 1
    doubles = 0
    for ranges in by_header.values():
        ranges.sort()
        end = 0
        for start, length in ranges:
            doubles += start < end
            end = max(end, start + length)
    return count, doubles


def check_hits(network, names):
    """Solutions, those of unknown fate, and what became of the others."""
    hits, answers, lost = 0, collections.Counter(), 0
    for name in names:
        open_hits = collections.Counter()
        with open(network.folder / f"{name}.trace") as lines:
            for line in lines:
                what, *rest = line.split()
                if what == "hit":
                    hits += 1
                    open_hits[rest[0]] += 1
                elif what == "answer":
                    open_hits[rest[0]] -= 1
                    answers[rest[1]] += 1
        lost += sum(count for count in open_hits.values() if count > 0)
    return hits, lost, answers


# --- first hash ---------------------------------------------------------------

def stamp(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def first_hash(arguments):
    network = Network(arguments.programs, time=int(time.time()) - 5, interval=1,
                      half_life=10_000_000, bits=compact(arguments.hashes))
    network.start_node()
    names = ["miner-1", "miner-2"]
    for name in names:
        network.start_miner(name)
    heights = Heights(network)
    while heights.now() < arguments.tips + 2:
        time.sleep(0.2)
    network.stop_miners()
    network.stop_node()
    tips = {height: stamp(when) for when, height in network.tips()}
    samples = []
    for name in names:
        works = [event for event in events(network.folder / f"{name}.log")
                 if event.get("message") == "new work"]
        seen = set()
        for work, after in zip(works, works[1:]):
            parent = work["height"] - 1
            waited = after.get("previous_first_hash_us")
            if parent in tips and parent > 1 and parent not in seen and waited is not None:
                seen.add(parent)
                arrived = stamp(work["timestamp"]) - tips[parent]
                samples.append(arrived * 1e3 + waited / 1e3)
    samples.sort()
    if len(samples) < arguments.tips:
        sys.exit(f"only {len(samples)} samples: see {network.folder}")
    figures = {percent: quantile(samples, percent) for percent in (50, 90, 99, 100)}
    print(f"{len(tips)} tips, {len(samples)} first hashes of two miners")
    print("| p50 | p90 | p99 | max |\n|--:|--:|--:|--:|")
    print("| " + " | ".join(f"{figures[percent]:.2f} ms" for percent in (50, 90, 99, 100)) + " |")
    if arguments.svg:
        pathlib.Path(arguments.svg).write_text(plot(samples, figures))
        print(f"plotted to {arguments.svg}")
    return network


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
    network.start_node()
    # Shares come about every five seconds a worker: many workers make many shares.
    names = [f"miner-{number}" for number in range(1, arguments.miners + 1)]
    for name in names:
        network.start_miner(name)
    time.sleep(30)
    before = {name: thread_seconds(network.miners[name]) for name in names}
    began = time.monotonic()
    first = network.height()
    time.sleep(arguments.minutes * 60)
    seconds = time.monotonic() - began
    blocks = network.height() - first
    besides = []
    for name in names:
        used = thread_seconds(network.miners[name])
        used.subtract(before[name])
        # The threads that hash are called miner-0, miner-1, …
        besides.append(sum(count for thread, count in used.items()
                           if not thread.startswith("miner-")) / seconds)
    summaries = network.stop_miners()
    network.stop_node()
    total = collections.Counter()
    for summary in summaries.values():
        total.update(summary["outcomes"])
    late = total["stale_work"] + total["accepted_side"] + total["unknown_work"]
    right = total["accepted_share"] + total["accepted_block"] + late
    print(f"{blocks} blocks in {seconds:.0f} s, one in {seconds / max(1, blocks):.2f} s; {len(names)} miners")
    print(f"{right} shares and blocks, {late} of them too late: {100 * late / max(1, right):.3f} %; "
          + ", ".join(f"{what} {count}" for what, count in total.most_common()))
    print(f"besides hashing, each miner took {100 * sum(besides) / len(besides):.2f} % of a core, "
          f"{100 * max(besides):.2f} % at most")
    return network


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", default="target/release")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and records")
    kinds = parser.add_subparsers(required=True)
    one = kinds.add_parser("soak")
    one.add_argument("--blocks", type=int, default=10_000)
    one.add_argument("--hashes", type=int, default=1 << 21, help="for a block, on average")
    one.add_argument("--seed", type=int)
    one.set_defaults(run=soak)
    one = kinds.add_parser("first-hash")
    one.add_argument("--tips", type=int, default=500)
    one.add_argument("--hashes", type=int, default=1 << 24, help="for a block, on average")
    one.add_argument("--svg")
    one.set_defaults(run=first_hash)
    one = kinds.add_parser("stale")
    one.add_argument("--minutes", type=float, default=10)
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
