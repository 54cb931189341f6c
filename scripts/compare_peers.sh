#!/usr/bin/env bash
# The race with the neighbours: ringkeeper and ZooKeeper beside etcd and Consul, for the operations that all have.
#
#   scripts/compare_peers.sh [--quick] [POINT...]   default: every point; `scripts/compare_peers.sh --list` names them
#
# One server of each kind on this machine and on one disk, each with its default of syncing a write before it is
# acknowledged, driven in turn by one program in Go (scripts/peers): the clients go-zookeeper, etcd's clientv3 and
# Consul's api, unmodified, in a closed loop with one request outstanding on each connection. Each point is run ROUNDS
# times, with the order turned round every time. Prints a Markdown table of medians and of ratios to ringkeeper, with
# what each server promises for each read: only like promises should be compared. The server's CPU time an operation
# hardly depends on the client; operations a second and times do, where both share the CPUs. Results (JSON) are left in
# RESULTS (default target/compare_peers). --quick: one round of 2 s, only to see that all of it works.
#
# etcd and Consul come from ETCD_BIN and CONSUL_BIN, else from PATH, else they are built from the Go modules pinned in
# scripts/peers/etcd and scripts/peers/consul, else unpacked from Debian's packages (nothing is installed). One that cannot
# be had is left out, and the table says so. Consul is pinned to the last of 1.14 (MPL-2.0): from the end of 1.16 on it is
# under no open licence, and 1.15 draws in modules that have left theirs. To race a newer one set CONSUL_BIN. Needs Go,
# and what scripts/zookeeper.sh needs.
#
# Environment: ROUNDS (default 3), SECONDS_EACH (default 8), WARM_SECONDS (default 10, for the JVM and each operation),
# RESULTS, DATA (where the servers' data goes: the disk that is measured; default a directory in RESULTS), THREADS (of
# the client, default 1), NICE (default -15 where we may), NO_BUILD=1 (take our two programs as they are), PEERS (default
# "zookeeper etcd consul": who runs beside ringkeeper), PEERS_CACHE (what was built; default target/peers), ETCD_BIN,
# CONSUL_BIN, RINGKEEPER_BIN, KEEP=1 (leave the servers' directories).
set -euo pipefail
export RINGKEEPER_BIN=${RINGKEEPER_BIN:-$(dirname "$0")/../target/release/ringkeeper}
. "$(dirname "$0")/lib.sh"

rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-8}
warm=${WARM_SECONDS:-10}
results=${RESULTS:-$root/target/compare_peers}
data=${DATA:-$results/data}
cache=${PEERS_CACHE:-$root/target/peers}
read -ra peers <<<"${PEERS:-zookeeper etcd consul}"

# NAME: OPERATION CONNECTIONS
points=(
  "get-64x1: get 64"
  "set-64x1: set 64"
  "create-64x1: create 64"
  "get-1x1: get 1"
  "set-1x1: set 1"
  "create-1x1: create 1"
)

wanted=()
for word in "$@"; do
  case $word in
    --list) printf '%s\n' "${points[@]}"; exit 0 ;;
    --quick) rounds=1 seconds=2 warm=2 ;;
    -*) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
    *) wanted+=("$word") ;;
  esac
done
is_wanted() {
  [ ${#wanted[@]} = 0 ] && return 0
  local name
  for name in "${wanted[@]}"; do [ "$name" = "$1" ] && return 0; done
  return 1
}
for word in ${wanted[@]+"${wanted[@]}"}; do
  printf '%s\n' "${points[@]}" | grep -q "^$word:" || die "no such point: $word (see --list)"
done

client=$cache/client
mkdir -p "$cache" "$results" "$data"
if [ -z "${NO_BUILD:-}" ]; then
  command -v go >/dev/null || skip "no Go toolchain here: the client cannot be built"
  (cd "$root" && cargo build --release --locked --bin ringkeeper)
  (cd "$root/scripts/peers" && go build -mod=readonly -o "$client" .)
fi
need_binary
[ -x "$client" ] || die "no client at $client (run without NO_BUILD)"

rm -f "$results"/*.json "$results"/*.txt
work=$(mktemp -d "$data/run.XXXXXX")
declare -A pid=() at=()
cleanup() {
  local one
  for one in "${!pid[@]}"; do kill "${pid[$one]}" 2>/dev/null || true; done
  for one in "${!pid[@]}"; do stop_server "${pid[$one]}" 2>/dev/null || true; done
  "$root/scripts/zookeeper.sh" stop "$work/zookeeper" >/dev/null 2>&1 || true
  if [ -n "${KEEP:-}" ]; then echo "the servers' directories are in $work" >&2; else rm -rf "$work"; fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

nice=()
if [ -n "${NICE:-}" ]; then nice=(nice -n "$NICE"); elif nice -n -15 true 2>/dev/null; then nice=(nice -n -15); fi

# NAME: leaves a program of that server in $found, or why there is none in $results/NAME.txt (status 1).
find_peer() {
  local name=$1 variable=${1^^}_BIN module version
  found=${!variable:-}
  if [ -n "$found" ]; then
    [ -x "$found" ] && return 0
    echo "$variable names no program" >"$results/$name.txt"
    return 1
  fi
  found=$(command -v "$name" || true)
  [ -z "$found" ] || return 0
  # The tool that go.mod names, at the version that go.mod pins.
  module=$(awk '$1 == "tool" { print $2 }' "$root/scripts/peers/$name/go.mod")
  version=$(awk -v module="$module" '$1 == module { print $2 }' "$root/scripts/peers/$name/go.mod")
  found=$cache/$name-$version
  [ ! -x "$found" ] || return 0
  echo "building $name $version" >&2
  if (cd "$root/scripts/peers/$name" && go build -mod=readonly -o "$found" "$module") >"$work/$name.build" 2>&1; then
    return 0
  fi
  found=$(from_debian "$name" 2>>"$work/$name.build") || {
    {
      echo "no $variable, none on PATH, no Debian package, and $version does not build here:"
      sed '/^go: downloading/d' "$work/$name.build" | sed -n 1,3p
    } | tr '\n' ' ' >"$results/$name.txt"
    return 1
  }
}

# NAME: the program out of Debian's package, unpacked and not installed: installing would start a service.
from_debian() {
  local name=$1 package=$1 dir=$cache/$1-debian program
  [ "$name" != etcd ] || package=etcd-server
  if [ ! -x "$dir/usr/bin/$name" ]; then
    command -v apt-get >/dev/null || return 1
    rm -rf "$dir"
    mkdir -p "$dir"
    (cd "$dir" && apt-get -qq download "$package" >&2 && dpkg-deb -x ./*.deb . && rm -f ./*.deb) || return 1
  fi
  program=$dir/usr/bin/$name
  [ -x "$program" ] && echo "$program"
}

# NAME PROGRAM ARG...: starts it with its log in $work/NAME.log, returns once it takes a write.
start_peer() {
  local name=$1
  shift
  "${nice[@]}" "$@" </dev/null >"$work/$name.log" 2>&1 &
  pid[$name]=$!
  timeout 90 "$client" wait -client "$name" -at "${at[$name]}" -pid "${pid[$name]}" 2>"$work/wait" && return 0
  { echo "it did not come up:"; cat "$work/wait"; tail -2 "$work/$name.log"; } | tr '\n' ' ' >"$results/$name.txt"
  stop_server "${pid[$name]}" || true
  unset "pid[$name]" "at[$name]"
  return 1
}

start_etcd() {
  local peer
  find_peer etcd || return 0
  at[etcd]=127.0.0.1:$(free_port)
  peer=http://127.0.0.1:$(free_port)
  start_peer etcd "$found" --name race --data-dir "$work/etcd" --log-level warn \
    --listen-client-urls "http://${at[etcd]}" --advertise-client-urls "http://${at[etcd]}" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "race=$peer" || return 0
  "$found" --version | sed -n '1s/ Version:/ /p' | tr -s ' ' >"$results/etcd.version.txt"
}

# Without what this machine needs no part of: DNS, gRPC, the gossip of data centres, the question for updates.
start_consul() {
  local port
  find_peer consul || return 0
  port=$(free_port)
  at[consul]=127.0.0.1:$port
  mkdir -p "$work/consul"
  printf '{"disable_update_check": true, "performance": {"raft_multiplier": 1}, "limits": {"http_max_conns_per_client": 1000},
    "ports": {"http": %s, "server": %s, "serf_lan": %s, "serf_wan": -1, "dns": -1, "grpc": -1, "grpc_tls": -1}}' \
    "$port" "$(free_port)" "$(free_port)" >"$work/consul.json"
  start_peer consul "$found" agent -server -bootstrap-expect=1 -node race -bind 127.0.0.1 -client 127.0.0.1 \
    -data-dir "$work/consul" -log-level warn -config-file "$work/consul.json" || return 0
  "$found" version | sed -n 1p >"$results/consul.version.txt"
}

start_zookeeper() {
  local port
  port=$(free_port)
  if ! "${nice[@]}" "$root/scripts/zookeeper.sh" start --race "$port" "$work/zookeeper" >"$work/zookeeper.out" 2>&1; then
    tail -3 "$work/zookeeper.out" | tr '\n' ' ' >"$results/zookeeper.txt"
    return 0
  fi
  at[zookeeper]=127.0.0.1:$port
  pid[zookeeper]=$(cat "$work/zookeeper/zookeeper.pid")
  four_letter "$port" srvr | sed -n 's/^Zookeeper version: \([0-9.]*\).*/ZooKeeper \1/p' >"$results/zookeeper.version.txt" || true
}

printf '#!/bin/sh\nexec %s %s "$@"\n' "${nice[*]}" "$(realpath "$RINGKEEPER_BIN")" >"$work/serve"
chmod +x "$work/serve"
rk_port=$(free_port)
RINGKEEPER_BIN=$work/serve start_ringkeeper "$work/ringkeeper" "$rk_port" --set maxClientCnxns=0
pid[ringkeeper]=$server_pid at[ringkeeper]=127.0.0.1:$rk_port
for peer in "${peers[@]}"; do
  case $peer in
    zookeeper | etcd | consul) "start_$peer" ;;
    *) die "PEERS has no $peer" ;;
  esac
done
for peer in "${peers[@]}"; do
  [ -n "${at[$peer]:-}" ] || echo "$peer is left out: $(cat "$results/$peer.txt")" >&2
done

protocol() { case $1 in ringkeeper) echo zookeeper ;; *) echo "$1" ;; esac; }
for server in "${!at[@]}"; do
  timeout 90 "$client" load -client "$(protocol "$server")" -at "${at[$server]}" || die "cannot lay the keys in $server"
done
if [ -n "${at[zookeeper]:-}" ]; then
  echo "warming the JVM" >&2
  for op in get set create; do
    timeout $((warm + 60)) "$client" run -client zookeeper -at "${at[zookeeper]}" -op "$op" -dir "warm-$op" \
      -seconds "$warm" -warmup 0 >/dev/null || true
  done
fi

# How a server is read, its default first; a write has one way.
ways() { # SERVER OPERATION
  protocol "$1"
  case $1-$2 in
    etcd-get) echo etcd-serializable ;;
    consul-get) echo consul-stale ;;
  esac
}

measure() { # SERVER NAME ROUND OPERATION CONNECTIONS
  local server=$1 name=$2 round=$3 op=$4 connections=$5 way base
  for way in $(ways "$server" "$op"); do
    base=$way
    [ "$server" != ringkeeper ] || base=ringkeeper
    GOMAXPROCS=${THREADS:-1} timeout $((seconds + 60)) "${nice[@]}" "$client" run -client "$way" -at "${at[$server]}" \
      -op "$op" -dir "$name-$round" -c "$connections" -seconds "$seconds" -pid "${pid[$server]}" -name "$server" \
      >"$work/result" 2>"$work/out" && mv "$work/result" "$results/$name.$base.$round.json" && continue
    echo "$name on $base, round $round: $(tail -1 "$work/out")" | tee -a "$results/failed.txt" >&2
  done
}

for ((round = 1; round <= rounds; round++)); do
  for point in "${points[@]}"; do
    name=${point%%:*}
    is_wanted "$name" || continue
    read -r op connections <<<"${point#*:}"
    order=(ringkeeper "${peers[@]}")
    if [ $((round % 2)) = 0 ]; then
      turned=()
      for server in "${order[@]}"; do turned=("$server" ${turned[@]+"${turned[@]}"}); done
      order=("${turned[@]}")
    fi
    for server in "${order[@]}"; do
      [ -z "${at[$server]:-}" ] || measure "$server" "$name" "$round" "$op" "$connections"
    done
    echo "round $round: $name done" >&2
  done
done

commit=$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)
python3 -B "$root/scripts/compare_peers.py" "$results" "$commit" | tee "$results/table.md"
