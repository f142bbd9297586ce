#!/usr/bin/env python3
"""Holds the crates to their layers. Each Cargo.toml says what its crate uses; this check reads
`cargo metadata` and compares with the list below, so that a new arrow is a decision.

consensus <- pithead-api <- rpc, miner, client; consensus <- core <- engine <- p2p, rpc <- node;
consensus <- keys <- node, client; program <- node, miner; testkit and sim
stand on core and consensus, testkit on pithead-api and sim on testkit as well; the model stands alone. The programs node,
miner and the command never depend on one another.
"""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What each crate may use of the workspace. Tests may use the testkit, and all that it may.
ALLOWED = {
    "pithead-consensus": set(),
    "pithead-api": {"pithead-consensus"},
    "pithead-keys": {"pithead-consensus"},
    "pithead-program": set(),
    "pithead-core": {"pithead-consensus"},
    "pithead-engine": {"pithead-consensus", "pithead-core"},
    "pithead-p2p": {"pithead-consensus", "pithead-core", "pithead-engine"},
    "pithead-rpc": {"pithead-api", "pithead-consensus", "pithead-core", "pithead-engine", "pithead-p2p"},
    "pithead-node": {
        "pithead-consensus", "pithead-core", "pithead-engine", "pithead-keys", "pithead-p2p",
        "pithead-program", "pithead-rpc",
    },
    "pithead-miner": {"pithead-api", "pithead-consensus", "pithead-program"},
    "pithead-client": {"pithead-api", "pithead-consensus", "pithead-keys"},
    "pithead-cli": {"pithead-api", "pithead-consensus", "pithead-client"},
    "pithead-testkit": {"pithead-api", "pithead-consensus", "pithead-core"},
    "pithead-sim": {"pithead-consensus", "pithead-core", "pithead-testkit"},
    "pithead-model": set(),
    "xtask": set(),
}
# What tests may use besides.
FOR_TESTS = {"pithead-testkit", "pithead-api", "pithead-core"}
# What must not be built for a crate, at any distance: the pure crates stay pure.
NETWORK = {"libp2p", "tonic", "prost", "tokio"}
# What consensus must not name itself: logs and chance. A library below it brings them along.
NEVER_NAMED = {"pithead-consensus": {"tracing", "log", "rand", "getrandom"}}
NEVER_BUILT = {
    "pithead-consensus": NETWORK | {"redb"},
    "pithead-core": NETWORK,
    "pithead-keys": NETWORK,
    "pithead-program": NETWORK,
    "pithead-sim": NETWORK,
}


def metadata():
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    return json.loads(subprocess.check_output(command, cwd=ROOT))


def direct_faults(packages):
    """Arrows between crates of the workspace that the list does not have."""
    for package in packages:
        name = package["name"]
        if name not in ALLOWED:
            yield f"{name} is a new member: say in .ci/check-layers.py what it may depend on"
            continue
        for dependency in package["dependencies"]:
            used, kind = dependency["name"], dependency["kind"]
            if kind is None and used in NEVER_NAMED.get(name, set()):
                yield f"{name} must not use {used}"
            allowed = ALLOWED[name] | (FOR_TESTS if kind == "dev" else set())
            if dependency.get("path") and used not in allowed:
                yield f"{name} must not depend on {used} ({kind or 'normal'})"


def distant_faults(name):
    """What is built for a crate, at any distance, that must not be."""
    command = ["cargo", "tree", "--locked", "-p", name, "-e", "normal", "--prefix", "none", "-f", "{p}"]
    lines = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    built = {line.split()[0] for line in lines if line.strip()}
    for used in sorted(built & NEVER_BUILT[name]):
        yield f"{used} is built for {name}: `cargo tree -p {name} -i {used}` says through which crate"


def main():
    packages = [each for each in metadata()["packages"] if each["source"] is None]
    faults = list(direct_faults(packages))
    for name in NEVER_BUILT:
        faults.extend(distant_faults(name))
    print("\n".join(faults) or "the crates keep to their layers")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
