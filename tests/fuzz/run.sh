#!/usr/bin/env bash
# Looks for inputs that break what reads foreign bytes.
#
#   tests/fuzz/run.sh TARGET|all [--minutes N]    builds the fuzzers with clang in build-fuzz/, and fuzzes TARGET (each, one after the other)
#                                                 for N minutes (default 1); what it learned is kept in build-fuzz/corpus/TARGET
#   tests/fuzz/run.sh TARGET|all --keep           adds what reaches more of the code to tests/fuzz/corpus/TARGET, for all test runs
#   tests/fuzz/run.sh TARGET --input FILE         runs one input
#   tests/fuzz/run.sh --list                      the targets
#
# An input that breaks a target is left in build-fuzz/found/TARGET/; fix the bug, and keep the input as tests/fuzz/corpus/TARGET/NAME.
# Exit status: 0 nothing was found, 1 something was, 2 usage, 3 no clang with libFuzzer.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2

usage() { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
targets() { for file in tests/fuzz/*_fuzz.cc; do basename "$file" _fuzz.cc; done; }

wanted=
minutes=1
keep=no
input=
while [ $# -gt 0 ]; do
  case $1 in
    --list) targets; exit 0 ;;
    --minutes) minutes=${2:?--minutes needs a number}; shift ;;
    --keep) keep=yes ;;
    --input) input=${2:?--input needs a file}; shift ;;
    -*) usage ;;
    *) [ -z "$wanted" ] || usage; wanted=$1 ;;
  esac
  shift
done
[ -n "$wanted" ] || usage
[ "$wanted" = all ] && list=$(targets) || list=$wanted
for target in $list; do [ -f "tests/fuzz/${target}_fuzz.cc" ] || usage; done

build=build-fuzz
if [ ! -f $build/build.ninja ]; then
  compiler=
  for candidate in clang++-19 clang++-20 clang++-21; do
    if command -v "$candidate" >/dev/null; then compiler=$candidate; break; fi
  done
  [ -n "$compiler" ] || { echo 'clang 19 with its runtime is wanted (tools/install-dependencies.sh --sanitizers)' >&2; exit 3; }
  command -v ccache >/dev/null && compiler="ccache $compiler"
  CXX=$compiler meson setup $build -Dfuzzing=true -Db_sanitize=address,undefined -Db_lundef=false -Ddebug=false -Doptimization=1 -Dcpp_args=-g1 >$build.log 2>&1 ||
    { tail -n 20 $build.log >&2; exit 3; }
  rm -f $build.log
fi
# shellcheck disable=SC2046
ninja -C $build $(for target in $list; do echo "tests/fuzz/fuzz-$target"; done) >$build/build.log 2>&1 || { grep -E -A 8 'error:|^FAILED' $build/build.log | head -n 40 >&2; exit 3; }

export ASAN_OPTIONS=detect_stack_use_after_return=1:allocator_may_return_null=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
found=0
for target in $list; do
  program=$build/tests/fuzz/fuzz-$target
  learned=$build/corpus/$target
  kept=tests/fuzz/corpus/$target
  mkdir -p "$learned" "$kept" "$build/found/$target"
  options=(-timeout=25 -rss_limit_mb=2048 -artifact_prefix="$build/found/$target/" -close_fd_mask=1)
  if [ -n "$input" ]; then
    "$program" -timeout=25 "$input" || found=1
  elif [ $keep = yes ]; then
    "$program" "${options[@]}" -set_cover_merge=1 -use_counters=0 "$kept" "$learned" 2>&1 | grep 'new files'
  else
    log=$build/$target.log
    "$program" "${options[@]}" -max_total_time=$((minutes * 60)) -max_len=2048 -print_final_stats=1 "$learned" "$kept" >"$log" 2>&1 || found=1
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    covered=$(sed -n 's/.* cov: \([0-9]*\) ft: \([0-9]*\) .*/\1 edges, \2 features/p' "$log" | tail -n 1)
    printf '%-14s %s executions, %s\n' "$target" "${executions:-?}" "${covered:-?}"
    grep -E 'ERROR: |SUMMARY: |runtime error: |does not hold: |Test unit written' "$log" | sed 's/^/    /'
  fi
done
exit $found
