#!/usr/bin/env bash
# The suites of tests/clients, each on an unmodified client of its language, against one server or an ensemble.
#
#   scripts/clients.sh [--target ringkeeper|zookeeper] [--servers N] [--kill-every SECONDS]
#                      [java|c|python|go|node|all]... [-- PART-OF-CASE-NAME...]
#
# Starts the target (default ringkeeper) on free ports in a temporary directory and ends it by its process id, or uses the
# servers at ZK_HOSTS (host:port,...) when that is set. --servers: an ensemble of so many. --kill-every: meanwhile one
# server of it after the other is killed (SIGKILL) and started again at once on the same data; the next one only after it
# serves again. Below 10 s the cases that wait for an expiry may come to no end. Each suite installs what it needs, prints
# "ok NAME", "FAIL NAME: why" or "skip NAME: why" a case, "again NAME: why" for one that a kill interrupted and that begins
# again, and "N passed, N failed" (and ", N skipped") last; so does this script over all. Exit code 1 when anything failed.
# Environment: RINGKEEPER_BIN (default target/debug/ringkeeper, built when missing), KEEP=1 keeps the servers' directory.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

target=ringkeeper
servers=
kill_every=
all=(java c python go node)
suites=()
parts=()

while [ $# -gt 0 ]; do
  case "$1" in
    --target) target=${2:-}; shift ;;
    --target=*) target=${1#*=} ;;
    --servers) servers=${2:-}; shift ;;
    --servers=*) servers=${1#*=} ;;
    --kill-every) kill_every=${2:-}; shift ;;
    --kill-every=*) kill_every=${1#*=} ;;
    all) suites=("${all[@]}") ;;
    java | c | python | go | node) suites+=("$1") ;;
    --) shift; parts=("$@"); break ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
  esac
  shift
done
[ ${#suites[@]} -gt 0 ] || suites=("${all[@]}")
[ "$target" = ringkeeper ] || [ "$target" = zookeeper ] || die "--target is ringkeeper or zookeeper, not '$target'"
[[ $servers =~ ^[1-9]?$ ]] || die "--servers is 1 to 9, not '$servers'"
[[ $kill_every =~ ^([1-9][0-9]*)?$ ]] || die "--kill-every is a number of seconds, not '$kill_every'"
[ -z "$kill_every" ] || [ "${servers:-1}" -ge 3 ] || die "--kill-every needs an ensemble: --servers 3"
[ -z "$kill_every" ] || [ -z "${ZK_HOSTS:-}" ] || die "--kill-every kills only servers that it started: unset ZK_HOSTS"

dir=
server_pid=
loop_pid=

# The settings of `zookeeper.sh start --difftest`.
settings=(maxClientCnxns=0 reconfigEnabled=true extendedTypesEnabled=true znode.container.checkIntervalMs=2000
  '4lw.commands.whitelist=*' DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=)

start_one() { # PORT
  printf '%s\n' tickTime=2000 "dataDir=$dir/data" "clientPort=$1" clientPortAddress=127.0.0.1 "${settings[@]}" >"$dir/zoo.cfg"
  "$RINGKEEPER_BIN" serve "$dir/zoo.cfg" </dev/null >"$dir/ringkeeper.log" 2>&1 &
  server_pid=$!
  local deadline=$((SECONDS + 30))
  until four_letter "$1" srvr | grep -q '^Mode:'; do
    kill -0 "$server_pid" 2>/dev/null || { cat "$dir/ringkeeper.log" >&2; server_pid=; die "ringkeeper ended at once"; }
    [ $SECONDS -lt $deadline ] || { tail -20 "$dir/ringkeeper.log" >&2; die "no answer on port $1 within 30 s"; }
    sleep 0.1
  done
}

start_ensemble() { # FIRST_PORT
  local id
  write_ensemble "$dir" "$servers" "$1" "${settings[@]}"
  for id in $(seq "$servers"); do
    start_member "$dir" "$id"
    disown $!
  done
  for id in $(seq "$servers"); do await_member "$dir" "$id" "$1" 30 || die "the ensemble did not start"; done
}

# FIRST_PORT: kills one server after the other until $dir/enough exists; counts in $dir/kills, complains in $dir/complaint.
keep_killing() {
  local id=0 kills=0 pid next
  while :; do
    next=$((SECONDS + kill_every))
    until [ $SECONDS -ge $next ]; do
      [ ! -e "$dir/enough" ] || return 0
      sleep 0.2
    done
    id=$((id % servers + 1))
    pid=$(cat "$dir/$id.pid")
    ended "$pid" && { echo "server $id had ended by itself" >"$dir/complaint"; return; }
    kill -9 "$pid"
    until ended "$pid"; do sleep 0.02; done
    echo "-- killed server $id at $(date +%T.%3N)" >>"$dir/$id.log"
    if [ "$target" = ringkeeper ]; then
      start_member "$dir" "$id"
      disown $!
    else
      "$root/scripts/zookeeper.sh" again "$dir" "$id"
    fi
    await_member "$dir" "$id" "$1" 60 2>"$dir/complaint" || return 0
    rm "$dir/complaint"
    kills=$((kills + 1))
    echo "$kills" >"$dir/kills"
  done
}

stop_members() {
  local pidfile pid deadline=$((SECONDS + 15))
  for pidfile in "$dir"/*.pid; do [ ! -e "$pidfile" ] || kill "$(cat "$pidfile")" 2>/dev/null || true; done
  for pidfile in "$dir"/*.pid; do
    [ -e "$pidfile" ] || continue
    pid=$(cat "$pidfile")
    until ended "$pid"; do
      [ $SECONDS -lt $deadline ] || { kill -9 "$pid" 2>/dev/null || true; break; }
      sleep 0.1
    done
  done
}

finish() {
  local code=$?
  trap '' INT TERM
  if [ -n "$loop_pid" ]; then
    touch "$dir/enough"
    wait "$loop_pid" || true
  fi
  [ -z "$server_pid" ] || stop_server "$server_pid" || true
  if [ -n "$dir" ]; then
    if [ "$target" = zookeeper ]; then "$root/scripts/zookeeper.sh" stop "$dir"; else stop_members; fi
    if [ -n "${KEEP:-}" ]; then echo "clients.sh: the servers' directory is $dir" >&2; else rm -rf "$dir"; fi
  fi
  exit "$code"
}

if [ -z "${ZK_HOSTS:-}" ]; then
  [ "$target" = zookeeper ] || need_binary
  dir=$(mktemp -d)
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  port=$(free_ports $((3 * ${servers:-1})))
  if [ "$target" = zookeeper ]; then
    "$root/scripts/zookeeper.sh" start ${servers:+--servers "$servers"} --difftest "$port" "$dir"
  elif [ -n "$servers" ]; then
    start_ensemble "$port"
  else
    start_one "$port"
  fi
  ZK_HOSTS=$(ensemble_hosts "$port" "${servers:-1}")
fi
# ZK_KILLS tells the suites that a connection may end at any time, which is no fault then, and a session never.
export ZK_HOSTS ZK_TARGET=$target ZK_KILLS=${kill_every:+1}
if [ -n "$kill_every" ]; then
  keep_killing "$port" &
  loop_pid=$!
fi

passed=0
failed=0
skipped=0
summary=()
count() { # PASSED FAILED SKIPPED
  echo "$1 passed, $2 failed$([ "$3" -eq 0 ] || echo ", $3 skipped")"
}
for suite in "${suites[@]}"; do
  echo "== $suite"
  out=$(mktemp)
  begun=$SECONDS
  code=0
  timeout -k 10 "${SUITE_LIMIT:-$((kill_every ? 900 : 400))}" "$root/tests/clients/$suite/run.sh" ${parts[@]+"${parts[@]}"} |
    tee "$out" || code=$?
  # The count stands alone on the last line; a suite that dies before it has failed, whatever it passed.
  skips=$(grep -c '^skip ' "$out" || true)
  again=$(grep -c '^again ' "$out" || true)
  if [[ $(tail -n 1 "$out") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed(, [0-9]+ skipped)?$ ]]; then
    good=${BASH_REMATCH[1]} bad=${BASH_REMATCH[2]}
    [ "$code" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
  else
    good=$(grep -c '^ok ' "$out" || true) bad=$(($(grep -c '^FAIL ' "$out" || true) + 1))
    echo "FAIL $suite: it ended without a count, exit code $code"
  fi
  rm -f "$out"
  summary+=("$suite: $(count "$good" "$bad" "$skips")$([ "$again" -eq 0 ] || echo ", $again begun again") in $((SECONDS - begun)) s")
  passed=$((passed + good))
  failed=$((failed + bad))
  skipped=$((skipped + skips))
done

if [ -n "$kill_every" ]; then
  touch "$dir/enough"
  wait "$loop_pid" || true
  loop_pid=
  summary+=("$(cat "$dir/kills" 2>/dev/null || echo 0) kills")
fi
for pidfile in "$dir"/[1-9].pid; do
  [ -n "$dir" ] && [ -e "$pidfile" ] && ended "$(cat "$pidfile")" && echo "server ${pidfile##*/} has ended" >>"$dir/complaint"
done
if [ -n "$dir" ] && [ -e "$dir/complaint" ]; then
  echo "FAIL servers: $(tr '\n' ' ' <"$dir/complaint")"
  failed=$((failed + 1))
fi

echo "== $target at $ZK_HOSTS"
printf '%s\n' "${summary[@]}"
count "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
