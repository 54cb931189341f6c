#!/usr/bin/env bash
# The race on one node: a real ZooKeeper and ringkeeper side by side, on the same disk, under the same load.
#
#   scripts/compare.sh [POINT...]          default: every point; `scripts/compare.sh --list` names them
#
# Fetches ZooKeeper, builds both of our programs in release, and runs each point against each server in turn, ROUNDS
# times (default 3), with the order turned round every time. A round begins with fresh servers, empty and (the JVM) warmed:
# the faster of the two makes more znodes, and should not carry them into what comes after. Every server keeps its default
# of syncing each write before it acknowledges it. Prints a Markdown table of medians and ratios; the results (JSON) and an HTML page of overlays for each point
# are left in RESULTS (default target/compare).
#
# Environment: ROUNDS, SECONDS_EACH (default 8), RESULTS, DATA (where the servers' data goes: the disk that is measured;
# default a directory in RESULTS), THREADS (of load, default 1), WARM_SECONDS (for each of four mixes, default 8),
# NO_BUILD=1 (take the two programs as they are).
set -euo pipefail
export RINGKEEPER_BIN=${RINGKEEPER_BIN:-$(dirname "$0")/../target/release/ringkeeper}
. "$(dirname "$0")/lib.sh"

rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-8}
results=${RESULTS:-$root/target/compare}
data=${DATA:-$results/data}
threads=${THREADS:-1}

# NAME: FLAGS of `ringkeeper-load`. The first word is its mode. The creates come last: they leave large trees. The setter with
# one watcher shows what the disk alone makes of the longest reply.
points=(
  "get-64x1: run --closed -c 64 -d 1 -m get=1"
  "get-64x14: run --closed -c 64 -d 14 -m get=1"
  "set-64x1: run --closed -c 64 -d 1 -m set=1"
  "set-64x14: run --closed -c 64 -d 14 -m set=1"
  "mix-64x1: run --closed -c 64 -d 1 -m get=90,set=10"
  "mix-64x14: run --closed -c 64 -d 14 -m get=90,set=10"
  "get-1x1: run --closed -c 1 -d 1 -m get=1"
  "set-1x1: run --closed -c 1 -d 1 -m set=1"
  "open-get-5k: run -r 5000 -c 64 -d 100 -m get=1"
  "open-get-20k: run -r 20000 -c 64 -d 100 -m get=1"
  "open-get-50k: run -r 50000 -c 64 -d 100 -m get=1"
  "open-set-500: run -r 500 -c 64 -d 100 -m set=1"
  "open-set-2k: run -r 2000 -c 64 -d 100 -m set=1"
  "open-set-5k: run -r 5000 -c 64 -d 100 -m set=1"
  "open-set-10k: run -r 10000 -c 64 -d 100 -m set=1"
  "open-set-20k: run -r 20000 -c 64 -d 100 -m set=1"
  "open-mix-20k: run -r 20000 -c 64 -d 100 -m get=90,set=10"
  "fan-out-1: fan-out -w 1 --rounds 10"
  "fan-out-1k: fan-out -w 1000 --rounds 10"
  "fan-out-10k: fan-out -w 10000 --rounds 5"
  "storm-10k: storm -n 10000 --hold 3"
  "create-64x14: run --closed -c 64 -d 14 -m create=1"
)

if [ "${1:-}" = --list ]; then
  printf '%s\n' "${points[@]}"
  exit 0
fi
wanted=("$@")
is_wanted() {
  [ ${#wanted[@]} = 0 ] && return 0
  local name
  for name in "${wanted[@]}"; do [ "$name" = "$1" ] && return 0; done
  return 1
}

for name in "${wanted[@]}"; do
  printf '%s\n' "${points[@]}" | grep -q "^$name: " || die "no such point: $name (--list names them)"
done

load=${RINGKEEPER_LOAD:-$root/target/release/ringkeeper-load}
if [ -z "${NO_BUILD:-}" ]; then
  (cd "$root" && cargo build --release --locked --bin ringkeeper && cargo build --release --locked -p ringkeeper-load)
fi
"$root/scripts/zookeeper.sh" fetch

# Better than the rest of the machine, where we may; the same for all.
nice=()
nice -n -15 true 2>/dev/null && nice=(nice -n -15)

mkdir -p "$results" "$data"
ulimit -n "$(ulimit -Hn)"
rm -f "$results"/*.json
work=$(mktemp -d "$data/run.XXXXXX")
null_pid='' server_pid=''
stop_servers() {
  [ -z "$server_pid" ] || { kill "$server_pid" 2>/dev/null && wait "$server_pid" 2>/dev/null; } || true
  server_pid=''
  "$root/scripts/zookeeper.sh" stop "$work/zookeeper" >/dev/null 2>&1 || true
  rm -rf "$work/zookeeper" "$work/ringkeeper"
}
cleanup() {
  [ -z "$null_pid" ] || kill "$null_pid" 2>/dev/null || true
  stop_servers
  rm -rf "$work"
}
trap cleanup EXIT

printf '#!/bin/sh\nexec %s %s "$@"\n' "${nice[*]}" "$(realpath "$RINGKEEPER_BIN")" >"$work/serve"
chmod +x "$work/serve"
start_nice() { RINGKEEPER_BIN=$work/serve start_ringkeeper "$@"; }
start_servers() {
  zk_port=$(free_port)
  "${nice[@]}" "$root/scripts/zookeeper.sh" start --race "$zk_port" "$work/zookeeper"
  zk_pid=$(cat "$work/zookeeper/zookeeper.pid")
  rk_port=$(free_port)
  # Clients from one address, as many as the load has: the same for ZooKeeper (zookeeper.sh).
  start_nice "$work/ringkeeper" "$rk_port" --set maxClientCnxns=0
  for mix in get=1 set=1 create=1 get=90,set=10; do
    "$load" run --closed -c 64 -d 14 -m "$mix" --duration "${WARM_SECONDS:-8}" --warmup 0 -q \
      -s "$(address zookeeper)" --root /race/warm >/dev/null || true
  done
}
"${nice[@]}" "$load" null >"$work/null" &
null_pid=$!
until [ -s "$work/null" ]; do sleep 0.05; done

address() {
  case $1 in
    zookeeper) echo "127.0.0.1:$zk_port" ;;
    ringkeeper) echo "127.0.0.1:$rk_port" ;;
    null) cat "$work/null" ;;
  esac
}
pid_of() {
  case $1 in
    zookeeper) echo "$zk_pid" ;;
    ringkeeper) echo "$server_pid" ;;
    null) echo "$null_pid" ;;
  esac
}

# FLAGS of a point for one server, and where its result goes.
measure() { # SERVER NAME ROUND FLAGS...
  local server=$1 name=$2 round=$3 status=0
  shift 3
  local flags=("$@")
  [ "${flags[0]}" = run ] && flags+=(--duration "$seconds" --warmup 1 -t "$threads" --root "/race/$name-$round")
  "${nice[@]}" "$load" "${flags[@]}" -q -s "$(address "$server")" --pid "$(pid_of "$server")" --name "$server" \
    --json "$results/$name.$server.$round.json" >"$work/out" 2>&1 || status=$?
  # 3 is an INVALID result (the load generator was the limit), 4 a rate that was not reached: both are results.
  case $status in
    0 | 3 | 4) ;;
    *) echo "$name on $server: status $status" >&2; tail -5 "$work/out" >&2 ;;
  esac
}

for ((round = 1; round <= rounds; round++)); do
  echo "round $round: fresh servers, warming the JVM" >&2
  start_servers
  for point in "${points[@]}"; do
    name=${point%%:*}
    is_wanted "$name" || continue
    read -ra flags <<<"${point#*:}"
    order=(zookeeper ringkeeper null)
    [ $((round % 2)) = 1 ] || order=(null ringkeeper zookeeper)
    for server in "${order[@]}"; do
      measure "$server" "$name" "$round" "${flags[@]}"
    done
    case $name in
      open-set-*)
        rate=$(sed -nE 's/.* -r ([0-9]+) .*/\1/p' <<<" ${flags[*]} ")
        "${nice[@]}" "$load" disk --dir "$work" -r "$rate" --duration "$seconds" -q \
          --json "$results/$name.disk.$round.json" >"$work/out" 2>&1 || tail -3 "$work/out" >&2
        ;;
    esac
    echo "round $round: $name done" >&2
  done
  stop_servers
done

# The last round of each point, one over the other. 3 is an INVALID result among them: the page says so.
for point in "${points[@]}"; do
  pages=("$results/${point%%:*}".{zookeeper,ringkeeper,null}."$rounds.json")
  [ -e "${pages[0]}" ] || continue
  "$load" compare "${pages[@]}" --html "$results/${point%%:*}.html" >/dev/null 2>"$work/out" || [ $? = 3 ] || cat "$work/out" >&2
done

commit=$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)
python3 -B "$root/scripts/compare.py" "$results" "$commit" | tee "$results/table.md"
