#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test.
#
#   tests/run.sh                 everything: the tests, then the unit tests and the simulation again under
#                                AddressSanitizer + UBSan and under ThreadSanitizer (clang 19 where it can be had)
#   tests/run.sh --quick         no sanitizer builds
#   tests/run.sh --sanitizers    nothing but the sanitizer builds
#   tests/run.sh --no-install    takes the machine as it is
#   tests/run.sh --minutes N     what would not be done by then is not begun, and listed as skipped (the tests of the first build always are)
#   tests/run.sh --seeds N       so many seeds of the simulation (default 1000; a two-hundredth of it under each sanitizer)
#
# Builds in build/, build-asan/ and build-tsan/ of the checkout. The last line is `N passed, N failed, N skipped`; what was
# skipped is listed above it with the reason. Exit status: 0 all passed, 1 something failed, 2 usage.
set -uo pipefail
cd "$(dirname "$0")/.."

plain=yes
quick=no
install=yes
seeds=1000
minutes=
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=yes ;;
    --sanitizers) plain=no ;;
    --no-install) install=no ;;
    --minutes) minutes=${2:?--minutes needs a number}; shift ;;
    --seeds) seeds=${2:?--seeds needs a number}; shift ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  shift
done
# The tests set these themselves; what the caller has there must not reach them.
unset STP_STG STP_HOST STP_AGENT STP_IO STP_DEBUG STP_FAULTS

jobs=$(nproc)
# Eight sources of a target at a time: less than half the compile time, for most of it goes into headers that they share. What two of
# them name alike out of sight of others (in an anonymous namespace) does not compile so. The sanitizers' builds have each by itself.
together=(-Dunity=on -Dunity_size=8)
results=$(mktemp)  # a line each: PASS|FAIL|SKIP, tab, name, tab, reason
trap 'rm -f "$results"' EXIT
began=$SECONDS

heading() { printf '\n== %s (%d s since the start)\n' "$*" $((SECONDS - began)); }
record() { printf '%s\t%s\t%s\n' "$1" "$2" "${3:-}" >>"$results"; }

# in_time SECONDS NAME: whether there is that much time left.
in_time() {
  [ -z "$minutes" ] || [ $((SECONDS - began + $1)) -le $((60 * minutes)) ] && return
  record SKIP "$2" "it would not be done within $minutes minutes"
  return 1
}

# set_up DIR LABEL [meson options...]
set_up() {
  local dir=$1 label=$2
  shift 2
  [ -f "$dir/build.ninja" ] && return
  if ! meson setup "$dir" "$@" >"$dir.log" 2>&1; then
    tail -n 30 "$dir.log"
    record FAIL "build: $label" "meson setup failed, see $dir.log"
    return 1
  fi
  rm -f "$dir.log"
}

# build DIR LABEL [targets...]: builds these, or everything.
build() {
  local dir=$1 label=$2
  shift 2
  heading "build: $label"
  if ! ninja -C "$dir" -j "$jobs" "$@" >"$dir/build.log" 2>&1; then
    grep -E -A 8 'error:|^FAILED' "$dir/build.log" | head -n 60
    record FAIL "build: $label" "see $dir/build.log"
    return 1
  fi
  tail -n 1 "$dir/build.log"
}

# programs DIR SUITE: the test programs of a suite, as targets.
programs() {
  meson introspect "$1" --tests | python3 -c '
import json, os, sys
build = os.path.realpath(sys.argv[1])
for test in json.load(sys.stdin):
    program = os.path.realpath(test["cmd"][0])
    if any(name.split(":")[-1] == sys.argv[2] for name in test["suite"]) and program.startswith(build + os.sep):
        print(os.path.relpath(program, build))' "$1" "$2" | sort -u
}

# meson_tests DIR LABEL [meson test options...]: runs and counts them.
meson_tests() {
  local dir=$1 label=$2
  shift 2
  heading "tests: $label"
  rm -f "$dir/meson-logs/testlog.json"
  meson test -C "$dir" --num-processes "$jobs" --print-errorlogs "$@"
  local status=$?
  if ! tests/count_tests.py "$dir/meson-logs/testlog.json" "$label" >>"$results" && [ $status != 0 ]; then
    record FAIL "tests: $label" "meson test ended with $status and no log"
  fi
  local missing
  missing=$(sed -n 's/^not installed, and left out: //p' "$dir/meson-logs/testlog.txt" | sort -u)
  [ -z "$missing" ] || record SKIP "some programs under stp run: $label" "not installed: $missing (tools/install-dependencies.sh --programs)"
  while IFS= read -r words; do record SKIP "a part of a test: $label" "$words"; done < <(sed -n 's/^not tried: //p' "$dir/meson-logs/testlog.txt" | sort -u)
}

# simulate DIR LABEL FIRST LAST: the simulator over these seeds.
simulate() {
  local dir=$1 label=$2 first=$3 last=$4
  local program=$dir/tests/sim/stp-sim
  if [ ! -x "$program" ]; then
    record SKIP "simulation: $label" 'stp-sim was not built'
    return
  fi
  heading "simulation: $label, seeds $first-$last"
  if "$program" --jobs "$jobs" --seeds "$first-$last" >"$dir/simulation.log" 2>&1; then
    record PASS "simulation: $label"
  else
    record FAIL "simulation: $label" "see $dir/simulation.log"
  fi
  tail -n 20 "$dir/simulation.log"
}

# quickstart DIR: what the README promises, with a program of ours as the file.
quickstart() {
  heading 'quickstart'
  if tools/quickstart.sh --no-install "$1/tools/stp" >"$1/quickstart.log" 2>&1; then
    record PASS quickstart
  else
    record FAIL quickstart "see $1/quickstart.log"
  fi
  tail -n 4 "$1/quickstart.log"
}

if [ $install = yes ]; then
  flags=()
  [ $quick = no ] && flags=(--sanitizers)
  tools/install-dependencies.sh "${flags[@]}" || exit 1
fi

if [ $plain = yes ] && set_up build 'default compiler' -Ddebug=false "${together[@]}" && build build 'default compiler'; then
  meson_tests build 'default compiler' --no-suite e2e --no-suite vm
  # These wait for hosts to join most of the time.
  meson_tests build 'default compiler, end to end' --suite e2e --num-processes $((2 * jobs))
  quickstart build
  simulate build 'default compiler' 1 $((seeds < 100 ? seeds : 100))
  in_time 120 machines && meson_tests build 'machines' --suite vm
fi

if [ $quick = no ]; then
  compiler=
  for candidate in clang++-19 clang++-20 clang++-21; do
    if command -v "$candidate" >/dev/null; then compiler=$candidate; break; fi
  done
  if [ -n "$compiler" ]; then
    export CXX=$compiler
  else
    compiler='default compiler'
    record SKIP 'build with clang 19' 'clang 19 is not installed; the sanitizer builds use the default compiler'
  fi
  few=$((seeds / 200 > 0 ? seeds / 200 : 1))
  # Without line numbers: a fifth of the compile time. Whoever looks into a report builds with -Dcpp_args=-g1.
  sanitized=(-Db_lundef=false -Ddebug=false)
  export ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1
  # Only what runs there is built; the rest must please clang's warnings too, once.
  for sanitizer in address,undefined thread; do
    in_time $([ $sanitizer = thread ] && echo 300 || echo 500) "sanitizer: $sanitizer" || continue
    label=$([ $sanitizer = thread ] && echo TSan || echo 'ASan and UBSan')
    dir=build-$([ $sanitizer = thread ] && echo tsan || echo asan)
    # Most of the time goes into compiling for the one, into running for the other.
    optimization=$([ $sanitizer = thread ] && echo 1 || echo 0)
    set_up "$dir" "$compiler, $label" -Db_sanitize=$sanitizer -Doptimization="$optimization" "${sanitized[@]}" || continue
    # Tests without threads can not race: the thread sanitizer gets the others, and the simulation.
    suite=$([ $sanitizer = thread ] && echo threads || echo unit)
    # shellcheck disable=SC2046
    build "$dir" "$compiler, $label" $(programs "$dir" "$suite") tests/sim/stp-sim || continue
    if [ $sanitizer != thread ]; then
      heading "warnings: $compiler, all other sources"
      if tests/check_syntax.py "$dir" "$jobs"; then record PASS "warnings: $compiler"; else record FAIL "warnings: $compiler"; fi
    fi
    meson_tests "$dir" "$label" --suite "$suite" --timeout-multiplier 5
    simulate "$dir" "$label" 1 "$few"
  done
fi

if [ $plain = yes ] && [ -x build/tests/sim/stp-sim ]; then
  for ((seed = 101; seed <= seeds; seed += 100)); do
    last=$((seed + 99 < seeds ? seed + 99 : seeds))
    in_time 40 "simulation: seeds $seed-$seeds" || break
    simulate build 'default compiler' "$seed" "$last"
  done
fi

heading 'summary'
awk -F '\t' '$1 != "PASS" { printf "%s  %s%s\n", $1, $2, $3 == "" ? "" : ": " $3 }' "$results"
passed=$(grep -c '^PASS' "$results")
failed=$(grep -c '^FAIL' "$results")
skipped=$(grep -c '^SKIP' "$results")
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
