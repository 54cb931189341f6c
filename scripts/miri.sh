#!/usr/bin/env bash
# The core rooms under Miri: no undefined behaviour in what they and their crates do. Needs a nightly toolchain with
# the component miri; exits 77 (skipped) without it.
#
#   scripts/miri.sh [ROOM...]     default: wire tree auth session apply watch log::record
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
cargo +nightly miri --version >/dev/null 2>&1 ||
  skip "no nightly toolchain with miri (rustup toolchain install nightly --component miri)"
rooms=("$@")
[ ${#rooms[@]} -gt 0 ] || rooms=(wire:: tree:: auth:: session:: apply:: watch:: log::record)
# No allocator in C, no clock, leaks are bugs too.
MIRIFLAGS="-Zmiri-disable-isolation ${MIRIFLAGS:-}" CARGO_TARGET_DIR=$PWD/target/miri \
  cargo +nightly miri test --locked --no-default-features --lib -- "${rooms[@]}"
