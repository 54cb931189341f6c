# Sourced by the scripts that start servers: free ports, start and stop by process id, skipping.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export RINGKEEPER_BIN=${RINGKEEPER_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug/ringkeeper}

# A script that cannot run here says why and ends with this status; test.sh counts it as skipped.
SKIP=77

die() { echo "${0##*/}: $*" >&2; exit 1; }
skip() { echo "SKIPPED: $*"; exit $SKIP; }

need_binary() {
  [ -x "$RINGKEEPER_BIN" ] || (cd "$root" && cargo build --quiet --locked --bin ringkeeper) || die "cannot build ringkeeper"
  [ -x "$RINGKEEPER_BIN" ] || die "no server at $RINGKEEPER_BIN (set RINGKEEPER_BIN)"
}

# Asks the kernel for a port and gives it back; nothing else here takes it in between.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# COUNT: the first of COUNT free ports in a row. They lie below the range from which the system takes ports for outgoing
# connections, so that a server which is killed and started again finds its own still free.
free_ports() {
  local first port
  for _ in {1..200}; do
    first=$((20000 + RANDOM % 10000))
    for ((port = first; port < first + $1; port++)); do
      ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || continue 2
    done
    echo "$first"
    return
  done
  die "no $1 free ports in a row found"
}

# PORT WORD: a four-letter word and its answer.
four_letter() {
  timeout 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" && printf %s "$2" >&3 && cat <&3' _ "$1" "$2" 2>/dev/null
}

# DIR PORT [ARG...]: starts ringkeeper with its data and its log (server.log) in DIR, returns once it serves, and leaves
# its process id in $server_pid. Status 1 when it ends instead.
start_ringkeeper() {
  local dir=$1 port=$2
  shift 2
  mkdir -p "$dir"
  "$RINGKEEPER_BIN" serve --data-dir "$dir/data" --listen 127.0.0.1 --client-port "$port" "$@" \
    </dev/null >"$dir/server.log" 2>&1 &
  server_pid=$!
  local deadline=$((SECONDS + 30))
  until four_letter "$port" srvr | grep -q '^Mode:'; do
    kill -0 "$server_pid" 2>/dev/null || { tail -5 "$dir/server.log" >&2; return 1; }
    [ $SECONDS -lt $deadline ] || { kill -9 "$server_pid"; echo "no answer on port $port within 30 s" >&2; return 1; }
    sleep 0.05
  done
}

# An ensemble on this machine lies in one directory: ID.cfg, ID.log and ID.pid a server, and its data in ID/.

# FIRST_PORT ID: where that server takes clients. The next port is for the other servers, the one after it ZooKeeper's for
# elections, which ringkeeper does not open.
client_port() { echo $(($1 + 3 * ($2 - 1))); }

# FIRST_PORT SERVERS: what a client connects to.
ensemble_hosts() {
  local id hosts=
  for id in $(seq "$2"); do hosts=$hosts${hosts:+,}127.0.0.1:$(client_port "$1" "$id"); done
  echo "$hosts"
}

# DIR SERVERS FIRST_PORT [LINE...]: writes the configuration of each server; the LINEs go into all of them.
write_ensemble() {
  local dir=$1 servers=$2 first=$3 id other port
  shift 3
  for id in $(seq "$servers"); do
    mkdir -p "$dir/$id"
    echo "$id" >"$dir/$id/myid"
    {
      printf '%s\n' tickTime=2000 initLimit=10 syncLimit=5 "dataDir=$dir/$id" "clientPort=$(client_port "$first" "$id")" \
        clientPortAddress=127.0.0.1
      [ $# -eq 0 ] || printf '%s\n' "$@"
      for other in $(seq "$servers"); do
        port=$(client_port "$first" "$other")
        echo "server.$other=127.0.0.1:$((port + 1)):$((port + 2))"
      done
    } >"$dir/$id.cfg"
  done
}

# DIR ID [FLAG...]: starts that server of an ensemble on the data that it has; does not wait for it.
start_member() {
  local dir=$1 id=$2
  shift 2
  "$RINGKEEPER_BIN" serve "$dir/$id.cfg" "$@" </dev/null >>"$dir/$id.log" 2>&1 &
  echo $! >"$dir/$id.pid"
}

# PID: has that process ended? One that nobody has waited for yet has, once its last thread is gone with what it held.
ended() {
  kill -0 "$1" 2>/dev/null || return 0
  local threads=("/proc/$1/task/"*)
  [ ${#threads[@]} -le 1 ] && grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

# DIR ID FIRST_PORT SECONDS: waits until that server serves. Status 1 when it ends or does not in time.
await_member() {
  local log=$1/$2.log port pid deadline=$((SECONDS + $4))
  pid=$(cat "$1/$2.pid")
  port=$(client_port "$3" "$2")
  until four_letter "$port" srvr | grep -q '^Mode:'; do
    ! ended "$pid" || { echo "server $2 ended:" >&2; tail -5 "$log" >&2; return 1; }
    [ $SECONDS -lt $deadline ] || { echo "server $2 does not serve within $4 s:" >&2; tail -5 "$log" >&2; return 1; }
    sleep 0.1
  done
}

# PID: SIGTERM, then waits; after 15 s SIGKILL and status 1.
stop_server() {
  local pid=$1 deadline=$((SECONDS + 15))
  kill "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || { kill -9 "$pid" 2>/dev/null; echo "server $pid did not end within 15 s" >&2; return 1; }
    sleep 0.05
  done
}

rss_kib() { awk '/^VmRSS:/ { print $2 }' "/proc/$1/status"; }
