#!/usr/bin/env bash
# Starts an ensemble on this machine and keeps it running until it is interrupted.
#
#   scripts/cluster.sh [SERVERS] [DIR]
#
# SERVERS: 3 by default. DIR: where their data lies; a new temporary directory, removed at the end, by default. Clients
# connect to the ports that are printed: from FIRST_PORT (22181) on, each server takes the next three: for clients, for the
# other servers, and ZooKeeper's election port, which is not opened. RINGKEEPER_BIN names the binary; without it the release
# build is made and used. EXTRA: more lines for every zoo.cfg. SERVER_FLAGS: more flags.
set -euo pipefail
cd "$(dirname "$0")/.."

servers=${1:-3}
dir=${2:-}
first=${FIRST_PORT:-22181}
binary=${RINGKEEPER_BIN:-}
if [ -z "$binary" ]; then
    cargo build --release --quiet --locked --bin ringkeeper
    binary=target/release/ringkeeper
fi
temporary=
if [ -z "$dir" ]; then
    dir=$(mktemp -d)
    temporary=$dir
fi

pids=()
ids=()
stop() {
    trap - EXIT INT TERM
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait
    [ -z "$temporary" ] || rm -rf "$temporary"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

client() { echo $((first + 3 * ($1 - 1))); }
connect=
for id in $(seq "$servers"); do
    mkdir -p "$dir/$id"
    echo "$id" >"$dir/$id/myid"
    {
        echo "dataDir=$dir/$id"
        echo "clientPort=$(client "$id")"
        echo "clientPortAddress=127.0.0.1"
        echo "initLimit=10"
        echo "syncLimit=5"
        echo "tickTime=2000"
        [ -z "${EXTRA:-}" ] || printf '%s\n' "$EXTRA"
        for other in $(seq "$servers"); do
            echo "server.$other=127.0.0.1:$(($(client "$other") + 1)):$(($(client "$other") + 2))"
        done
    } >"$dir/$id.cfg"
    connect=$connect${connect:+,}127.0.0.1:$(client "$id")
done
for id in $(seq "$servers"); do
    # shellcheck disable=SC2086 # flags are words
    "$binary" serve "$dir/$id.cfg" ${SERVER_FLAGS:-} >>"$dir/$id.log" 2>&1 &
    pids+=($!)
    ids+=("$id")
    echo "server $id: process $!, configuration $dir/$id.cfg, log $dir/$id.log"
done
echo "connect to $connect"
# One that ends is said; the others go on, as an ensemble does.
while [ ${#pids[@]} -gt 0 ]; do
    wait -n -p ended "${pids[@]}" || true
    left=()
    for at in "${!pids[@]}"; do
        if [ "${pids[$at]}" = "$ended" ]; then
            echo "process $ended has ended; the last line of its log: $(tail -n 1 "$dir/${ids[$at]}.log")" >&2
            unset "ids[$at]"
        else
            left+=("${pids[$at]}")
        fi
    done
    pids=("${left[@]}")
    ids=("${ids[@]}")
done
exit 1
