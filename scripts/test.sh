#!/usr/bin/env bash
# Everything that must pass, in the order of how soon it tells. What CI runs is what you run.
#
#   scripts/test.sh          all of it, each proof in its short form
#   scripts/test.sh quick    format, lints, Rust tests
#   scripts/test.sh full     as without a word
#
# A step that cannot run here prints `SKIPPED: why`. With CI=true a required step must not be skipped. More of a proof:
# TORTURE_CYCLES, DIFFTEST_SEEDS, DIFFTEST_EPOCHS, FUZZ_SECONDS, SIM_SEEDS, SIM_SECONDS. Last line: N passed, N failed (steps).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

mode=${1:-full}
case $mode in quick | full) ;; *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 64 ;; esac

passed=0
failed=0
skipped=0
summary=()

step() { # required|optional NAME COMMAND...
  local kind=$1 name=$2 began=$SECONDS status=0 word
  shift 2
  printf '\n== %s\n' "$name"
  if [ -e "$1" ] || command -v "$1" >/dev/null 2>&1; then
    "$@" || status=$?
  else
    echo "SKIPPED: there is no $1"
    status=77
  fi
  if [ $status = 77 ] && [ "$kind" = required ] && [ "${CI:-}" = true ]; then
    echo "required in CI: a skip counts as a failure"
    status=1
  fi
  case $status in
    0) word=passed passed=$((passed + 1)) ;;
    77) word=skipped skipped=$((skipped + 1)) ;;
    *) word="FAILED ($status)" failed=$((failed + 1)) ;;
  esac
  summary+=("$(printf '%-28s %-12s %5d s' "$name" "$word" $((SECONDS - began)))")
  printf -- '-- %s: %s, %d s\n' "$name" "$word" $((SECONDS - began))
}

# A step's command beside the steps that follow; `of NAME` is its end, where the step itself is counted.
declare -A pids outputs
aside() { # NAME COMMAND...
  local name=$1
  shift
  outputs[$name]=$(mktemp)
  "$@" >"${outputs[$name]}" 2>&1 &
  pids[$name]=$!
}
after() { # PID COMMAND...
  tail --pid "$1" -f /dev/null
  shift
  "$@"
}
of() {
  local status=0
  wait "${pids[$1]}" || status=$?
  cat "${outputs[$1]}"
  rm -f "${outputs[$1]}"
  return "$status"
}

[ "$mode" = quick ] || step required setup scripts/setup.sh
step required format cargo fmt --all --check
step required clippy cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
step required "cargo test" cargo test --workspace --locked
step optional "cargo deny" scripts/deny.sh
if [ "$mode" = full ]; then
  # `cargo test` has built both programs. `cargo build` would build them and half of their dependencies again, with fewer of
  # those dependencies' features; and the simulator's build puts others in their place.
  target=${CARGO_TARGET_DIR:-$PWD/target}
  export RINGKEEPER_BIN=$target/tested/ringkeeper RINGKEEPER_LOAD=$target/tested/ringkeeper-load
  mkdir -p "$target/tested"
  step required programs cp -t "$target/tested" "$target/debug/ringkeeper" "$target/debug/ringkeeper-load"
  # A build that a later step waits for goes on beside those that mostly wait for servers. What is wrong with it that step
  # says again. After it two more that have no clock which others could disturb: the fuzz targets with their sanitizers,
  # and Miri.
  nice -n 19 scripts/sim.sh --build >/dev/null 2>&1 &
  builds=$!
  after "$builds" nice -n 19 scripts/fuzz.sh 0 >/dev/null 2>&1 &
  aside miri after "$builds" nice -n 19 scripts/miri.sh
  # The cases of reconfig that need it must not come before the suite that fetches it.
  step optional "ZooKeeper's jars" scripts/zookeeper.sh fetch
  step required smoke scripts/smoke.sh
  step required "load smoke" scripts/load_smoke.sh
  # Servers that come and go are waited for, most of the time: beside the clients and the kills.
  aside reconfig tests/reconfig/run.py --server ringkeeper --binary "$RINGKEEPER_BIN"
  step required clients scripts/clients.sh all
  step required torture scripts/torture.sh "${TORTURE_CYCLES:-7}"
  step required "torture, io_uring" scripts/torture.sh "${TORTURE_CYCLES:-7}" --more '--io uring --shards 2' --seed 3
  step required "torture, epoll" scripts/torture.sh "${TORTURE_CYCLES:-7}" --more '--io epoll --shards 2' --seed 2
  step required reconfig of reconfig
  step optional "full disk" scripts/full_disk.sh
  [ "${CI:-}" = true ] || step optional image scripts/image.sh
  wait "$builds" || true
  # Fresh seeds with every commit, the same ones for the same commit: as many as four minutes take.
  step required sim env SIM_SECONDS="${SIM_SECONDS:-240}" scripts/sim.sh "${SIM_SEEDS:-10000}" commit
  step optional ensemble scripts/ensemble.sh --short
  step optional "ensemble's checker" scripts/ensemble.sh --self-test
  step optional difftest scripts/difftest.sh "${DIFFTEST_SEEDS:-1}" "${DIFFTEST_EPOCHS:-20}"
  step optional "hostile inputs" scripts/hostile.sh
  step required loom scripts/loom.sh
  step required instructions scripts/instructions.sh --check
  step optional fuzz scripts/fuzz.sh "${FUZZ_SECONDS:-20}"
  step optional miri of miri
fi

printf '\n== all steps (%d skipped)\n' "$skipped"
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
