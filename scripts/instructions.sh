#!/usr/bin/env bash
# Instructions of the hot paths, counted by callgrind: the same on every machine, however busy it is.
#
#   scripts/instructions.sh             counts
#   scripts/instructions.sh --check     and fails where a path needs 3 % more than benches/instructions.txt says
#   scripts/instructions.sh --record    and writes that file: a change that is worth more says so in its commit
#
# COUNT_BIN counts another build of the example `count` (`cargo build --profile bench --example count`).
# A path goes 2,048 times uncounted, then 10,240 times counted; the tree has 100,000 znodes. Exits 77 (skipped) without
# valgrind. Other releases of rustc and glibc count otherwise: the file says which it was written with.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

record=benches/instructions.txt
mode=${1:-count}
case $mode in count | --check | --record) ;; *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 64 ;; esac

# RECORDED COUNTED: files of lines `path instructions`. Status 1 where a path is slower, or stands in one file alone.
compare() {
  awk -v worse=3 -v better=10 '
    /^#/ || NF == 0 { next }
    FILENAME == ARGV[1] { recorded[$1] = $2; next }
    { counted[$1] = 1 }
    !($1 in recorded) { printf "FAILED: %s: %s counted, nothing recorded: --record\n", $1, $2; failed = 1; next }
    {
      percent = ($2 / recorded[$1] - 1) * 100
      verdict = ""
      if (percent > worse) { verdict = "  FAILED: more than " worse " % above"; failed = 1 }
      if (percent < -better) verdict = sprintf("  faster by %.1f %%: record it", -percent)
      printf "%-14s recorded %8.1f  counted %8.1f  %+5.1f %%%s\n", $1, recorded[$1], $2, percent, verdict
    }
    END {
      for (path in recorded) if (!(path in counted)) { printf "FAILED: %s: recorded, not counted\n", path; failed = 1 }
      exit failed
    }' "$1" "$2"
}

# The check must be able to fail: what `compare` says of a recorded and a counted figure.
self_test() {
  local recorded counted status words said code
  while read -r recorded counted status words; do
    code=0
    said=$(compare <(printf '# a comment\nget %s\nset 9\n' "$recorded") <(printf '%s\nset 9\n' "${counted/:/ }")) || code=$?
    [ "$code" = "$status" ] && [[ $said == *"$words"* ]] || die "compare $recorded with $counted: status $code: $said"
  done <<'TABLE'
100.0 get:100.0 0 +0.0 %
100.0 get:102.9 0 +2.9 %
100.0 get:103.1 1 FAILED: more than 3 % above
50.0 get:100.0 1 +100.0 %  FAILED
100.0 get:91.0 0 -9.0 %
100.0 get:89.0 0 faster by 11.0 %: record it
100.0 ping:100.0 1 FAILED: ping: 100.0 counted, nothing recorded
100.0 ping:100.0 1 FAILED: get: recorded, not counted
TABLE
}
self_test

[ "$(uname -m)" = x86_64 ] || skip "the figures are x86_64's"
command -v valgrind >/dev/null || skip "no valgrind (apt-get install valgrind)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
with="$(rustc --version | cut -d' ' -f1,2), $(getconf GNU_LIBC_VERSION), $(valgrind --version)"

# Flags for this machine's own CPU would count its instructions.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
# The dependencies as `cargo test` has built them (a release build takes CI more minutes than all counting), ringkeeper
# itself as in a release.
if [ -z "${COUNT_BIN:-}" ]; then
  flags=(--locked --workspace --example count)
  for setting in opt-level=3 debug-assertions=false overflow-checks=false codegen-units=1; do
    flags+=(--config "profile.dev.package.ringkeeper.$setting")
  done
  CARGO_INCREMENTAL=0 cargo build --quiet "${flags[@]}"
  COUNT_BIN=target/debug/examples/count
fi

# The environment lies on the stack: an empty one moves nothing. And glibc picks its memcpy by CPU (5 % of a ping): here
# what all of x86_64 has.
tunables=glibc.cpu.hwcaps=-AVX2,-AVX,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-SSE4_2,-SSE4_1,-SSSE3
env -i GLIBC_TUNABLES=$tunables valgrind --tool=callgrind --callgrind-out-file="$work/out" \
  --dump-after='*callgrind_dumps*' "$COUNT_BIN" >"$work/paths" 2>"$work/log" ||
  { tail -5 "$work/log" >&2; die "callgrind failed"; }
# callgrind numbers its files: one of what went before a path, one of the path.
dump=0
while read -r name times; do
  dump=$((dump + 2))
  awk -v name="$name" -v times="$times" '/^totals:/ { printf "%s %.1f\n", name, $2 / times }' "$work/out.$dump"
done <"$work/paths" >"$work/counted"
[ -s "$work/counted" ] || die "callgrind counted nothing"

case $mode in
  count) cat "$work/counted" ;;
  --record)
    { printf '# Instructions of each path: scripts/instructions.sh --record\n# %s\n' "$with"; cat "$work/counted"; } >"$record"
    cat "$record"
    ;;
  --check)
    compare "$record" "$work/counted" || {
      echo "recorded with $(sed -n '2s/^# //p' "$record"); here $with"
      echo "scripts/instructions.sh --record, if it is worth it"
      exit 1
    }
    ;;
esac
