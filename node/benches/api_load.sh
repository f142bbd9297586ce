#!/usr/bin/env bash
# Requests a second that a node answers over gRPC on loopback, beside the health
# check: the cheapest call there is, so what the transport alone can carry.
#
#   cargo build --release && node/benches/api_load.sh
#
# Needs h2load (Debian: nghttp2-client) and python3. REQUESTS=n sets the requests
# per measurement (30,000), ROUNDS=n how often all are repeated, interleaved (3).
set -euo pipefail
cd "$(dirname "$0")/../.."
programs=${CARGO_TARGET_DIR:-target}/release
requests=${REQUESTS:-30000}
rounds=${ROUNDS:-3}
work=$(mktemp -d)
node=
finish() {
    [ -z "$node" ] || kill "$node" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

"$programs/pithead-node" --network dev --data-dir "$work/node" --rpc-listen 127.0.0.1:0 \
    --rpc-requests-per-minute 0 --mine-without-token --ready-file "$work/ready" \
    > "$work/node.log" 2>&1 &
node=$!
while [ ! -s "$work/ready" ]; do
    kill -0 "$node" || { cat "$work/node.log" >&2; exit 1; }
    sleep 0.1
done
address=$(head -n 1 "$work/ready")
idle_kib=$(awk '/^VmRSS/ { print $2 }' "/proc/$node/status")

export PITHEAD_PASSPHRASE=benchmark
payee=$("$programs/pithead" --network dev wallet new miner --wallet-dir "$work/wallets" 2> /dev/null |
    grep -o 'dpit1[a-z0-9]*' | head -n 1)
"$programs/pithead-miner" --node "$address" --address "$payee" --blocks 10 > "$work/miner.log" 2>&1

# A gRPC message is a zero, its length in four bytes, and the protobuf bytes.
python3 - "$work" "$payee" <<'PYTHON'
import struct, sys
folder, payee = sys.argv[1], sys.argv[2].encode()
for name, message in [
    ("Check", b""),
    ("GetAccount", b"\x0a" + bytes([len(payee)]) + payee),  # address
    ("GetBlock", b"\x10\x05"),  # height 5
]:
    with open(f"{folder}/{name}.bin", "wb") as file:
        file.write(b"\0" + struct.pack(">I", len(message)) + message)
PYTHON

for _ in $(seq "$rounds"); do
    for call in grpc.health.v1.Health/Check pithead.v1.ChainService/GetAccount \
        pithead.v1.ChainService/GetBlock; do
        rate=$(h2load -n "$requests" -c 4 -m 16 -t 1 -d "$work/${call#*/}.bin" \
            -H 'content-type: application/grpc' -H 'te: trailers' "http://$address/$call" |
            sed -n 's/^finished in .*, \(.*\) req\/s.*/\1/p')
        echo "${call#*/} $rate"
    done
done > "$work/rates"

python3 - "$work/rates" "$idle_kib" <<'PYTHON'
import statistics, sys
rates = {}
for line in open(sys.argv[1]):
    name, rate = line.split()
    rates.setdefault(name, []).append(float(rate))
base = statistics.median(rates["Check"])
print("| call | requests/s, median | of the health check |\n|---|---|---|")
for name, all_of_it in rates.items():
    rate = statistics.median(all_of_it)
    print(f"| {name} | {rate:,.0f} | {rate / base:.2f} |")
print(f"\nmemory of the idle node: {int(sys.argv[2]) / 1024:.1f} MiB")
PYTHON
