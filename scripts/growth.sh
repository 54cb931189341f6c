#!/usr/bin/env bash
# What an operation costs as the server grows: with the tree, with its connections, with its shards; what a snapshot does to
# those who write meanwhile; what idle sessions take. One server, no peer: scripts/compare.sh is the race.
#
#   scripts/growth.sh [tree|connections|shards|snapshot|idle ...]      default: all
#
# Prints Markdown tables. The results (JSON) and a picture of cost against size (growth.svg) are left in RESULTS.
#
# Environment: SIZES (znodes, default "10000 100000 1000000"), CONNECTIONS (default "10 100 1000 5000 15000"), SHARDS
# (default: 1, 2, 4 .. up to half of the CPUs), SNAPSHOT_ZNODES (default 1000000), IDLE_SESSIONS (default 10000),
# SECONDS_EACH (default 5), THREADS (of load, default 1; for shards half of the CPUs), RESULTS (default target/growth), DATA (default a
# directory in RESULTS), NO_BUILD=1 (take the two programs as they are).
set -euo pipefail
export RINGKEEPER_BIN=${RINGKEEPER_BIN:-$(dirname "$0")/../target/release/ringkeeper}
. "$(dirname "$0")/lib.sh"

cpus=$(nproc)
read -ra sizes <<<"${SIZES:-10000 100000 1000000}"
read -ra connections <<<"${CONNECTIONS:-10 100 1000 5000 15000}"
if [ -z "${SHARDS:-}" ]; then
  SHARDS=1
  for ((n = 2; n <= cpus / 2; n *= 2)); do SHARDS+=" $n"; done
fi
read -ra shards <<<"$SHARDS"
seconds=${SECONDS_EACH:-5}
threads=${THREADS:-1}
results=${RESULTS:-$root/target/growth}
data=${DATA:-$results/data}
load=${RINGKEEPER_LOAD:-$root/target/release/ringkeeper-load}
wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(tree connections shards snapshot idle)

if [ -z "${NO_BUILD:-}" ]; then
  (cd "$root" && cargo build --release --locked --bin ringkeeper && cargo build --release --locked -p ringkeeper-load)
fi
nice=()
nice -n -15 true 2>/dev/null && nice=(nice -n -15)
ulimit -n "$(ulimit -Hn)"
mkdir -p "$results" "$data"
work=$(mktemp -d "$data/run.XXXXXX")
server_pid='' port='' null_pids=()
stop_nulls() {
  local pid
  for pid in "${null_pids[@]}"; do kill "$pid" && { wait "$pid" || true; }; done 2>/dev/null
  null_pids=()
}
cleanup() {
  stop_nulls
  [ -z "$server_pid" ] || kill -9 "$server_pid" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
printf '#!/bin/sh\nexec %s %s "$@"\n' "${nice[*]}" "$(realpath "$RINGKEEPER_BIN")" >"$work/serve"
chmod +x "$work/serve"

start() { # FLAGS...: on the directory that is there
  port=$(free_port)
  RINGKEEPER_BIN=$work/serve start_ringkeeper "$work/ringkeeper" "$port" --set maxClientCnxns=0 "$@"
}
stop() { # SIGNAL
  kill "-$1" "$server_pid"
  { wait "$server_pid" || true; } 2>/dev/null
  server_pid=''
}
fresh() { # FLAGS...: on an empty one
  [ -z "$server_pid" ] || stop KILL
  rm -rf "$work/ringkeeper"
  start "$@"
}
measure() { # NAME FLAGS...: the null responders, while there are any
  local name=$1 status=0 servers=127.0.0.1:$port pid
  shift
  local flags=(--pid "$server_pid")
  if [ ${#null_pids[@]} -gt 0 ]; then
    servers=$(cat "$work"/null.* | paste -sd,) flags=()
    for pid in "${null_pids[@]}"; do flags+=(--pid "$pid"); done
  fi
  "${nice[@]}" "$load" "$@" -q -s "$servers" "${flags[@]}" --name "$name" --json "$results/$name.json" \
    >"$work/out" 2>&1 || status=$?
  # 3: INVALID, the load generator was the limit; the server's CPU an operation stands. 4: a rate that was not reached.
  case $status in 0 | 3 | 4) ;; *) tail -5 "$work/out" >&2; die "$name: status $status" ;; esac
  echo "$name done" >&2
}
closed() { # NAME CONNECTIONS DEPTH MIX FLAGS...
  measure "$1" run --closed -c "$2" -d "$3" -m "$4" --duration "$seconds" --warmup 1 -t "$threads" "${@:5}"
}

of_tree() {
  local size
  for size in "${sizes[@]}"; do
    fresh --shards 1
    measure "tree-$size-fill" fill -k "$size"
    stop KILL
    # No snapshot meanwhile: the one that is due behind a start takes a core for as long as a large tree is measured.
    start --shards 1 --set snapCount=1000000000
    sed -nE 's/.*started_in_ms=([0-9]+).*/{"started_in_ms": \1}/p' "$work/ringkeeper/server.log" >"$results/tree-$size-start.json"
    closed "tree-$size-get" 64 1 get=1 -k "$size" --no-setup
    closed "tree-$size-get14" 64 14 get=1 -k "$size" --no-setup
    closed "tree-$size-set14" 64 14 set=1 -k "$size" --no-setup
    closed "tree-$size-create14" 64 14 create=1 --root /more
  done
}

of_connections() {
  local n
  fresh --shards 1
  for n in "${connections[@]}"; do closed "connections-$n-get" "$n" 1 get=1; done
}

# N: as many null responders, a thread each. What they gain by being more is what the machine makes of so many busy threads.
start_nulls() {
  local n
  rm -f "$work"/null.*
  for ((n = 0; n < $1; n++)); do
    "${nice[@]}" "$load" null >"$work/null.$n" &
    null_pids+=($!)
    until [ -s "$work/null.$n" ]; do sleep 0.05; done
  done
}

of_shards() {
  local n threads=$((cpus / 2 > 1 ? cpus / 2 : 1))
  for n in "${shards[@]}"; do
    start_nulls "$n"
    closed "shards-$n-null14" 128 14 get=1 --no-setup
    stop_nulls
    fresh --shards "$n"
    closed "shards-$n-get14" 128 14 get=1
    closed "shards-$n-set14" 128 14 set=1
    closed "shards-$n-mix14" 128 14 get=90,set=10
    closed "shards-$n-create14" 128 14 create=1
  done
}

# 5,000 sets a second, without and with snapshots of the whole tree going on all the time.
of_snapshot() {
  local size=${SNAPSHOT_ZNODES:-1000000} round
  fresh --shards 1
  measure snapshot-fill fill -k "$size"
  for round in 1 2 3; do
    stop TERM
    start --shards 1 --set snapCount=1000000000
    measure "snapshot-none-$round" run -r 5000 -c 64 -d 100 -m set=1 -k "$size" --no-setup --duration $((2 * seconds)) --warmup 1
    stop TERM
    start --shards 1 --set snapCount=10000
    measure "snapshot-on-$round" run -r 5000 -c 64 -d 100 -m set=1 -k "$size" --no-setup --duration $((2 * seconds)) --warmup 1
    grep -c 'snapshot written' "$work/ringkeeper/server.log" >"$results/snapshot-on-$round.count" || true
  done
}

ticks() { awk '{ print $14 + $15 }' "/proc/$server_pid/stat"; }
rss() { awk '/^VmRSS/ { print $2 * 1024 }' "/proc/$server_pid/status"; }
of_idle() {
  local n=${IDLE_SESSIONS:-10000} before after empty
  fresh
  # A while with nobody, so that what a start allocates and returns is over.
  sleep 2
  empty=$(rss) before=$(ticks)
  sleep 10
  after=$(ticks)
  echo "{\"rss\": $empty, \"percent_of_a_core\": $(((after - before) * 10))e-2}" >"$results/idle-none.json"
  measure idle-sessions storm -n "$n" --hold 10
}

for part in "${wanted[@]}"; do
  case $part in
    tree | connections | shards | snapshot | idle) "of_$part" ;;
    *) die "no such part: $part" ;;
  esac
done
commit=$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)
python3 -B "$root/scripts/growth.py" "$results" "$commit" | tee "$results/table.md"
