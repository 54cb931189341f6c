#!/usr/bin/env bash
# Every fuzz target for a short while.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]     default: 20 seconds each, all targets of fuzz/; 0 seconds: only build them
set -euo pipefail
. "$(dirname "$0")/lib.sh"
seconds=${1:-20}
shift $(($# < 1 ? $# : 1))
[ -e "$root/fuzz/Cargo.toml" ] || skip "no fuzz targets yet"
cargo +nightly --version >/dev/null 2>&1 || skip "no nightly toolchain (rustup toolchain install nightly)"
cargo +nightly fuzz --version >/dev/null 2>&1 || skip "no cargo-fuzz (cargo install --locked cargo-fuzz)"
cd "$root"
[ $# -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)
[ $# -eq 0 ] || targets=("$@")
if [ "$seconds" = 0 ]; then exec cargo +nightly fuzz build --codegen-units 16; fi
passed=0
failed=0
for target in "${targets[@]}"; do
  if cargo +nightly fuzz run --codegen-units 16 "$target" -- -max_total_time="$seconds" -rss_limit_mb=2048 -print_final_stats=1 2>&1 | tail -25; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
