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
if [ -z "${RINGKEEPER_BIN:-}" ]; then
    cargo build --release --quiet --locked --bin ringkeeper
    RINGKEEPER_BIN=target/release/ringkeeper
fi
. scripts/lib.sh
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

extra=()
[ -z "${EXTRA:-}" ] || mapfile -t extra <<<"$EXTRA"
write_ensemble "$dir" "$servers" "$first" ${extra[@]+"${extra[@]}"}
for id in $(seq "$servers"); do
    # shellcheck disable=SC2086 # flags are words
    start_member "$dir" "$id" ${SERVER_FLAGS:-}
    pids+=("$(cat "$dir/$id.pid")")
    ids+=("$id")
    echo "server $id: process ${pids[-1]}, configuration $dir/$id.cfg, log $dir/$id.log"
done
echo "connect to $(ensemble_hosts "$first" "$servers")"
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
