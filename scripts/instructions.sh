#!/usr/bin/env bash
# Instructions of a hot path, counted by callgrind: the same on every machine, however busy it is.
#
#   scripts/instructions.sh [get|ping|set|create ...]     default: all four
#
# Each path runs 2,000 and 12,000 times on the same tree of 100,000 znodes; the difference is divided by 10,000.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
command -v valgrind >/dev/null || skip "no valgrind (apt-get install valgrind)"
paths=("$@")
[ ${#paths[@]} -gt 0 ] || paths=(get ping set create)
bench=$(cargo bench --locked --bench count --no-default-features --no-run --message-format=json 2>/dev/null |
  sed -nE 's/.*"executable":"([^"]*count[^"]*)".*/\1/p' | tail -1)
count() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bench" "$1" "$2" 2>&1 |
    sed -nE 's/.*Collected : ([0-9]+).*/\1/p'
}
for path in "${paths[@]}"; do
  few=$(count "$path" 2000)
  many=$(count "$path" 12000)
  echo "$path $(((many - few) / 10000)) instructions"
done
