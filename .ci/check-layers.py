#!/usr/bin/env python3
"""Holds the crates to their layers: consensus <- pithead-api <- node, miner,
client; and node, miner and client never depend on one another.

Reads `cargo metadata`; dependencies of tests count too.
"""

import json
import os
import subprocess
import sys

ALLOWED = {
    "pithead-consensus": set(),
    "pithead-api": {"pithead-consensus"},
    "pithead-node": {"pithead-api", "pithead-consensus"},
    "pithead-miner": {"pithead-api", "pithead-consensus"},
    "pithead-client": {"pithead-api", "pithead-consensus"},
    "xtask": set(),
}
# What the pure crate must never use: async, I/O, clocks, randomness, logs, protobuf.
FORBIDDEN = {
    "pithead-consensus": {
        "tokio", "tonic", "prost", "prost-types", "tracing", "log", "rand", "getrandom", "redb",
    },
}


def main():
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "metadata", "--locked", "--no-deps", "--format-version", "1"]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    packages = json.loads(answer)["packages"]
    faults = []
    for package in packages:
        name = package["name"]
        if name not in ALLOWED:
            faults.append(f"{name} is a new member: say in .ci/check-layers.py what it may depend on")
            continue
        for dependency in package["dependencies"]:
            used, kind = dependency["name"], dependency["kind"] or "normal"
            if dependency.get("path") and used not in ALLOWED[name]:
                faults.append(f"{name} must not depend on {used} ({kind})")
            if kind == "normal" and used in FORBIDDEN.get(name, ()):
                faults.append(f"{name} must not use {used}: it is pure")
    for name in ALLOWED.keys() - {package["name"] for package in packages}:
        faults.append(f"{name} is no longer a member: remove it from .ci/check-layers.py")
    if faults:
        sys.exit("\n".join(sorted(faults)))
    print(f"{len(packages)} crates keep to their layers")


if __name__ == "__main__":
    main()
