#!/usr/bin/env bash
# Measures which lines and branches of stp/ the tests reach (gcov): all of it, and each file, those with the most missing branches first.
#
#   tests/coverage.sh                          builds in build-coverage/, runs the tests that use stp/, and reports
#   tests/coverage.sh --report                 reports on what was run last (a test that was run by hand since adds to it)
#   tests/coverage.sh --missing FILE           the same: the lines of stp/FILE that lack something
#   tests/coverage.sh --lines N --branches N   fails below so many per cent (95 and 85)
#   tests/coverage.sh --seeds N                so many seeds of the simulation (40)
#
# Run are the unit tests, the simulation (its first seeds, the list of those that once failed, membership alone, each planted bug), crash-every-io,
# the API over the engine within the program on both media, and the kept inputs of the fuzz targets for blocks, packets and a hostile host.
# Built is without optimization, and stp/ without exceptions (each call would have a branch to the cleanup after one), so that branches are those of the
# source; tests/coverage_report.py says how they are counted. No mark in the source excludes a line. A child that ends without exit(), as when it is
# killed, writes no counts; what it ran is not seen.
# Exit status: 0 both marks are reached, 1 one is not or a test failed, 2 usage, 3 it can not be built.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

lines=95
branches=85
seeds=40
run=yes
missing=()
while [ $# -gt 0 ]; do
  case $1 in
    --lines) lines=${2:?--lines needs a number}; shift ;;
    --branches) branches=${2:?--branches needs a number}; shift ;;
    --seeds) seeds=${2:?--seeds needs a number}; shift ;;
    --report) run=no ;;
    --missing) run=no; missing+=(--missing "${2:?--missing needs a file of stp/}"); shift ;;
    *) sed -n '2,16s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  shift
done
for program in gcov g++ meson; do
  command -v $program >/dev/null || { echo "coverage.sh: $program is not installed (Debian: g++, meson)" >&2; exit 3; }
done
# The tests set these themselves.
unset STP_STG STP_HOST STP_AGENT STP_IO STP_DEBUG STP_FAULTS

build='build-coverage'
jobs=$(nproc)
failed=0

# Tests by name, and what runs without meson.
api=(api_mapped api_direct)
fuzz=(blocks hostile_peer packet)

run_everything() {
  if [ ! -f $build/build.ninja ]; then
    local compiler='g++'
    command -v ccache >/dev/null && compiler='ccache g++'
    # Threads count together (atomic). What is measured needs no line numbers of a debugger.
    CXX=$compiler meson setup $build -Db_coverage=true -Ddebug=false -Doptimization=0 -Dcpp_args=-fprofile-update=atomic >$build.log 2>&1 ||
      { tail -n 20 $build.log >&2; exit 3; }
    rm -f $build.log
  fi
  local unit
  mapfile -t unit < <(meson introspect $build --tests | python3 -c '
import json, sys
for test in json.load(sys.stdin):
    if "/tests/unit/" in test["cmd"][0] or "/tests/sim/sim_storage" in test["cmd"][0]: print(test["name"], test["cmd"][0].split("'$build'/")[1])')
  ninja -C $build "${unit[@]#* }" "${fuzz[@]/#/tests/fuzz/fuzz-}" tests/api/api_test tests/sim/stp-sim tests/sim/crash-every-io >$build/build.log 2>&1 ||
    { grep -E -A 8 'error:|^FAILED' $build/build.log | head -n 40 >&2; exit 3; }
  find $build -name '*.gcda' -delete
  # Unoptimized and counted, things take several times as long as they do elsewhere.
  meson test -C $build --no-rebuild --num-processes "$jobs" --timeout-multiplier 5 --print-errorlogs "${unit[@]%% *}" "${api[@]}" "${fuzz[@]/#/fuzz-}" || failed=1
  local simulator=$build/tests/sim/stp-sim
  "$simulator" --jobs "$jobs" --seeds "1-$seeds" || failed=1
  "$simulator" --jobs "$jobs" --file tests/sim/regressions.txt || failed=1
  "$simulator" --jobs "$jobs" --members-only --seeds 1-200 || failed=1
  # A planted bug is code that only its own test reaches.
  meson test -C $build --no-rebuild --num-processes "$jobs" --timeout-multiplier 5 --suite plants || failed=1
  $build/tests/sim/crash-every-io --jobs "$jobs" || failed=1
}

[ $run = no ] || run_everything
[ -f $build/build.ninja ] || { echo 'coverage.sh: nothing was measured yet' >&2; exit 2; }
tests/coverage_report.py $build --lines "$lines" --branches "$branches" "${missing[@]}" || failed=1
exit $failed
