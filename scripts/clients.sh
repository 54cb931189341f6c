#!/usr/bin/env bash
# The suites of tests/clients, each on an unmodified client of its language, against one server.
#
#   scripts/clients.sh [--target ringkeeper|zookeeper] [java|c|python|go|node|all]... [-- PART-OF-CASE-NAME...]
#
# Starts the target (default ringkeeper) on a free port in a temporary directory and ends it by its process id, or uses
# the server at ZK_HOSTS when that is set. Each suite installs what it needs, prints "ok NAME" or "FAIL NAME: why" a case,
# and "N passed, N failed" last; so does this script over all of them. Exit code 1 when anything failed.
# Environment: RINGKEEPER_BIN (default target/debug/ringkeeper, built when missing), KEEP=1 keeps the server's directory.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
target=ringkeeper
all=(java c python go node)
suites=()
parts=()

die() { echo "clients.sh: $*" >&2; exit 1; }

while [ $# -gt 0 ]; do
  case "$1" in
    --target) target=${2:-}; shift ;;
    --target=*) target=${1#*=} ;;
    all) suites=("${all[@]}") ;;
    java | c | python | go | node) suites+=("$1") ;;
    --) shift; parts=("$@"); break ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
  esac
  shift
done
[ ${#suites[@]} -gt 0 ] || suites=("${all[@]}")
[ "$target" = ringkeeper ] || [ "$target" = zookeeper ] || die "--target is ringkeeper or zookeeper, not '$target'"

dir=
server_pid=

answers() { # PORT: does a server that serves answer there?
  (exec 3<>"/dev/tcp/127.0.0.1/$1" && printf srvr >&3 && timeout 2 cat <&3) 2>/dev/null | grep -q '^Mode:'
}

# Below the range from which the system takes ports for outgoing connections.
free_port() {
  local port
  for _ in {1..100}; do
    port=$((20000 + RANDOM % 10000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
  die "no free port found"
}

start_ringkeeper() { # PORT
  local bin=${RINGKEEPER_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug/ringkeeper}
  [ -x "$bin" ] || [ -n "${RINGKEEPER_BIN:-}" ] || (cd "$root" && cargo build --locked --bin ringkeeper >&2)
  [ -x "$bin" ] || die "no program at $bin"
  # The settings of `zookeeper.sh start --difftest`.
  printf '%s\n' tickTime=2000 "dataDir=$dir/data" "clientPort=$1" clientPortAddress=127.0.0.1 maxClientCnxns=0 \
    reconfigEnabled=true extendedTypesEnabled=true znode.container.checkIntervalMs=2000 '4lw.commands.whitelist=*' \
    DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU= >"$dir/zoo.cfg"
  "$bin" serve "$dir/zoo.cfg" </dev/null >"$dir/ringkeeper.log" 2>&1 &
  server_pid=$!
  local deadline=$((SECONDS + 30))
  until answers "$1"; do
    kill -0 "$server_pid" 2>/dev/null || { cat "$dir/ringkeeper.log" >&2; server_pid=; die "ringkeeper ended at once"; }
    [ $SECONDS -lt $deadline ] || { tail -20 "$dir/ringkeeper.log" >&2; die "no answer on port $1 within 30 s"; }
    sleep 0.1
  done
}

finish() {
  local code=$?
  if [ -n "$server_pid" ]; then
    kill "$server_pid" 2>/dev/null || true
    local deadline=$((SECONDS + 15))
    while kill -0 "$server_pid" 2>/dev/null; do
      [ $SECONDS -lt $deadline ] || { kill -9 "$server_pid" 2>/dev/null || true; break; }
      sleep 0.1
    done
  fi
  if [ -n "$dir" ]; then
    [ "$target" = ringkeeper ] || "$root/scripts/zookeeper.sh" stop "$dir"
    if [ -n "${KEEP:-}" ]; then echo "clients.sh: the server's directory is $dir" >&2; else rm -rf "$dir"; fi
  fi
  exit "$code"
}

if [ -z "${ZK_HOSTS:-}" ]; then
  dir=$(mktemp -d)
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  port=$(free_port)
  if [ "$target" = ringkeeper ]; then start_ringkeeper "$port"; else "$root/scripts/zookeeper.sh" start --difftest "$port" "$dir"; fi
  ZK_HOSTS=127.0.0.1:$port
fi
export ZK_HOSTS ZK_TARGET=$target

passed=0
failed=0
summary=()
for suite in "${suites[@]}"; do
  echo "== $suite"
  out=$(mktemp)
  begun=$SECONDS
  code=0
  timeout -k 10 "${SUITE_LIMIT:-400}" "$root/tests/clients/$suite/run.sh" ${parts[@]+"${parts[@]}"} | tee "$out" || code=$?
  # The count stands alone on the last line; a suite that dies before it has failed, whatever it passed.
  if [[ $(tail -n 1 "$out") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
    good=${BASH_REMATCH[1]} bad=${BASH_REMATCH[2]}
    [ "$code" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
  else
    good=$(grep -c '^ok ' "$out" || true) bad=$(($(grep -c '^FAIL ' "$out" || true) + 1))
    echo "FAIL $suite: it ended without a count, exit code $code"
  fi
  rm -f "$out"
  summary+=("$suite: $good passed, $bad failed in $((SECONDS - begun)) s")
  passed=$((passed + good))
  failed=$((failed + bad))
done

echo "== $target at $ZK_HOSTS"
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
