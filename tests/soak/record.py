"""Reads the records that miners write with `--trace-ranges`, and finds what was searched
twice, missed or lost. miner/src/trace.rs describes the format.

Standard library only.
"""

import collections
import hashlib
import itertools
import math

from network import stamp

# A block with one of these outcomes is on no chain.
GIVEN_UP = {"queue_full", "in_vain", "at_the_end", "unknown_work", "not_synced", "stale_work"}
# How many nonces of a range are searched again at most.
STRETCH = 1 << 10


class Record:
    """What all miners searched, found and handed in."""

    def __init__(self, network, names):
        self.jobs, self.searched, self.hits = {}, collections.defaultdict(list), []
        self.answers, self.given_up = collections.Counter(), []
        self.ranges, self.blocks, self.unasked = 0, 0, 0
        for name in names:
            open_hits = collections.defaultdict(list)
            with open(network.folder / f"{name}.trace") as lines:
                for line in lines:
                    self.add_event(name, line.split(), open_hits)

    def add_event(self, name, event, open_hits):
        """Adds an event of a miner. `open_hits` has the solutions without an outcome."""
        what, *rest = event
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
                return
            kind, height = open_hits[found].pop()
            if kind == "block" and outcome in GIVEN_UP:
                self.given_up.append((found, height, int(ms) / 1e3))

    def add_range(self, job, start, count):
        """Adds a batch. Most batches continue the range before them."""
        self.ranges += 1
        own = self.searched[job]
        if own and own[-1][1] == start:
            own[-1][1] += count
        else:
            own.append([start, start + count])

    def doubles(self):
        """How many ranges overlap another range of the same header and version."""
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
        """Tries a random part of the nonces again with Python's SHA-256. Returns how many
        stretches were tried, and how many of them have other solutions than the miners
        found."""
        found = collections.defaultdict(set)
        for job, version, nonce in self.hits:
            found[job].add((version, nonce))
        # A job is chosen in proportion to the nonces that were searched of it.
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
        """The blocks that were given up before the node had another block of their height."""
        first = {}
        for when, height in network.tips():
            first[height] = min(first.get(height, math.inf), stamp(when))
        # A chain with a tip at some height has a block at every height below.
        heights = sorted(first)
        earliest, soonest = {}, math.inf
        for height in reversed(heights):
            soonest = min(soonest, first[height])
            earliest[height] = soonest
        return [f"{found} at height {height}" for found, height, at in self.given_up
                if earliest.get(height, math.inf) > at]


def solutions(header, version, target, first, last):
    """The solutions among the nonces from `first` up to `last`, without `last`."""
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
