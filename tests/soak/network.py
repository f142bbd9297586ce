"""A network of real processes on loopback: a folder with a genesis, one node, some
miners, and what their logs say.

Standard library only. `mining.py` has the tests.
"""

import collections
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
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
max_account_changes = 12000
min_opening_amount = 10000
reward_maturity = 0
checkpoint_interval = 10
approval_quorum = 0
"""
# How long a program may take to start or to end.
START_SECS = 30
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
# The node's log has one of these for every new tip.
TIP_MESSAGES = ("new tip", "reorganised to a better chain")


def compact(hashes):
    """The compact target with which a block takes this many hashes on average."""
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
        # A restarted node listens at the same port, so its miners find it again.
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
        """The greatest height that the node has logged."""
        return max((height for _, height in self.tips()), default=0)

    def tips(self):
        """The time and the height of every tip, from the logs of all runs of the node."""
        for number in range(1, self.starts + 1):
            for event in events(self.folder / f"node-{number}.log"):
                if event.get("message") in TIP_MESSAGES:
                    yield event["timestamp"], event["height"]


def parsed(line):
    """An event of a log, with its fields beside the timestamp."""
    event = json.loads(line)
    event.update(event.pop("fields", {}))
    return event


def events(path):
    """The events of a log."""
    with open(path) as lines:
        for line in lines:
            # The last line may be half written.
            if line.endswith("}\n"):
                yield parsed(line)


def stamp(text):
    """A time of a log as Unix seconds."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Heights:
    """Follows the node's log, to know the node's height without a call."""

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
                event = parsed(line)
                if event.get("message") in TIP_MESSAGES:
                    self.height = max(self.height, event["height"])
            if self.start == self.network.starts:
                return self.height
            self.start, self.offset = self.start + 1, 0


def resident_mib(process):
    """Resident memory of a process in MiB."""
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
