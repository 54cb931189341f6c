#!/usr/bin/env bash
# cargo deny: licences, bans, sources and advisories; without the advisories, loudly, where their database is out of reach.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$root"
cargo deny --version >/dev/null 2>&1 || skip "no cargo-deny (cargo install --locked cargo-deny)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if cargo deny fetch db >"$log" 2>&1; then
  exec cargo deny check
fi
tail -2 "$log"
echo "ADVISORIES NOT CHECKED: the advisory database cannot be reached from here"
cargo deny check licenses bans sources
