#!/usr/bin/env python3
"""Compares pithead-miner's kernels with other CPU miners on one core.

All programs take turns on the same pinned core, for several rounds. For each, the hashes
of a window of time are divided by the CPU time of the same window, so other programs on
the machine matter little. The window leaves out the program's first moments.

The medians and their ratios are printed as two Markdown tables: one with a single version
for each header, as the other miners work, and one with the number of versions that each
kernel works best with.

    miner/benches/compare.py --miner target/release/pithead-miner \\
        --minerd PATH --cpuminer PATH [--core 1] [--rounds 7] [--seconds 2]

minerd is pooler's cpuminer, cpuminer is JayDDee's cpuminer-opt, both built with
`./autogen.sh && ./configure CFLAGS="-O3 -march=native" && make`.

With --scaling N it compares one thread with two threads instead, each on its own
processor, N times in turns.
"""

import argparse
import json
import os
import re
import select
import signal
import statistics
import subprocess
import time

# Other miners report every five seconds on a free core, and more often at first. Their
# window begins with the first report after WARM_UP seconds and has REPORTS reports.
WARM_UP = 1.5
REPORTS = 3
# A miner that takes longer for these reports has failed.
REPORTS_SECONDS_MAX = 90.0


def cpu_seconds(pid):
    """CPU time that a process has used so far."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def other_miner(command, core):
    """Hashes per second of CPU time in the window, in MH/s. minerd reports the hashes
    since its previous report, cpuminer-opt the rate since then."""
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command, "-a", "sha256d", "--benchmark", "-t", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    hashes = re.compile(rb"thread 0: ([0-9]+) hashes")
    rated = re.compile(rb"Thread 0, CPU \d+: ([0-9.]+) ([kM])")
    scale = {b"k": 1e3, b"M": 1e6}
    start = time.monotonic()
    reports, rest = [], b""

    def window():
        return [report for report in reports if report[0] - start >= WARM_UP]

    try:
        while len(window()) < REPORTS:
            left = start + REPORTS_SECONDS_MAX - time.monotonic()
            if not select.select([process.stdout], [], [], max(left, 0.0))[0]:
                raise SystemExit(f"{command[0]} reported no more than {len(reports)} times")
            now, cpu = time.monotonic(), cpu_seconds(process.pid)
            *lines, rest = (rest + os.read(process.stdout.fileno(), 65_536)).split(b"\n")
            for line in lines:
                before = reports[-1][0] if reports else start
                if found := hashes.search(line):
                    reports.append((now, cpu, float(found[1])))
                elif found := rated.search(line):
                    rate = float(found[1]) * scale[found[2]]
                    reports.append((now, cpu, rate * (now - before)))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    (_, begin, _), *counted_ones = window()
    return sum(report[2] for report in counted_ones) / (counted_ones[-1][1] - begin) / 1e6


def bench(path, arguments, processors):
    command = ["taskset", "-c", processors, path, "bench", "--json", *arguments]
    return json.loads(subprocess.check_output(command))


def kernel(args, name, versions):
    arguments = ["--threads", "1", "--seconds", str(args.seconds), "--kernel", name]
    arguments += ["--versions", str(versions)]
    row = bench(args.miner, arguments, str(args.core))["rows"][0]
    return row["hashes"] / row["cpu_seconds"] / 1e6


def print_table(title, rates):
    medians = {name: statistics.median(values) for name, values in rates.items()}
    against = [name for name in ("minerd", "cpuminer-opt", "reference") if name in medians]
    print(f"\n| {title} | MH/s | lowest | highest |" + "".join(f" × {name} |" for name in against))
    print("|---|---:|---:|---:|" + "---:|" * len(against))
    for name, median in sorted(medians.items(), key=lambda item: -item[1]):
        ratios = "".join(f" {median / medians[other]:.2f} |" for other in against)
        low, high = min(rates[name]), max(rates[name])
        print(f"| {name} | {median:.2f} | {low:.2f} | {high:.2f} |{ratios}")


def compare(args):
    report = bench(
        args.miner, ["--all-kernels", "--seconds", "0.05", "--threads", "1"], str(args.core)
    )
    kernels = {row["name"]: row["versions"] for row in report["kernels"]}
    others = {}
    if args.minerd:
        others["minerd"] = [args.minerd]
    if args.cpuminer:
        others["cpuminer-opt"] = [args.cpuminer, "--hash-meter", "--no-color"]
    one = {name: [] for name in [*kernels, *others]}
    rolled = {name: [] for name in [*kernels, *others]}
    for _ in range(args.rounds):
        for name, versions in kernels.items():
            one[name].append(kernel(args, name, 1))
            again = versions > 1
            rolled[name].append(kernel(args, name, versions) if again else one[name][-1])
        for name, command in others.items():
            rate = other_miner(command, args.core)
            one[name].append(rate)
            rolled[name].append(rate)
    print(f"{report['processor']}, {args.rounds} rounds")
    print_table("one version", one)
    print_table("versions rolled", rolled)


def scaling(args):
    """Prints the hashes per second of CPU time, of one thread and of two."""
    rates = {1: [], 2: []}
    for _ in range(args.scaling):
        arguments = ["--threads", "2", "--pin", "--seconds", str(args.seconds)]
        report = bench(args.miner, [*arguments, "--kernel", args.kernel], "0-1")
        for row in report["rows"]:
            rates[row["threads"]].append(row["hashes"] / row["cpu_seconds"] / 1e6)
    one, two = (statistics.median(rates[threads]) for threads in (1, 2))
    print(f"{report['processor']}, {args.scaling} turns, {args.kernel}")
    for threads, values in rates.items():
        print(f"{threads}: {statistics.median(values):.2f} {min(values):.2f} {max(values):.2f}")
    print(f"two against one: {2 * two / one:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--miner", required=True)
    parser.add_argument("--minerd")
    parser.add_argument("--cpuminer")
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--scaling", type=int, metavar="N")
    parser.add_argument("--kernel", default="sha-avx512", help="the kernel to use with --scaling")
    args = parser.parse_args()
    if args.scaling:
        scaling(args)
    else:
        compare(args)


if __name__ == "__main__":
    main()
