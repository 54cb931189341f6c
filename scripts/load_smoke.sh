#!/usr/bin/env bash
# One short run of the server under the load generator, with every kind of result: not a measurement, a proof that the
# two work together and that nothing is lost between them. Last line: N passed, N failed.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_binary
load=${RINGKEEPER_LOAD:-$root/target/debug/ringkeeper-load}
[ -x "$load" ] || (cd "$root" && cargo build --quiet --locked -p ringkeeper-load)

work=$(mktemp -d)
server_pid=
cleanup() {
  [ -z "$server_pid" ] || kill -9 "$server_pid" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
port=$(free_port)
start_ringkeeper "$work/ringkeeper" "$port" --set maxClientCnxns=0 || die "ringkeeper did not start"

passed=0 failed=0
check() { # NAME COMMAND...
  local what=$1
  shift
  if "$@" >"$work/out" 2>&1; then passed=$((passed + 1)); else
    failed=$((failed + 1))
    echo "FAILED: $what"
    tail -15 "$work/out"
  fi
}
# 3: INVALID, because a busy machine held the load generator up. The counts are right all the same.
run() { "$load" "$@" -s "127.0.0.1:$port" --pid "$server_pid" -q || [ $? = 3 ]; }
counts() { # FILE DUE
  python3 - "$@" <<'PY'
import json, sys
result = json.load(open(sys.argv[1]))
counts = result["counts"]
assert counts["due"] == counts["answered"] == int(sys.argv[2]) and counts["errors"] == 0, counts
assert result["servers"][0]["cpu_us_per_op"] > 0
PY
}

mix=get=5,set=2,create=1,create-delete=1,ephemeral=1,sequential=1,exists=1,children=1,multi=1,sync-get=1,read-modify-write=1
check "an open loop of everything" run run -r 500 -c 16 -m "$mix" -k 500 --duration 3 --warmup 0 \
  --json "$work/a.json" --html "$work/a.html" --hlog "$work/a.hlog"
check "all that was due is answered" counts "$work/a.json" 1500
check "the page is whole" grep -q '</html>' "$work/a.html"
check "a scenario" run run -r 200 --scenario "$root/loadgen/scenarios/service-discovery.toml" --duration 2 --warmup 0 \
  --json "$work/b.json"
check "all of it is answered" counts "$work/b.json" 400
check "a closed loop" run run --closed -c 8 -d 4 --duration 1 --warmup 0 -k 500
check "a fan-out" run fan-out -w 100 --rounds 3
check "a storm" run storm -n 200 --hold 1
check "churn" run churn -r 50 --duration 1
check "a fill" run fill -k 5000 --root /fill
compare() { "$load" compare "$@" || [ $? = 3 ]; }
check "a comparison" compare "$work/a.json" "$work/b.json" --anyway --html "$work/c.html"
check "the server is well" test "$(four_letter "$port" ruok)" = imok
check "it stops" stop_server "$server_pid"
server_pid=
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
