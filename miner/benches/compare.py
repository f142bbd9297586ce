#!/usr/bin/env python3
"""Compares pithead-miner's kernels with other CPU miners on one core.

All programs take turns on the same pinned core, several rounds, and hashes are
divided by the CPU time that they took: what else runs on the machine matters as
little as it can. The medians and their ratios are printed as a Markdown table.

    miner/benches/compare.py --miner target/release/pithead-miner \
        --minerd PATH --cpuminer PATH [--core 1] [--rounds 5] [--seconds 4]

minerd is pooler's cpuminer, cpuminer is JayDDee's cpuminer-opt, both built with
`./autogen.sh && ./configure CFLAGS="-O3 -march=native" && make`.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import time


def pinned(command, core):
    return subprocess.Popen(
        ["taskset", "-c", str(core), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def other_miner(path, seconds, core):
    """The last rate that the program reports in this time, for each second of
    CPU time, in MH/s."""
    start = time.monotonic()
    process = pinned([path, "-a", "sha256d", "--benchmark", "-t", "1"], core)
    rates = []
    scale = {"k": 1e-3, "M": 1.0}

    def stop(*_):
        process.kill()

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    for line in process.stdout:
        found = re.search(r"Total: ([0-9.]+) ([kM])(?:hash|H)/s", line)
        if found:
            rates.append(float(found[1]) * scale[found[2]])
    elapsed = time.monotonic() - start
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    share = (usage.ru_utime + usage.ru_stime) / elapsed
    return rates[-1] / share


def kernel(path, name, seconds, core):
    command = [path, "bench", "--threads", "1", "--seconds", str(seconds)]
    process = pinned([*command, "--kernel", name, "--json"], core)
    row = json.loads(process.communicate()[0])["rows"][0]
    return row["hashes"] / row["cpu_seconds"] / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--miner", required=True)
    parser.add_argument("--minerd")
    parser.add_argument("--cpuminer")
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    args = parser.parse_args()

    command = [args.miner, "bench", "--all-kernels", "--json"]
    command += ["--seconds", "0.05", "--threads", "1"]
    listed = json.loads(subprocess.check_output(command))["kernels"]
    contenders = {
        row["name"]: (lambda name=row["name"]: kernel(args.miner, name, args.seconds, args.core))
        for row in listed
    }
    # Their own figures settle after a while only.
    if args.minerd:
        contenders["minerd"] = lambda: other_miner(args.minerd, 2.5 * args.seconds, args.core)
    if args.cpuminer:
        contenders["cpuminer-opt"] = lambda: other_miner(
            args.cpuminer, 7.5 * args.seconds, args.core
        )
    rates = {name: [] for name in contenders}
    for _ in range(args.rounds):
        for name, measure in contenders.items():
            rates[name].append(measure())
    medians = {name: statistics.median(values) for name, values in rates.items()}
    against = [name for name in ("minerd", "cpuminer-opt", "reference") if name in medians]
    print("| | MH/s | lowest | highest |" + "".join(f" × {name} |" for name in against))
    print("|---|---:|---:|---:|" + "---:|" * len(against))
    for name, median in sorted(medians.items(), key=lambda item: -item[1]):
        ratios = "".join(f" {median / medians[other]:.2f} |" for other in against)
        low, high = min(rates[name]), max(rates[name])
        print(f"| {name} | {median:.2f} | {low:.2f} | {high:.2f} |{ratios}")


if __name__ == "__main__":
    main()
