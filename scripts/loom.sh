#!/usr/bin/env bash
# The sleep flag and the published counter under loom: every order of two threads.
set -euo pipefail
cd "$(dirname "$0")/.."
CARGO_TARGET_DIR=$PWD/target/loom cargo test --locked --manifest-path tests/loom/Cargo.toml
