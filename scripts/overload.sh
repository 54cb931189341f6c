#!/usr/bin/env bash
# More events than the server can send: N sessions watch the whole tree, 64 others write without a pause.
#
#   scripts/overload.sh [WATCHERS] [FLAGS of `ringkeeper-load run`...]     default: 1000, pipelined sets
#
# Prints what pings and reads of another session waited, and the server's largest RSS. Environment: SERVER_FLAGS (default
# "--shards 1"), NO_BUILD=1 (take the two release programs as they are).
set -euo pipefail
export RINGKEEPER_BIN=${RINGKEEPER_BIN:-$(dirname "$0")/../target/release/ringkeeper}
. "$(dirname "$0")/lib.sh"

watchers=${1:-1000}
shift $(($# < 1 ? $# : 1))
[ $# -gt 0 ] || set -- --closed -c 64 -d 14 -m set=1 --duration 8
load=${RINGKEEPER_LOAD:-$root/target/release/ringkeeper-load}
if [ -z "${NO_BUILD:-}" ]; then
  (cd "$root" && cargo build --release --locked --bin ringkeeper && cargo build --release --locked -p ringkeeper-load)
fi
ulimit -n "$(ulimit -Hn)"
work=$(mktemp -d)
server_pid=''
cleanup() {
  [ -z "$server_pid" ] || kill -9 "$server_pid" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
port=$(free_port)
read -ra flags <<<"${SERVER_FLAGS:---shards 1}"
start_ringkeeper "$work" "$port" --set maxClientCnxns=0 "${flags[@]}"
python3 -B "$root/scripts/overload.py" --port "$port" --pid "$server_pid" --watchers "$watchers" -- \
  "$load" run -s "127.0.0.1:$port" -q --drain 30 "$@"
stop_server "$server_pid"
server_pid=''
