#!/usr/bin/env python3
"""A client that the project did not write: Python's grpcio, with no generated
stubs. It learns the API from the node by reflection, queries, reads typed
errors, signs a payment with `cryptography` and sees it mined.

    check_grpcio.py HOST:PORT DATA_DIR

Needs a fresh node of the dev network, for itself alone. The protocol's own
encodings come from tests/reference, so what the node says is checked by code
that shares nothing with it.
"""

import pathlib
import sys
import threading

import grpc
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.protobuf import descriptor_pool, message_factory
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "reference"))
import pithead_reference as ref  # noqa: E402  (the path must be set first)

SERVICES = {
    "ChainService", "TransactionService", "MiningService", "NetworkService", "AdminService",
}
PREFIX = "dpit"
DEADLINE_SECS = 60


class Node:
    """Calls any method of the node by name, with keywords for the fields."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        grpc.channel_ready_future(self.channel).result(timeout=DEADLINE_SECS)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def method(self, path):
        service, name = path.split("/")
        return self.pool.FindServiceByName(service).FindMethodByName(name)

    def call(self, path, token=None, compression=None, **fields):
        path = path if path.startswith("grpc.") else f"pithead.v1.{path}"
        method = self.method(path)
        request = message_factory.GetMessageClass(method.input_type)(**fields)
        decode = message_factory.GetMessageClass(method.output_type).FromString
        kind = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        stub = kind(f"/{path}", request_serializer=type(request).SerializeToString,
                    response_deserializer=decode)
        metadata = [("authorization", f"Bearer {token}")] if token else None
        return stub(request, timeout=DEADLINE_SECS, metadata=metadata, compression=compression)


def expect_error(code, reason, call, field=None):
    """The call must fail with this code, ErrorInfo and field violation."""
    try:
        answer = call()
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()} instead of {code}: {error.details()}"
        infos, fields = [], []
        for detail in rpc_status.from_call(error).details:
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if detail.Unpack(info):
                infos.append((info.domain, info.reason))
            elif detail.Unpack(bad):
                fields += [violation.field for violation in bad.field_violations]
        assert infos == [("pithead", reason)], f"{infos} instead of {reason}"
        assert field is None or fields == [field], f"{fields} instead of {field}"
        return error.details()
    raise AssertionError(f"{code} {reason} expected, but it succeeded: {answer}")


def enum_name(message, field):
    value = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    return value[getattr(message, field)].name


class Account:
    """A key, made and used by `cryptography` alone."""

    def __init__(self):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.modulus = self.key.public_key().public_numbers().n.to_bytes(256, "big")
        self.payload = ref.tagged("pithead/address", self.modulus)
        self.address = ref.bech32m(PREFIX, self.payload)

    def sign(self, message):
        pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
        return self.key.sign(message, pss, hashes.SHA256())


def check_services(node):
    listed = set(node.database.get_services())
    expected = {f"pithead.v1.{name}" for name in SERVICES} | {"grpc.health.v1.Health"}
    assert expected <= listed, f"reflection does not list {expected - listed}"
    for name in ["", *(f"pithead.v1.{name}" for name in SERVICES)]:
        health = node.call("grpc.health.v1.Health/Check", service=name)
        assert enum_name(health, "status") == "SERVING", f"{name or 'the server'}: {health}"
    methods = sum(len(node.pool.FindServiceByName(f"pithead.v1.{name}").methods)
                  for name in SERVICES)
    print(f"  {len(listed)} services and {methods} methods by reflection, all healthy")


def check_queries(node):
    info = node.call("ChainService/GetChainInfo")
    assert (info.network, info.address_prefix) == ("dev", PREFIX)
    genesis, commitment = ref.genesis_block(ref.NETWORKS["dev"])
    genesis_hash = ref.sha256d(ref.header(genesis))
    assert info.genesis_hash == genesis_hash[::-1].hex()
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        answer = node.call("ChainService/GetBlock", height=0, compression=compression)
        assert answer.block.header.raw == ref.header(genesis)
        assert answer.block.commitment.raw == ref.commitment(commitment)
    unused = node.call("ChainService/GetAccount", address=Account().address)
    assert (unused.balance, unused.next_sequence) == (0, 0)
    print(f"  genesis {info.genesis_hash[:16]}… agrees with the reference, byte for byte")
    return genesis_hash


def check_errors(node):
    code = grpc.StatusCode
    expect_error(code.INVALID_ARGUMENT, "INVALID_ARGUMENT", field="address",
                 call=lambda: node.call("ChainService/GetAccount", address="nonsense"))
    other = ref.bech32m("pit", bytes(32))
    expect_error(code.INVALID_ARGUMENT, "INVALID_ARGUMENT", field="address",
                 call=lambda: node.call("ChainService/GetAccount", address=other))
    expect_error(code.NOT_FOUND, "BLOCK_NOT_FOUND",
                 call=lambda: node.call("ChainService/GetBlock", height=10**9))
    expect_error(code.NOT_FOUND, "TRANSACTION_NOT_FOUND",
                 call=lambda: node.call("ChainService/GetTransaction", txid="00" * 32))
    mine = {"count": 1, "reward_address": Account().address}
    expect_error(code.UNAUTHENTICATED, "TOKEN_REQUIRED",
                 call=lambda: node.call("AdminService/MineBlocks", **mine))
    expect_error(code.PERMISSION_DENIED, "TOKEN_REFUSED",
                 call=lambda: node.call("AdminService/MineBlocks", token="00" * 32, **mine))
    expect_error(code.UNAUTHENTICATED, "TOKEN_REQUIRED",
                 call=lambda: node.call("MiningService/ListWorkers"))
    expect_error(code.UNIMPLEMENTED, "NOT_SERVED_YET",
                 call=lambda: node.call("ChainService/GetAccountProof"))
    print("  errors are typed: code, reason and field, each as documented")


def submit(node, account, built):
    key = account.modulus if built.public_key_required else b""
    parts = {"body": built.body, "public_key": key,
             "signature": account.sign(built.signing_message)}
    return node.call("TransactionService/SubmitTransaction", parts=parts), parts


def check_payment(node, genesis_hash, token):
    payer, payee = Account(), Account()

    def mine(count):
        return node.call("AdminService/MineBlocks", token=token, count=count,
                         reward_address=payer.address)

    def account(of):
        return node.call("ChainService/GetAccount", address=of.address)

    def build(amount, **more):
        outputs = [{"recipient": payee.address, "amount": amount}]
        return node.call("TransactionService/BuildTransaction", sender=payer.address,
                         outputs=outputs, **more)

    mine(1)
    funds = account(payer).balance
    assert funds == 50 * ref.PIT, f"one block pays 50 PIT, not {funds} grains"

    # The bytes to sign are those of the protocol, as the reference lays them out.
    built = build(ref.PIT, data=b"from Python")
    body = {"sender": payer.payload, "sequence": 0, "fee": built.fee,
            "outputs": [(payee.payload, ref.PIT)], "data": b"from Python"}
    assert built.body == ref.transaction_body(body)
    assert built.signing_message == ref.transaction_message(body, genesis_hash)
    assert built.txid == ref.txid(body, genesis_hash).hex()
    assert built.public_key_required and built.sequence == 0

    forged, _ = submit(node, payee, built)
    assert enum_name(forged, "outcome").endswith("_REJECTED"), forged
    assert enum_name(forged.rejection, "rule").endswith("_BAD_PUBLIC_KEY"), forged
    first, parts = submit(node, payer, built)
    assert enum_name(first, "outcome").endswith("_ACCEPTED"), first
    assert first.txid == built.txid
    again = node.call("TransactionService/SubmitTransaction", parts=parts)
    assert enum_name(again, "outcome").endswith("_DUPLICATE"), again

    # A second one, that leaves the key out and is followed until it is mined.
    second = build(2 * ref.PIT)
    assert not second.public_key_required and second.sequence == 1
    bad = parts | {"body": second.body, "public_key": b""}
    refused = node.call("TransactionService/SubmitTransaction", parts=bad)
    assert enum_name(refused.rejection, "rule").endswith("_BAD_SIGNATURE"), refused
    taken, _ = submit(node, payer, second)
    assert enum_name(taken, "outcome").endswith("_ACCEPTED"), taken
    watch = node.call("TransactionService/WatchTransaction", txid=second.txid, confirmations=1)
    states = [enum_name(next(watch).status, "state")]
    # Two blocks: the template in hand may be older than the payments, the one
    # that follows a new tip never is.
    miner = threading.Thread(target=mine, args=(2,))
    miner.start()
    states += [enum_name(event.status, "state") for event in watch]
    miner.join()
    assert states[0].endswith("_PENDING") and states[-1].endswith("_MINED"), states

    poor = build(10**6 * ref.PIT, fee=10_000)
    refused, _ = submit(node, payer, poor)
    rejection = refused.rejection
    assert enum_name(rejection, "rule").endswith("_INSUFFICIENT_BALANCE"), refused
    assert rejection.found and rejection.expected and rejection.message

    assert account(payee).balance == 3 * ref.PIT
    # The fees come back to the payer: it mined all three blocks.
    assert account(payer).balance == (3 * 50 - 3) * ref.PIT
    assert account(payer).public_key == payer.modulus
    mined = node.call("ChainService/GetTransaction", txid=built.txid)
    assert enum_name(mined.status, "state").endswith("_MINED")
    assert ref.verify(payer.modulus, built.signing_message, mined.transaction.signature)
    check_proof(node, built.txid, mined.transaction.raw)
    print(f"  {built.txid[:16]}… signed with cryptography, accepted, mined and proven")


def check_proof(node, txid, raw):
    """Walks the audit path of RFC 6962 §2.1.1 from the leaf to the header."""
    proof = node.call("ChainService/GetTransactionProof", txid=txid)
    assert proof.raw_transaction == raw
    digest = ref.sha256(b"\x00" + raw)
    place, last = proof.position, proof.transaction_count - 1
    for sibling in proof.path:
        if place % 2 == 1 or place == last:
            digest = ref.sha256(b"\x01" + sibling + digest)
            while place % 2 == 0 and place != 0:
                place, last = place // 2, last // 2
        else:
            digest = ref.sha256(b"\x01" + digest + sibling)
        place, last = place // 2, last // 2
    assert last == 0
    assert proof.commitment.raw[:32] == digest
    assert proof.header.raw[36:68] == ref.sha256d(proof.commitment.raw)


def check_stream(node, genesis_hash):
    """Follows the chain from the genesis: every block, linked to the one before."""
    height = node.call("ChainService/GetChainInfo").tip.height
    events = node.call("ChainService/SubscribeChain", known_hashes=[genesis_hash[::-1].hex()])
    start = next(events)
    assert start.WhichOneof("event") == "start"
    previous = start.cursor
    for _ in range(height):
        event = next(events)
        header = event.connected.header
        assert header.previous_hash == previous
        assert header.hash == event.cursor == ref.sha256d(header.raw)[::-1].hex()
        number = int(header.hash, 16)
        assert number <= ref.target_of(header.bits)
        previous = event.cursor
    events.cancel()
    print(f"  {height} blocks followed from the genesis, work checked")


def main():
    address, data_dir = sys.argv[1:]
    token = (pathlib.Path(data_dir) / "admin.token").read_text(encoding="ascii").strip()
    node = Node(address)
    check_services(node)
    genesis_hash = check_queries(node)
    check_errors(node)
    check_payment(node, genesis_hash, token)
    check_stream(node, genesis_hash)
    print("grpcio: everything holds")


if __name__ == "__main__":
    main()
