#!/usr/bin/env python3
"""Holds the crates to their layers: consensus <- pithead-api <- node, miner,
client; sim on node and consensus; and node, miner and client never depend on one
another. Then the modules of the node to theirs: rpc, p2p -> engine -> node ->
sync -> chain, finality, mempool, template -> store.

Reads `cargo metadata`; dependencies of tests count too. Modules are read from
the paths that start with `crate::`.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

ALLOWED = {
    "pithead-consensus": set(),
    "pithead-api": {"pithead-consensus"},
    "pithead-node": {"pithead-api", "pithead-consensus"},
    "pithead-miner": {"pithead-api", "pithead-consensus"},
    "pithead-client": {"pithead-api", "pithead-consensus"},
    "pithead-cli": {"pithead-api", "pithead-client", "pithead-consensus"},
    "pithead-sim": {"pithead-consensus", "pithead-node"},
    "xtask": set(),
}
# What the pure crate must never use: async, I/O, clocks, randomness, logs, protobuf.
FORBIDDEN = {
    "pithead-consensus": {
        "tokio", "tonic", "prost", "prost-types", "tracing", "log", "rand", "getrandom", "redb",
    },
}
# What each module of the node may use, besides itself.
NODE_MODULES = {
    "store": set(),
    "mempool": set(),
    "planted": set(),
    "chain": {"store", "planted"},
    "template": {"chain", "mempool", "store"},
    "finality": {"store", "planted"},
    "sync": {"chain", "finality", "mempool", "store"},
    "node": {"sync", "chain", "finality", "mempool", "template", "store", "planted"},
    "engine": {"node", "sync", "chain", "finality", "mempool", "template", "store"},
    "workers": {"template"},
    "logging": set(),
    "p2p": {"engine", "node", "sync", "finality", "store"},
    # The network's addresses are settings.
    "config": {"logging", "p2p", "finality"},
    "rpc": {"p2p", "engine", "node", "sync", "chain", "finality", "mempool", "template", "store", "workers", "logging"},
}


def node_modules():
    """Faults in what the node's modules use of each other."""
    source, faults = ROOT / "node" / "src", []
    for path in sorted(source.rglob("*.rs")):
        module = path.relative_to(source).parts[0].removesuffix(".rs")
        # Parts of the program, which uses the library as others do.
        if module in ("lib", "main", "validator"):
            continue
        if module not in NODE_MODULES:
            faults.append(f"node/src/{module} is new: say in .ci/check-layers.py what it may use")
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            code = line.split("//")[0]
            for used in re.findall(r"\bcrate::([a-z][a-z0-9_]*)", code):
                if used != module and used not in NODE_MODULES[module]:
                    place = f"{path.relative_to(ROOT)}:{number}"
                    faults.append(f"{place}: {module} must not use {used}")
    return faults


def main():
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "metadata", "--locked", "--no-deps", "--format-version", "1"]
    answer = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    packages = json.loads(answer)["packages"]
    faults = node_modules()
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
    print(f"{len(packages)} crates and {len(NODE_MODULES)} modules keep to their layers")


if __name__ == "__main__":
    main()
