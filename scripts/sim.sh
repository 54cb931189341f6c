#!/usr/bin/env bash
# Whole ensembles in one thread from one seed: crashes, pauses, partitions, slow disks, and everything that clients were
# told judged against the log. See tests/sim.
#
#   scripts/sim.sh [SEEDS [FIRST_SEED]]    default: 100 seeds from 1 on
#
# A seed that fails is named with its reason, and how to replay it. The last line: N passed, N failed.
# Environment: SIM_SECONDS (no new seed is begun after so many seconds), JOBS (processes side by side, default: all CPUs).
set -euo pipefail
cd "$(dirname "$0")/.."

seeds=${1:-100}
first=${2:-1}
case $seeds$first in *[!0-9]*) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 64 ;; esac
jobs=${JOBS:-$(nproc)}
[ "$jobs" -le "$seeds" ] || jobs=$seeds

program=$(cargo test --profile sim --locked --no-run --test sim --message-format=json 2>/dev/null |
  sed -nE 's/.*"executable":"([^"]*sim-[0-9a-f]+)".*/\1/p' | tail -1)
[ -n "$program" ] || { cargo test --profile sim --locked --no-run --test sim; exit 1; }

work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
began=$SECONDS
for ((job = 0; job < jobs; job++)); do
  # Every job takes each jobs-th seed.
  SIM_SEEDS=$(((seeds - job + jobs - 1) / jobs)) SIM_FIRST=$((first + job)) SIM_STEP=$jobs RUST_BACKTRACE=0 \
    "$program" --nocapture ensembles >"$work/$job" 2>&1 &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || true; done
took=$((SECONDS - began))

grep -hE '^seed [0-9]+ (failed|fails)' "$work"/* || true
awk -v took="$took" '
  /^sim: / { passed += $2; failed += $4; ops += $6; faults += $8; elections += $10 }
  END {
    n = passed + failed
    if (n) printf "%d operations, %d faults, %d elections; a seed: %d operations, %d faults; %d seeds a minute\n",
      ops, faults, elections, ops / n, faults / n, n * 60 / (took ? took : 1)
    printf "%d passed, %d failed\n", passed, failed
    exit !(n && !failed)
  }' "$work"/* || { status=$?; grep -L '^sim: ' "$work"/* | xargs -r tail -n 20; exit "$status"; }
