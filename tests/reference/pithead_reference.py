"""The protocol in plain Python, written from docs/protocol.md alone.

It is an independent second opinion: it shares no code with the Rust crates and uses
only the standard library. It is written to be clear, not fast. generate.py makes
test vectors with it.
"""

import base64
import hashlib
import time

PIT = 100_000_000
MAX_MONEY = 2_000_000_000 * PIT
EMPTY_STATE_ROOT = b"SPARSE_MERKLE_PLACEHOLDER_HASH__"


# §1 Conventions

def sha256(data):
    return hashlib.sha256(data).digest()


def sha256d(data):
    return sha256(sha256(data))


def tagged(tag, data):
    prefix = sha256(tag.encode("ascii"))
    return sha256(prefix + prefix + data)


def le(number, size):
    return number.to_bytes(size, "little")


def merkle_root(leaves):
    """RFC 6962 §2.1, the recursive definition, over the leaves' bytes."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + merkle_root(leaves[:split]) + merkle_root(leaves[split:]))


# §2 Keys and addresses

class Key:
    """An RSA-2048 key with exponent 65537, from a PKCS#8 PEM file."""

    def __init__(self, path):
        text = open(path, encoding="ascii").read()
        body = text.split("-----BEGIN PRIVATE KEY-----")[1].split("-----END")[0]
        outer = _der_items(_der_items(base64.b64decode(body))[0][1])
        rsa = _der_items(_der_items(outer[2][1])[0][1])
        numbers = [int.from_bytes(value, "big") for tag, value in rsa if tag == 0x02]
        self.n, e, self.d = numbers[1], numbers[2], numbers[3]
        assert e == 65537 and self.n.bit_length() == 2048 and self.n % 2 == 1
        self.modulus = self.n.to_bytes(256, "big")
        self.address = tagged("pithead/address", self.modulus)

    def sign(self, message, salt):
        """RSASSA-PSS with SHA-256 and a salt that is given: repeatable."""
        assert len(salt) == 32
        digest = sha256(bytes(8) + sha256(message) + salt)
        block = bytes(256 - 32 - 32 - 2) + b"\x01" + salt
        masked = bytes(a ^ b for a, b in zip(block, _mgf1(digest, len(block))))
        masked = bytes([masked[0] & 0x7F]) + masked[1:]
        encoded = masked + digest + b"\xbc"
        return pow(int.from_bytes(encoded, "big"), self.d, self.n).to_bytes(256, "big")


def verify(modulus, message, signature):
    """RSASSA-PSS-VERIFY of RFC 8017 §8.1.2 for the parameters of §2."""
    n, s = int.from_bytes(modulus, "big"), int.from_bytes(signature, "big")
    if len(signature) != 256 or s >= n:
        return False
    encoded = pow(s, 65537, n).to_bytes(256, "big")
    masked, digest, trailer = encoded[:223], encoded[223:255], encoded[255]
    if trailer != 0xBC or masked[0] & 0x80:
        return False
    block = bytes(a ^ b for a, b in zip(masked, _mgf1(digest, 223)))
    block = bytes([block[0] & 0x7F]) + block[1:]
    if block[:190] != bytes(190) or block[190] != 1:
        return False
    return digest == sha256(bytes(8) + sha256(message) + block[191:])


def _mgf1(seed, length):
    out = b""
    for counter in range((length + 31) // 32):
        out += sha256(seed + counter.to_bytes(4, "big"))
    return out[:length]


def _der_items(data):
    items = []
    while data:
        tag, size, start = data[0], data[1], 2
        if size & 0x80:
            count = size & 0x7F
            size, start = int.from_bytes(data[2:2 + count], "big"), 2 + count
        items.append((tag, data[start:start + size]))
        data = data[start + size:]
    return items


BECH32_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def bech32m(prefix, payload):
    """BIP 350."""
    bits = "".join(f"{byte:08b}" for byte in payload)
    bits += "0" * (-len(bits) % 5)
    data = [int(bits[i:i + 5], 2) for i in range(0, len(bits), 5)]
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    residue = _bech32_polymod(expanded + data + [0] * 6) ^ 0x2BC830A3
    checksum = [(residue >> 5 * (5 - i)) & 31 for i in range(6)]
    return prefix + "1" + "".join(BECH32_ALPHABET[d] for d in data + checksum)


def _bech32_polymod(values):
    residue = 1
    for value in values:
        top = residue >> 25
        residue = (residue & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate(
            (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
        ):
            if top >> i & 1:
                residue ^= generator
    return residue


def signing_message(tag, genesis_hash, payload):
    return tag.encode("ascii") + b"\n" + genesis_hash + payload


# §3 Transactions

def transaction_body(tx):
    out = bytes([1, 0]) + tx["sender"] + le(tx["sequence"], 8) + le(tx["fee"], 8)
    out += le(len(tx["outputs"]), 2)
    for recipient, amount in tx["outputs"]:
        out += recipient + le(amount, 8)
    return out + le(len(tx["data"]), 2) + tx["data"]


def transaction_message(tx, genesis_hash):
    return signing_message("pithead/transaction/v1", genesis_hash, transaction_body(tx))


def txid(tx, genesis_hash):
    return sha256(transaction_message(tx, genesis_hash))


def signed_transaction(tx):
    key = b"\x01" + tx["key"] if tx["key"] else b"\x00"
    return transaction_body(tx) + key + tx["signature"]


# §4 Header, commitment, block

def header(h):
    return (le(h["version"], 4) + h["prev"] + h["merkle_root"] + le(h["time"], 4)
            + le(h["bits"], 4) + le(h["nonce"], 4))


def commitment(c):
    return c["transactions_root"] + c["state_root"] + c["reward_address"] + c["extra_nonce"]


def block(h, c, transactions):
    out = header(h) + commitment(c) + le(len(transactions), 4)
    return out + b"".join(signed_transaction(tx) for tx in transactions)


# §5 State

def state_root(accounts):
    """Root over {address: (balance, sequence)}.

    A binary tree over the bits of SHA-256(address): nothing below a node gives
    the placeholder, one account gives its leaf, more give an inner node.
    """
    leaves = []
    for address, (balance, sequence) in accounts.items():
        place = sha256(address)
        value = le(balance, 8) + le(sequence, 8)
        bits = int.from_bytes(place, "big")
        leaves.append((bits, sha256(b"JMT::LeafNode" + place + sha256(value))))
    return _subtree(leaves, 255)


def _subtree(leaves, bit):
    if not leaves:
        return EMPTY_STATE_ROOT
    if len(leaves) == 1:
        return leaves[0][1]
    left = _subtree([x for x in leaves if not x[0] >> bit & 1], bit - 1)
    right = _subtree([x for x in leaves if x[0] >> bit & 1], bit - 1)
    return sha256(b"JMT::IntrnalNode" + left + right)


class Invalid(Exception):
    """A block breaks a rule; the text names the rule."""


def account_changes(transactions):
    """How many accounts a block's transactions change, as §4 counts them."""
    return sum(1 + len(tx["outputs"]) for tx in transactions)


def reward(issued, transactions):
    """What the miner of a block earns."""
    return min(issued + sum(tx["fee"] for tx in transactions), MAX_MONEY)


def transition(network, accounts, transactions, paid):
    """The state after a block; `paid` is (address, amount) or None."""
    if account_changes(transactions) > network["max_account_changes"]:
        raise Invalid("too many account changes")
    after = dict(accounts)
    for tx in transactions:
        balance, sequence = after[tx["sender"]]
        total = tx["fee"] + sum(amount for _, amount in tx["outputs"])
        assert tx["sequence"] == sequence and balance >= total
        after[tx["sender"]] = (balance - total, sequence + 1)
        for recipient, amount in tx["outputs"]:
            balance, sequence = after.get(recipient, (0, 0))
            unused = balance == 0 and sequence == 0
            if unused and amount < network["min_opening_amount"]:
                raise Invalid("opening too small")
            if balance + amount > MAX_MONEY:
                raise Invalid("balance out of range")
            after[recipient] = (balance + amount, sequence)
    if paid:
        address, amount = paid
        balance, sequence = after.get(address, (0, 0))
        after[address] = (min(balance + amount, MAX_MONEY), sequence)
    return after


# §6 Subsidy

def subsidy(parent_time):
    year = max(time.gmtime(parent_time).tm_year, 2023)
    return 50 * PIT >> (year - 2023) // 4


# §7 Time and difficulty

def target_of(bits):
    exponent, mantissa = bits >> 24, bits & 0x7FFFFF
    if exponent <= 3:
        return mantissa >> 8 * (3 - exponent)
    return mantissa << 8 * (exponent - 3)


def bits_of(target):
    size = (target.bit_length() + 7) // 8
    mantissa = target << 8 * (3 - size) if size <= 3 else target >> 8 * (size - 3)
    if mantissa & 0x800000:
        mantissa, size = mantissa >> 8, size + 1
    return size << 24 | mantissa


def work(target):
    return (1 << 256) // (target + 1)


def expected_bits(network, parent_bits, parent_time, grandparent_time):
    if grandparent_time is None:
        return parent_bits
    late = (parent_time - grandparent_time - network["block_interval_secs"]) * 65536
    half_life = network["half_life_secs"]
    exponent = late // half_life if late >= 0 else -(-late // half_life)
    exponent = min(exponent, 2 * 65536)
    shift = exponent >> 16
    f = exponent - shift * 65536
    factor = 65536 + (
        (195766423245049 * f + 971821376 * f ** 2 + 5127 * f ** 3 + 2 ** 47) >> 48)
    target = target_of(parent_bits) * factor
    target = target << shift if shift >= 0 else target >> -shift
    target >>= 16
    return bits_of(min(max(target, 1), target_of(network["pow_limit_bits"])))


# §9 Approvals

def approval(a):
    return (b"\x01" + a["validator"] + le(a["source_height"], 8) + a["source_hash"]
            + le(a["target_height"], 8) + a["target_hash"])


def approval_message(a, genesis_hash):
    return signing_message("pithead/approval/v1", genesis_hash, approval(a))


# §10 Genesis and networks

NUMBERS = [
    "time", "bits", "pow_limit_bits", "block_interval_secs", "half_life_secs",
    "max_future_secs", "max_block_bytes", "max_account_changes", "min_opening_amount",
    "reward_maturity", "checkpoint_interval", "approval_quorum",
]


def genesis_encoding(g):
    """`g` has name, address_prefix, NUMBERS, allocations {address: grains} and
    validators [modulus]."""
    out = b""
    for text in (g["name"], g["address_prefix"]):
        out += bytes([len(text)]) + text.encode("ascii")
    for name in NUMBERS:
        out += le(g[name], 4)
    out += le(len(g["allocations"]), 4)
    for address in sorted(g["allocations"]):
        out += address + le(g["allocations"][address], 8)
    out += le(len(g["validators"]), 4)
    for modulus in g["validators"]:
        out += tagged("pithead/address", modulus) + modulus
    return out


def genesis_block(g):
    c = {
        "transactions_root": tagged("pithead/genesis", genesis_encoding(g)),
        "state_root": EMPTY_STATE_ROOT,
        "reward_address": bytes(32),
        "extra_nonce": bytes(8),
    }
    h = {
        "version": 0x20000000, "prev": bytes(32), "merkle_root": sha256d(commitment(c)),
        "time": g["time"], "bits": g["bits"], "nonce": 0,
    }
    return h, c


def pit(grains):
    text = f"{grains // PIT}.{grains % PIT:08}".rstrip("0")
    whole, fraction = text.split(".")
    return f"{whole}.{fraction:0<2}"


def genesis_toml(g):
    lines = [f'name = "{g["name"]}"', f'address_prefix = "{g["address_prefix"]}"']
    lines += [f"{name} = {g[name]}" for name in NUMBERS]
    for address, grains in g["allocations"].items():
        text = bech32m(g["address_prefix"], address)
        lines += ["", "[[allocations]]", f'address = "{text}"', f'amount = "{pit(grains)}"']
    for modulus in g["validators"]:
        text = bech32m(g["address_prefix"], tagged("pithead/address", modulus))
        lines += ["", "[[validators]]", f'address = "{text}"',
                  f'public_key = "{modulus.hex()}"']
    return "\n".join(lines) + "\n"


_MAIN = {
    "name": "main", "address_prefix": "pit", "time": 1793491200, "bits": 0x1D00FFFF,
    "pow_limit_bits": 0x1E00FFFF, "block_interval_secs": 10, "half_life_secs": 3600,
    "max_future_secs": 120, "max_block_bytes": 2_000_000, "max_account_changes": 12_000,
    "min_opening_amount": 10_000, "reward_maturity": 100, "checkpoint_interval": 10,
    "approval_quorum": 0, "allocations": {}, "validators": [],
}
NETWORKS = {
    "main": _MAIN,
    "test": _MAIN | {
        "name": "test", "address_prefix": "tpit", "bits": 0x1D0FFFFF,
        "pow_limit_bits": 0x1E0FFFFF, "half_life_secs": 1800, "reward_maturity": 10,
    },
    "dev": _MAIN | {
        "name": "dev", "address_prefix": "dpit", "bits": 0x1E0FFFFF,
        "pow_limit_bits": 0x207FFFFF, "block_interval_secs": 2, "half_life_secs": 60,
        "max_future_secs": 10, "reward_maturity": 0, "checkpoint_interval": 1,
    },
}
