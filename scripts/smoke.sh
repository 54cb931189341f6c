#!/usr/bin/env bash
# The promises of an operator's first five minutes: it starts with nothing but a port, answers, refuses a second server
# on its data and on its port, ends cleanly with 0, comes back with its data, and refuses a wrong configuration with 78.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_binary

work=$(mktemp -d)
server_pid=
cleanup() {
  [ -z "$server_pid" ] || kill -9 "$server_pid" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

passed=0
failed=0
check() { # NAME COMMAND...
  local name=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
    echo "ok    $name"
  else
    failed=$((failed + 1))
    echo "FAIL  $name"
  fi
}
status_of() { # COMMAND...: its status; its output to $work/out
  local status=0
  timeout 20 "$@" </dev/null >"$work/out" 2>&1 || status=$?
  echo $status
}
refuses() { # STATUS... -- COMMAND...
  local want=()
  while [ "$1" != -- ]; do want+=("$1"); shift; done
  shift
  local got
  got=$(status_of "$@")
  for status in "${want[@]}"; do [ "$got" != "$status" ] || return 0; done
  echo "      status $got, wanted ${want[*]}:"
  sed 's/^/      /' "$work/out" | tail -5
  return 1
}
says() { grep -q -- "$1" "$work/out" || { sed 's/^/      /' "$work/out" | tail -5; return 1; }; }
answers() { four_letter "$port" "$1" | grep -q "$2"; }

check "--version tells a version" test "$(status_of "$RINGKEEPER_BIN" --version)" = 0
check "--version tells the name" says '^ringkeeper '

port=$(free_port)
start_ringkeeper "$work" "$port" || { sed 's/^/      /' "$work/server.log"; die "it does not start"; }
check "ruok is answered" answers ruok '^imok$'
check "srvr names the mode" answers srvr '^Mode: standalone$'
check "the start says where the data is" grep -q "$work/data" "$work/server.log"
check "a second server on the same data is refused" refuses 71 78 -- "$RINGKEEPER_BIN" serve --data-dir "$work/data" --client-port "$(free_port)"
check "a second server on the same port is refused" refuses 71 78 -- "$RINGKEEPER_BIN" serve --data-dir "$work/other" --listen 127.0.0.1 --client-port "$port"
check "the first one still answers" answers ruok '^imok$'

began=$SECONDS
kill "$server_pid"
status=0
wait "$server_pid" || status=$?
check "SIGTERM ends it with status 0 (got $status)" test "$status" = 0
check "in less than 10 s" test $((SECONDS - began)) -lt 10
server_pid=

start_ringkeeper "$work" "$port" || die "it does not start a second time"
check "it comes back on the same data" answers srvr '^Mode: standalone$'
stop_server "$server_pid" || failed=$((failed + 1))
server_pid=

check "verify finds nothing wrong" test "$(status_of "$RINGKEEPER_BIN" verify "$work/data")" = 0

printf 'dataDir=%s\nclientPort=2181\ntickTime=often\n' "$work/third" >"$work/zoo.cfg"
check "a wrong value ends with 78" refuses 78 -- "$RINGKEEPER_BIN" serve "$work/zoo.cfg"
check "and names the file, the line and the key" says 'zoo.cfg:3.*tickTime'
check "an unknown flag ends with an error" refuses 2 64 78 -- "$RINGKEEPER_BIN" serve --no-such-flag

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
