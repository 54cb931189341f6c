#!/usr/bin/env bash
# The log's proofs at full length: power cuts on a recording disk, flipped bytes, kill -9 of a writing process.
#
#   scripts/crash.sh [IMAGES] [FLIPS] [KILLS] [SEEDS]     default: 5000 20000 300 1
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root"
images=${1:-5000} flips=${2:-20000} kills=${3:-300} seeds=${4:-1}
for seed in $(seq "$seeds"); do
  echo "seed $seed: $images images, $flips flips"
  SEED=$seed CRASH_IMAGES=$images FLIPS=$flips cargo test --locked --quiet --test crash_images -- --nocapture
done
cargo test --locked --quiet --test log_recover
cargo test --locked --quiet --test log_faults -- --nocapture
KILLS=$kills cargo test --locked --quiet --test log_kill -- --nocapture
