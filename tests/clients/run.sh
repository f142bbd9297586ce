#!/usr/bin/env bash
# Checks a node with clients from other projects: `buf curl` over reflection in
# plaintext HTTP/2, and Python's grpcio.
#
#   tests/clients/run.sh [PITHEAD_NODE]     default: target/debug/pithead-node
#
# BUF and PYTHON name the programs to use; PYTHON needs grpcio,
# grpcio-reflection, grpcio-status and cryptography.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
program=${1:-$root/target/debug/pithead-node}
buf=${BUF:-buf}
python=${PYTHON:-python3}

folder=$(mktemp -d)
node=
finish() {
    status=$?
    if [ -n "$node" ]; then
        kill "$node" 2>/dev/null || true
        wait "$node" 2>/dev/null || true
    fi
    if [ $status -ne 0 ]; then
        echo "the node's log:" >&2
        cat "$folder/log" >&2 || true
    fi
    rm -rf "$folder"
}
trap finish EXIT

# One after the other, each with a node and a chain of its own.
start_node() {
    data=$folder/$1
    "$program" --network dev --data-dir "$data" --rpc-listen 127.0.0.1:0 \
        --offline --ready-file "$folder/ready" >>"$folder/log" 2>&1 &
    node=$!
    for _ in $(seq 300); do
        [ -s "$folder/ready" ] && break
        kill -0 "$node" 2>/dev/null || { echo "the node ended early" >&2; exit 1; }
        sleep 0.1
    done
    address=$(cat "$folder/ready")
}

stop_node() {
    kill -TERM "$node"
    wait "$node" || { echo "the node did not stop cleanly" >&2; exit 1; }
    node=
    rm -f "$folder/ready"
}

fail() { echo "buf curl: $*" >&2; exit 1; }

# call SERVICE/METHOD [BUF CURL OPTIONS]: the answer goes to standard output.
call() {
    local method=$1
    shift
    "$buf" curl --protocol grpc --http2-prior-knowledge "$@" "http://$address/$method"
}

# expect STATUS TEXT COMMAND…: the command must end so and say so.
expect() {
    local status=$1 text=$2 got=0
    shift 2
    "$@" >"$folder/answer" 2>&1 || got=$?
    [ "$got" -eq "$status" ] || fail "$* ended with $got, not $status: $(cat "$folder/answer")"
    grep -q -- "$text" "$folder/answer" || fail "$* does not say $text: $(cat "$folder/answer")"
}

check_buf() {
    # buf curl's exit status is 8 times the gRPC code: 24 is INVALID_ARGUMENT.
    local methods payee
    payee=$("$python" -c "import sys; sys.path.insert(0, '$root/tests/reference')
import pithead_reference as ref; print(ref.bech32m('dpit', bytes(range(32))))")
    methods=$("$buf" curl --protocol grpc --http2-prior-knowledge --list-methods "http://$address")
    for method in ChainService/GetChainInfo TransactionService/SubmitTransaction \
        MiningService/SubscribeWork NetworkService/GetNodeInfo AdminService/MineBlocks; do
        grep -qx "pithead.v1.$method" <<<"$methods" || fail "$method is not listed"
    done
    expect 0 '"network": "dev"' call pithead.v1.ChainService/GetChainInfo
    expect 0 '"bestChain": true' call pithead.v1.ChainService/GetBlock -d '{"height": 0}'
    expect 0 '"status": "SERVING"' call grpc.health.v1.Health/Check
    expect 24 '"code": "invalid_argument"' call pithead.v1.ChainService/GetAccount -d '{"address": "nonsense"}'
    expect 24 'google.rpc.BadRequest' call pithead.v1.ChainService/GetAccount -d '{"address": "nonsense"}'
    expect 40 '"code": "not_found"' call pithead.v1.ChainService/GetBlock -d '{"height": 1000000}'
    expect 96 '"code": "unimplemented"' call pithead.v1.ChainService/GetAccountProof
    local request="{\"count\": 3, \"reward_address\": \"$payee\"}"
    expect 128 '"code": "unauthenticated"' call pithead.v1.AdminService/MineBlocks -d "$request"
    expect 0 '"height": "3"' call pithead.v1.AdminService/MineBlocks -d "$request" \
        -H "authorization: Bearer $(cat "$data/admin.token")"
    expect 0 '"balance": "15000000000"' call pithead.v1.ChainService/GetAccount -d "{\"address\": \"$payee\"}"
    echo "buf curl: everything holds"
}

start_node buf
check_buf
stop_node
start_node grpcio
"$python" "$here/check_grpcio.py" "$address" "$data"
stop_node
