#!/usr/bin/env python3
"""Writes vectors.json from the reference implementation.

    generate.py          writes the file
    generate.py --check  fails if the committed file differs

Nothing in it is random: every choice comes from a fixed seed, and signatures
use salts derived from their place.
"""

import json
import pathlib
import random
import sys

import fork_choice
import pithead_reference as ref

HERE = pathlib.Path(__file__).resolve().parent
FIXTURES = HERE.parent.parent / "testkit" / "keys"
OUTPUT = HERE / "vectors.json"
KEYS = [ref.Key(FIXTURES / f"test-only-key-{i}.pem") for i in range(8)]


def salt(*place):
    return ref.sha256(("salt " + " ".join(map(str, place))).encode())


def random_bytes(rng, size):
    return rng.getrandbits(8 * size).to_bytes(size, "big") if size else b""


def hexed(value):
    """Bytes as hex, recursively."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: hexed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hexed(item) for item in value]
    return value


def signed(key, sequence, fee, outputs, data, genesis_hash, place):
    tx = {
        "sender": key.address, "sequence": sequence, "fee": fee, "outputs": outputs,
        "data": data, "key": key.modulus if sequence == 0 else None,
    }
    message = ref.transaction_message(tx, genesis_hash)
    tx["signature"] = key.sign(message, salt(*place))
    assert ref.verify(key.modulus, message, tx["signature"])
    return tx


def keys():
    return [{
        "modulus": key.modulus,
        "payload": key.address,
        "texts": {p: ref.bech32m(p, key.address) for p in ("pit", "tpit", "dpit", "x0")},
    } for key in KEYS]


def geneses():
    rich = ref.NETWORKS["dev"] | {
        "name": "A private network", "address_prefix": "priv8", "approval_quorum": 5,
        "allocations": {
            KEYS[0].address: 100 * ref.PIT, bytes(32): 1, bytes([255]) * 32: 123456789,
        },
        "validators": [key.modulus for key in KEYS[:6]],
    }
    out = []
    for g in [*ref.NETWORKS.values(), rich]:
        h, c = ref.genesis_block(g)
        out.append({
            "preset": g["name"] if g["name"] in ref.NETWORKS else None,
            "toml": ref.genesis_toml(g), "encoding": ref.genesis_encoding(g),
            "block": ref.block(h, c, []), "hash": ref.sha256d(ref.header(h)),
        })
    return out


def transactions(rng):
    out = []
    shapes = [(0, 1, 0), (1, 1, 0), (0, 3, 5), (7, 255, 1024), (2**64 - 1, 2, 1024), (3, 25, 31)]
    for i, (sequence, outputs, data) in enumerate(shapes):
        genesis_hash = random_bytes(rng, 32)
        tx = signed(
            KEYS[i % len(KEYS)], sequence, rng.randrange(10**9),
            [(random_bytes(rng, 32), rng.randrange(1, 10**12)) for _ in range(outputs)],
            random_bytes(rng, data), genesis_hash, ("transaction", i))
        encoded = ref.signed_transaction(tx)
        out.append(tx | {
            "genesis_hash": genesis_hash, "body": ref.transaction_body(tx),
            "message": ref.transaction_message(tx, genesis_hash),
            "txid": ref.txid(tx, genesis_hash), "encoded": encoded,
            "leaf": ref.sha256(b"\x00" + encoded),
        })
    return out


def headers(rng):
    out = []
    for _ in range(8):
        c = {
            "transactions_root": random_bytes(rng, 32), "state_root": random_bytes(rng, 32),
            "reward_address": random_bytes(rng, 32), "extra_nonce": random_bytes(rng, 8),
        }
        h = {
            "version": rng.getrandbits(32), "prev": random_bytes(rng, 32),
            "merkle_root": ref.sha256d(ref.commitment(c)), "time": rng.getrandbits(32),
            "bits": rng.getrandbits(32), "nonce": rng.getrandbits(32),
        }
        hash_ = ref.sha256d(ref.header(h))
        out.append({
            "header": h, "commitment": c, "header_bytes": ref.header(h),
            "commitment_bytes": ref.commitment(c), "hash": hash_, "shown": hash_[::-1].hex(),
        })
    return out


def merkle(rng):
    out = []
    for count in [*range(0, 20), 31, 32, 33, 64, 65, 100]:
        leaves = [random_bytes(rng, rng.randrange(0, 40)) for _ in range(count)]
        out.append({"leaves": leaves, "root": ref.merkle_root(leaves)})
    return out


def states(rng):
    """Each entry changes the accounts of the one before."""
    out, accounts = [], {}
    for count in [0, 1, 1, 2, 5, 20, 100, 300]:
        changes = {random_bytes(rng, 32): (rng.randrange(ref.MAX_MONEY + 1), rng.randrange(1000))
                   for _ in range(count)}
        for address in rng.sample(sorted(accounts), len(accounts) // 3):
            changes[address] = (rng.randrange(10**6), rng.getrandbits(64))
        accounts |= changes
        out.append({
            "changes": [(a, b, s) for a, (b, s) in changes.items()],
            "root": ref.state_root(accounts),
        })
    return out


def difficulty(rng):
    out = []
    for network in ref.NETWORKS.values():
        limit = ref.target_of(network["pow_limit_bits"])
        spans = [0, 1, 2, 9, 10, 11, 59, 60, 61, 3600, 7200, 7210, 7211, 100_000, 2**31]
        spans += [rng.randrange(0, 5 * network["half_life_secs"]) for _ in range(40)]
        for span in spans:
            target = max(limit >> rng.randrange(0, 200), 1)
            parent_bits = ref.bits_of(max(target * rng.randrange(1, 1000) // 1000, 1))
            grandparent_time = rng.randrange(0, 2**32 - span)
            if rng.randrange(10) == 0:
                parent_bits = rng.choice([network["pow_limit_bits"], 0x01010000, 0x01020000])
            parent_time = grandparent_time + span
            out.append({
                "network": network["name"], "parent_bits": parent_bits,
                "parent_time": parent_time, "grandparent_time": grandparent_time,
                "expected": ref.expected_bits(
                    network, parent_bits, parent_time, grandparent_time),
            })
        out.append({
            "network": network["name"], "parent_bits": network["bits"],
            "parent_time": network["time"], "grandparent_time": None,
            "expected": network["bits"],
        })
    return out


def targets(rng):
    out = []
    for _ in range(100):
        target = rng.getrandbits(rng.randrange(1, 257)) or 1
        bits = ref.bits_of(target)
        out.append({
            "target": target.to_bytes(32, "little"), "bits": bits,
            "decoded": ref.target_of(bits).to_bytes(32, "little"),
            "work": min(ref.work(target), 2**256 - 1).to_bytes(32, "big"),
        })
    return out


def subsidies():
    times = [0, 1, 2**31, 2**32 - 1]
    # The first second of each year, and the last of the year before.
    day = 0
    for year in range(1970, 2106):
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        day += 366 if leap else 365
        times += [day * 86400 - 1, day * 86400]
    return [{"parent_time": t, "grains": ref.subsidy(t)} for t in times if t < 2**32]


def amounts(rng):
    grains = [0, 1, 10, 99, 100_000_000, 50_000_000, 12_345_678_900, ref.MAX_MONEY]
    grains += [rng.randrange(ref.MAX_MONEY) for _ in range(30)]
    return [{"grains": g, "text": ref.pit(g)} for g in grains]


def approvals(rng):
    out = []
    for i in range(4):
        genesis_hash = random_bytes(rng, 32)
        a = {
            "validator": KEYS[i].address, "source_height": rng.getrandbits(40),
            "source_hash": random_bytes(rng, 32), "target_height": rng.getrandbits(64),
            "target_hash": random_bytes(rng, 32),
        }
        message = ref.approval_message(a, genesis_hash)
        signature = KEYS[i].sign(message, salt("approval", i))
        out.append(a | {
            "genesis_hash": genesis_hash, "encoded": ref.approval(a), "message": message,
            "signed": ref.approval(a) + signature, "modulus": KEYS[i].modulus,
        })
    return out


def chain(rng):
    """A short valid chain across the halving of 2027, rewards maturing after
    two blocks, with the state after each block."""
    network = ref.NETWORKS["dev"] | {
        "name": "vectors", "bits": 0x207FFFFF, "reward_maturity": 2,
        # 2026-12-31 23:59:50 UTC
        "time": 1798761590,
        "allocations": {key.address: 1000 * ref.PIT for key in KEYS[:3]},
    }
    h, c = ref.genesis_block(network)
    genesis_hash = ref.sha256d(ref.header(h))
    accounts = {a: (g, 0) for a, g in network["allocations"].items()}
    chain_headers, rewards, blocks = [h], [None], []
    for height in range(1, 9):
        parent = chain_headers[-1]
        txs, sequences = [], {a: s for a, (_, s) in accounts.items()}
        for n in range(height % 4):
            key = KEYS[rng.randrange(3)]
            sequence = sequences[key.address]
            sequences[key.address] += 1
            # Now and then a sender pays itself.
            outputs = [(rng.choice(KEYS).address, rng.randrange(10_000, 10 * ref.PIT))
                       for _ in range(rng.randrange(1, 4))]
            txs.append(signed(key, sequence, rng.randrange(10**6), outputs,
                              random_bytes(rng, n), genesis_hash, ("chain", height, n)))
        reward_address = KEYS[3 + height % 2].address
        c = {
            "transactions_root": ref.merkle_root([ref.signed_transaction(t) for t in txs]),
            "state_root": ref.state_root(accounts),
            "reward_address": reward_address, "extra_nonce": ref.le(height, 8),
        }
        grandparent_time = chain_headers[-2]["time"] if height > 1 else None
        h = {
            "version": 0x20000000 | rng.getrandbits(16) << 13,
            "prev": ref.sha256d(ref.header(parent)),
            "merkle_root": ref.sha256d(ref.commitment(c)),
            "time": parent["time"] + rng.choice([0, 1, 2, 3, 9]), "nonce": 0,
            "bits": ref.expected_bits(network, parent["bits"], parent["time"], grandparent_time),
        }
        while int.from_bytes(ref.sha256d(ref.header(h)), "little") > ref.target_of(h["bits"]):
            h["nonce"] += 1
        fees = sum(tx["fee"] for tx in txs)
        issued = ref.subsidy(parent["time"])
        rewards.append((reward_address, ref.reward(issued, txs)))
        paid = rewards[height - 2] if height > 2 else None
        accounts = ref.transition(network, accounts, txs, paid)
        chain_headers.append(h)
        blocks.append({
            "block": ref.block(h, c, txs), "hash": ref.sha256d(ref.header(h)),
            "txids": [ref.txid(tx, genesis_hash) for tx in txs],
            "subsidy": issued, "fees": fees,
            "accounts_after": [(a, b, s) for a, (b, s) in sorted(accounts.items())],
            "state_root_after": ref.state_root(accounts),
        })
    return {"toml": ref.genesis_toml(network), "genesis_hash": genesis_hash, "blocks": blocks}


def ledger():
    """Chains at the limits of §4 and §5, whose rewards are paid at once. The last block
    decides; all before it are valid. Senders are given by the number of their key."""
    new, other, most = bytes([7]) * 32, bytes([8]) * 32, ref.MAX_MONEY
    first, second = KEYS[0].address, KEYS[1].address
    rich = {first: 1000 * ref.PIT, second: 1}
    least, late = 10_000, 4_197_000_000  # 2102, with a subsidy below the least amount
    many = [(bytes([1, i]) * 16, least) for i in range(255)]
    # name, allocations, blocks of (reward address, [(key, sequence, fee, outputs)])
    cases = [
        ("an opening at the least amount", rich, [(other, [(0, 0, 1, [(new, least)])])]),
        ("an opening below it", rich, [(other, [(0, 0, 1, [(new, least - 1)])])]),
        ("little to an open account", rich, [(other, [(0, 0, 1, [(second, 1)])])]),
        ("little after an opening", rich, [(other, [(0, 0, 1, [(new, least), (new, 1)])])]),
        ("little before an opening", rich, [(other, [(0, 0, 1, [(new, 1), (new, least)])])]),
        ("little to an account that the block emptied", rich, [
            (other, [(1, 0, 0, [(first, 1)]), (0, 0, 1, [(second, 1)])])]),
        ("little to an account that an earlier block emptied", rich, [
            (other, [(1, 0, 0, [(first, 1)])]), (other, [(0, 0, 1, [(second, 1)])])]),
        ("all to itself", rich, [(other, [(1, 0, 0, [(second, 1)])])]),
        ("a late reward opens an account with less", rich, [(other, [])]),
        ("as many account changes as allowed", rich, [(other, [(0, 0, 1, many)])]),
        ("more account changes", rich, [
            (other, [(0, 0, 1, many), (1, 0, 0, [(second, 1)])])]),
        ("a payment up to the limit", {first: ref.PIT, second: most - ref.PIT}, [
            (other, [(0, 0, 0, [(second, ref.PIT)])])]),
        ("a payment above the limit", {first: ref.PIT, second: most - ref.PIT}, [
            (first, []), (other, [(0, 0, 0, [(second, ref.PIT + 1)])])]),
        ("a reward is burnt in part", {first: most - ref.PIT}, [(first, [])]),
        ("a reward is burnt in whole", {first: most}, [(first, [])]),
        ("a reward has room for the fee that its account paid", {first: most}, [
            (first, [(0, 0, 60 * ref.PIT, [(first, 1)])])]),
        ("the supply exceeds the limit", {first: most}, [(other, []), (new, [])]),
    ]
    out = []
    for name, allocations, blocks in cases:
        network = ref.NETWORKS["dev"] | {
            "name": "ledger", "bits": 0x207FFFFF, "max_account_changes": 256,
            "time": late if "late" in name else ref.NETWORKS["dev"]["time"],
            "allocations": allocations,
        }
        case = {"name": name, "toml": ref.genesis_toml(network), "blocks": blocks, "broken": None}
        accounts = {a: (grains, 0) for a, grains in allocations.items()}
        for number, (address, payments) in enumerate(blocks):
            txs = [{"sender": KEYS[k].address, "sequence": s, "fee": f, "outputs": outputs}
                   for k, s, f, outputs in payments]
            # Blocks come two seconds apart.
            issued = ref.subsidy(network["time"] + 2 * number)
            try:
                accounts = ref.transition(
                    network, accounts, txs, (address, ref.reward(issued, txs)))
            except ref.Invalid as error:
                assert number == len(blocks) - 1
                case["broken"] = str(error)
        case["accounts_after"] = [(a, b, s) for a, (b, s) in sorted(accounts.items())]
        case["supply"] = str(sum(b for b, _ in accounts.values()))
        out.append(case)
    return out


def vectors():
    rng = random.Random(2023)
    return hexed({
        "keys": keys(), "geneses": geneses(), "transactions": transactions(rng),
        "headers": headers(rng), "merkle": merkle(rng), "states": states(rng),
        "difficulty": difficulty(rng), "targets": targets(rng), "subsidies": subsidies(),
        "amounts": amounts(rng), "approvals": approvals(rng), "chain": chain(rng),
        "ledger": ledger(),
        "fork_choice": [fork_choice.random_case(rng) for _ in range(60)],
    })


def main():
    text = json.dumps(vectors(), indent=1) + "\n"
    if sys.argv[1:] == ["--check"]:
        if not OUTPUT.exists() or OUTPUT.read_text(encoding="ascii") != text:
            sys.exit(f"{OUTPUT.name} is not what generate.py makes")
        print(f"{OUTPUT.name} is up to date")
    elif not sys.argv[1:]:
        OUTPUT.write_text(text, encoding="ascii")
        print(f"wrote {OUTPUT.name}")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
