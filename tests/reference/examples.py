#!/usr/bin/env python3
"""The worked examples of docs/protocol.md, computed by the reference.

    examples.py          prints them
    examples.py --check  fails if docs/protocol.md shows anything else
"""

import pathlib
import sys

import pithead_reference as ref

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DOCUMENT = ROOT / "docs" / "protocol.md"
KEYS = [ref.Key(ROOT / "testkit" / "keys" / f"test-only-key-{i}.pem")
        for i in range(2)]
NETWORK = ref.NETWORKS["dev"]
# Found by counting up from 0; block_hash() asserts that it meets the target.
NONCE = 915_934


def rows(*items, width=64):
    """Name and bytes in two columns; long bytes go on in the next line."""
    out = []
    for name, value in items:
        text = value if isinstance(value, str) else value.hex()
        pieces = [text[i:i + width] for i in range(0, len(text), width)] or [""]
        out.append(f"{name:<20} {pieces[0]}")
        out += [f"{'':<20} {piece}" for piece in pieces[1:]]
    return "\n".join(out) + "\n"


def genesis():
    encoding = ref.genesis_encoding(NETWORK)
    header, commitment = ref.genesis_block(NETWORK)
    hash_ = ref.sha256d(ref.header(header))
    return rows(
        ("encoding", encoding),
        ("transactions_root", commitment["transactions_root"]),
        ("commitment", ref.commitment(commitment)),
        ("merkle_root", header["merkle_root"]),
        ("header", ref.header(header)),
        ("hash, header order", hash_),
        ("hash, as shown", hash_[::-1].hex()),
    )


def address():
    key = KEYS[0]
    return rows(
        ("modulus", key.modulus),
        ("SHA-256 of the tag", ref.sha256(b"pithead/address")),
        ("payload", key.address),
        ("text on main", ref.bech32m("pit", key.address)),
        ("text on dev", ref.bech32m("dpit", key.address)),
    )


def payment():
    return {
        "sender": KEYS[0].address, "sequence": 1, "fee": 351,
        "outputs": [(KEYS[1].address, 150_000_000)], "data": b"", "key": None,
        "signature": bytes(256),
    }


def txid():
    tx = payment()
    header, _ = ref.genesis_block(NETWORK)
    genesis_hash = ref.sha256d(ref.header(header))
    (recipient, amount), = tx["outputs"]
    parts = [
        ("version, kind", bytes([1, 0])), ("sender", tx["sender"]),
        ("sequence", ref.le(tx["sequence"], 8)), ("fee", ref.le(tx["fee"], 8)),
        ("output_count", ref.le(1, 2)), ("recipient", recipient),
        ("amount", ref.le(amount, 8)), ("data_len", ref.le(0, 2)),
    ]
    body = b"".join(value for _, value in parts)
    assert body == ref.transaction_body(tx)
    tag = b"pithead/transaction/v1\n"
    assert tag + genesis_hash + body == ref.transaction_message(tx, genesis_hash)
    size = len(ref.signed_transaction(tx))
    return rows(
        ("tag and 0x0a", tag), ("genesis hash", genesis_hash), *parts,
        ("txid", ref.txid(tx, genesis_hash)),
        ("bytes", f"body {len(body)}, message {len(tag) + 32 + len(body)}, signed {size}"),
    )


def first_block():
    """Block 1 of the dev network, empty, two seconds after the genesis."""
    parent, _ = ref.genesis_block(NETWORK)
    commitment = {
        "transactions_root": ref.merkle_root([]), "state_root": ref.EMPTY_STATE_ROOT,
        "reward_address": KEYS[0].address, "extra_nonce": bytes(8),
    }
    header = {
        "version": 0x20000000, "prev": ref.sha256d(ref.header(parent)),
        "merkle_root": ref.sha256d(ref.commitment(commitment)), "time": parent["time"] + 2,
        "bits": parent["bits"], "nonce": NONCE,
    }
    return header, commitment


def meets_target(header):
    number = int.from_bytes(ref.sha256d(ref.header(header)), "little")
    return number <= ref.target_of(header["bits"])


def block_hash():
    header, commitment = first_block()
    assert meets_target(header), "NONCE does not solve the block"
    hash_ = ref.sha256d(ref.header(header))
    return rows(
        ("transactions_root", commitment["transactions_root"]),
        ("state_root", commitment["state_root"]),
        ("reward_address", commitment["reward_address"]),
        ("extra_nonce", commitment["extra_nonce"]),
        ("merkle_root", header["merkle_root"]),
        ("header: version", ref.le(header["version"], 4)),
        ("prev", header["prev"]),
        ("merkle_root", header["merkle_root"]),
        ("time", ref.le(header["time"], 4)),
        ("bits", ref.le(header["bits"], 4)),
        ("nonce", ref.le(header["nonce"], 4)),
        ("hash, header order", hash_),
        ("hash, as shown", hash_[::-1].hex()),
        ("target", f"{ref.target_of(header['bits']):064x}"),
    )


def state_root():
    """The state after that block: one account with its reward."""
    balance = ref.subsidy(NETWORK["time"])
    value = ref.le(balance, 8) + ref.le(0, 8)
    place = ref.sha256(KEYS[0].address)
    leaf = ref.sha256(b"JMT::LeafNode" + place + ref.sha256(value))
    assert leaf == ref.state_root({KEYS[0].address: (balance, 0)})
    return rows(
        ("key", place), ("value", value), ("SHA-256 of value", ref.sha256(value)),
        ("state_root", leaf),
    )


def next_bits():
    """The target after a parent that came after so many seconds: early, in time,
    half-lives late, and beyond the cap."""
    return rows(*[
        (f"{seconds} s", f"{ref.expected_bits(NETWORK, NETWORK['bits'], seconds, 0):#x}")
        for seconds in (0, 1, 2, 62, 122, 10_000)
    ])


EXAMPLES = [genesis, address, txid, block_hash, state_root, next_bits]


def main():
    if sys.argv[1:] == ["--check"]:
        document = DOCUMENT.read_text(encoding="utf-8")
        missing = [example.__name__ for example in EXAMPLES
                   if f"```text\n{example()}```" not in document]
        if missing:
            sys.exit(f"{DOCUMENT.name} does not show what examples.py prints: {', '.join(missing)}")
        print(f"{DOCUMENT.name} shows all {len(EXAMPLES)} examples as computed")
    elif not sys.argv[1:]:
        for example in EXAMPLES:
            print(f"{example.__name__}\n\n{example()}")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
