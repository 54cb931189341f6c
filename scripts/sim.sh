#!/usr/bin/env bash
# Whole ensembles in one thread from one seed: crashes, pauses, partitions, slow disks, and everything that clients were
# told judged against the log. See tests/sim.
#
#   scripts/sim.sh [SEEDS [FIRST_SEED]]    default: 100 seeds from 1 on. FIRST_SEED `commit`: a number made of the hash of
#                                          the commit at hand, so that each commit tries others; 1 where git is not there
#   scripts/sim.sh --mutants [SEEDS]       plants the bugs of src/mutant.rs, one after the other, and prints a table:
#                                          after how many seeds each was found; default: up to 10000
#   scripts/sim.sh --build                 only builds it
#
# A seed that fails is named with its reason, and how to replay it. The last line: N passed, N failed.
# Environment: SIM_SECONDS (no new seed is begun after so many seconds), JOBS (processes side by side, default: all CPUs).
set -euo pipefail
cd "$(dirname "$0")/.."

# As fast as may be, with every assertion: ringkeeper itself optimised, the dependencies as `cargo test` has built them.
export CARGO_INCREMENTAL=0
flags=(--workspace --locked --no-run --test sim --config profile.dev.package.ringkeeper.opt-level=2)
mutants=
[ "${1:-}" != --mutants ] || { mutants=1 flags+=(--features ringkeeper/mutants) && shift; }
# For who wants it ready before it is needed.
[ "${1:-}" != --build ] || exec cargo test "${flags[@]}"
seeds=${1:-$([ -n "$mutants" ] && echo 10000 || echo 100)}
first=${2:-1}
if [ "$first" = commit ]; then
  hash=$(git rev-parse --short=8 HEAD 2>/dev/null) || hash=
  case $hash in '' | *[!0-9a-f]*) first=1 ;; *) first=$((16#${hash:0:8})) ;; esac
fi
case $seeds$first in *[!0-9]*) sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 64 ;; esac
jobs=${JOBS:-$(nproc)}
[ "$jobs" -le "$seeds" ] || jobs=$seeds

program=$(cargo test "${flags[@]}" --message-format=json 2>/dev/null |
  sed -nE 's/.*"executable":"([^"]*sim-[0-9a-f]+)".*/\1/p' | tail -1) || program=
[ -n "$program" ] || { cargo test "${flags[@]}"; exit 1; }

work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
if [ -n "$mutants" ]; then
  look_for() { # NAME NUMBER: its row of the table
    SIM_MUTANT=$2 SIM_SEEDS=$seeds SIM_FIRST=$first RUST_BACKTRACE=0 "$program" --nocapture ensembles >"$work/$2.out" 2>&1 || true
    local found how
    found=$(sed -n 's/^found after \([0-9]*\) seeds/\1/p' "$work/$2.out")
    how=$(sed -nE 's/^seed [0-9]+ failed: (.{0,110}).*/\1/p' "$work/$2.out" | tr '|' '/')
    printf '| %s | %s | %s |\n' "$1" "${found:-not in $seeds}" "$how" >"$work/$2.row"
  }
  numbers=()
  while read -r name number; do
    [ "${#numbers[@]}" -lt "$jobs" ] || wait -n || true
    look_for "$name" "$number" &
    numbers+=("$number")
  done < <(sed -nE 's/^    ([A-Z][A-Za-z]+) = ([0-9]+),/\1 \2/p' src/mutant.rs)
  wait
  printf '| planted bug | seeds | what gave it away |\n|---|---:|---|\n'
  for number in "${numbers[@]}"; do cat "$work/$number.row"; done
  failed=$(cat "$work"/*.row | grep -c 'not in') || true
  passed=$((${#numbers[@]} - failed))
  echo "$passed passed, $failed failed"
  exit $((failed > 0))
fi
echo "seeds from $first on"
began=$SECONDS
for ((job = 0; job < jobs; job++)); do
  # Every job takes each jobs-th seed.
  SIM_SEEDS=$(((seeds - job + jobs - 1) / jobs)) SIM_FIRST=$((first + job)) SIM_STEP=$jobs RUST_BACKTRACE=0 \
    "$program" --nocapture ensembles >"$work/$job" 2>&1 &
  pids+=($!)
done
died=0
for pid in "${pids[@]}"; do wait "$pid" || died=$((died + 1)); done
took=$((SECONDS - began))

grep -hE '^seed [0-9]+ (failed|fails)' "$work"/* || true
# One that ends without its last line has not passed, whatever the others say.
awk -v took="$took" -v jobs="$jobs" -v died="$died" '
  /^sim: / { seen += 1; passed += $2; failed += $4; ops += $6; faults += $8; elections += $10; events += $12 }
  END {
    n = passed + failed
    if (n) {
      printf "%d operations, %d faults, %d elections, %d watch events; ", ops, faults, elections, events
      printf "a seed: %d operations, %d faults; %d seeds a minute\n", ops / n, faults / n, n * 60 / (took ? took : 1)
    }
    printf "%d passed, %d failed\n", passed, failed
    if (seen < jobs) printf "%d of %d processes ended before their time\n", jobs - seen, jobs
    exit !(n && !failed && seen == jobs && !died)
  }' "$work"/* || { status=$?; grep -L '^sim: ' "$work"/* | xargs -r tail -n 20; exit "$status"; }
