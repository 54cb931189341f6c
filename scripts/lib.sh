# Sourced by the scripts that start servers: free ports, start and stop by process id, skipping.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export RINGKEEPER_BIN=${RINGKEEPER_BIN:-$root/target/debug/ringkeeper}

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
