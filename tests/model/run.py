#!/usr/bin/env python3
"""Checks the models with spin: every state for the bounds below, and each planted mistake must be found.

    tests/model/run.py [--jobs N] [--only WORD] [--plain | --planted]

A line a run: what it was, the states stored, seconds. Exit status: 0 all as it should be, 1 not, 77 skipped because spin or a C
compiler is missing."""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

here = pathlib.Path(__file__).resolve().parent
LIMIT_S = 400       # of one run
MEMORY_MIB = 2000   # of one run

# What must hold: model, definitions.
HOLDS = [
    ("lease", "RIVALS BOUNDS"),
    ("lease", "TAKEOVER BOUNDS"),
    ("lease", "RESTART BOUNDS"),
    ("lease", "EVICT BOUNDS"),
    ("lease", "RIVALS CRASHES=0 FAILURES=0"),
    ("lease", "TAKEOVER TRIES=1 CRASHES=0 FAILURES=0"),
    ("lease", "RESTART TRIES=1 FAILURES=0"),
    ("lease", "EVICT TRIES=1 CRASHES=0 FAILURES=0"),
    ("lease", "CLONE TRIES=1 CRASHES=0 FAILURES=0"),
    ("lease", "RIVALS WATCH TRIES=1 CRASHES=0 FAILURES=0"),
    ("lease", "TAKEOVER WATCH TRIES=1 CRASHES=0 FAILURES=0"),
    ("lease", "CLONE WATCH TRIES=1 CRASHES=0 FAILURES=0"),
    ("conduit", "COOLINGS=0"),
    ("conduit", "EARLY=0"),
    ("conduit", "PACKETS=2"),
    ("conduit", "PLACES=1"),
    ("conduit", "SENDER_DEATHS=1 EARLY=0 COOLINGS=0 LOSSES=0"),
    ("conduit", "RECEIVER_DEATHS=1 EARLY=0 COOLINGS=0 LOSSES=0"),
    ("conduit", "VERDICTS=1 EARLY=0 COOLINGS=0 LOSSES=0"),
]

# Planted mistakes: model, the mistake, where it shows. Spin must find a fault.
PLANTS = [
    ("lease", "SKIP_READ_BACK", "RIVALS BOUNDS"),
    ("lease", "SKIP_WAIT", "RIVALS BOUNDS"),
    ("lease", "NO_CLAIM_LIMIT", "RIVALS BOUNDS"),
    ("lease", "BELIEVE_ANY_CLAIM", "RIVALS BOUNDS"),
    ("lease", "SKIP_CLAIM_NONCE", "RIVALS BOUNDS"),
    ("lease", "NO_LOOK", "RIVALS CRASHES=0 FAILURES=0"),
    ("lease", "CLAIM_WITHOUT_SILENCE", "TAKEOVER BOUNDS"),
    ("lease", "TAKE_WITHOUT_LOCK", "RESTART BOUNDS"),
    ("lease", "TAKE_BACK_BLINDLY", "TAKEOVER BOUNDS"),
    ("lease", "EVICT_BLINDLY", "EVICT BOUNDS"),
    ("lease", "IGNORE_RANDOMNESS", "CLONE TRIES=1 CRASHES=0 FAILURES=0"),
    ("lease", "REUSE_INCARNATION", "TAKEOVER WATCH TRIES=1 CRASHES=0 FAILURES=0"),
    ("lease", "ACCEPT_ANY_INCARNATION", "TAKEOVER WATCH TRIES=1 CRASHES=0 FAILURES=0"),
    ("lease", "SKIP_NONCE", "RIVALS WATCH TRIES=1 CRASHES=0 FAILURES=0"),
    ("lease", "TAKE_OLDER_LEASES", "TAKEOVER WATCH TRIES=1 CRASHES=0 FAILURES=0"),
    ("lease", "VERDICT_NOT_FINAL", "TAKEOVER WATCH TRIES=1 CRASHES=0 FAILURES=0"),
    ("conduit", "REUSE_UNACKED", "COOLINGS=0"),
    ("conduit", "REUSE_BEFORE_REAPED", "COOLINGS=0"),
    ("conduit", "NO_RECHECK", "COOLINGS=0"),
    ("conduit", "ACK_TOO_EARLY", "COOLINGS=0"),
    ("conduit", "ANY_SEQUENCE", "COOLINGS=0"),
    ("conduit", "ANY_INCARNATION", "SENDER_DEATHS=1 EARLY=0 COOLINGS=0 LOSSES=0"),
    ("conduit", "ANY_GATE", "SENDER_DEATHS=1 EARLY=0 COOLINGS=0 LOSSES=0"),
    ("conduit", "FORGET_DOORBELL", "COOLINGS=0"),
    ("conduit", "IGNORE_WISH_FOR_ACK", "COOLINGS=0"),
    ("conduit", "VERDICT_NOT_PUBLISHED", "VERDICTS=1 EARLY=0 COOLINGS=0 LOSSES=0"),
    ("conduit", "SAME_PAIR_AGAIN", "VERDICTS=1 EARLY=0 COOLINGS=0 LOSSES=0"),
]


def check(model, definitions, planted):
    """(what spin says is wrong, or None; the states stored; seconds). Raises when the run itself went wrong."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        defined = ["-D" + d for d in definitions.split()]

        def run(*command):
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=LIMIT_S)
            if done.returncode != 0:
                raise RuntimeError(f"{command[0]}: {done.stdout}{done.stderr}")
            return done.stdout

        run("spin", "-a", *defined, str(here / f"{model}.pml"))
        # Those with a mistake have few states: compiling is most of their time.
        run("cc", "-O0" if planted else "-O2", "-w", "-DSAFETY", f"-DMEMLIM={MEMORY_MIB}", "-o", "pan", "pan.c")
        told = run("./pan", "-m20000")
        states = re.search(r"([\d.e+]+) states, stored", told)
        errors = re.search(r"errors: (\d+)", told)
        if not states or not errors or "max search depth too small" in told or "out of memory" in told or "Search not completed" in told and errors[1] == "0":
            raise RuntimeError(f"the search is not whole: {told}")
        fault = re.search(r"^pan:1: (.*)", told, re.MULTILINE)
        return (fault[1] if fault else None if errors[1] == "0" else "?"), int(float(states[1])), time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="runs whose line has this word")
    parser.add_argument("--plain", action="store_true", help="no planted mistakes")
    parser.add_argument("--planted", action="store_true", help="nothing but planted mistakes")
    options = parser.parse_args()
    for program in ("spin", "cc"):
        if not shutil.which(program):
            print(f"skipped: {program} is not installed (tools/install-dependencies.sh)")
            return 77

    runs = [] if options.planted else [(model, None, where) for model, where in HOLDS]
    if not options.plain:
        runs += [(model, plant, where) for model, plant, where in PLANTS]
    runs = [run for run in runs if options.only in " ".join(filter(None, run))]
    failed = 0

    def one(run):
        model, plant, where = run
        return check(model, f"{where} {plant}" if plant else where, plant is not None)

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for run, future in [(run, pool.submit(one, run)) for run in runs]:
            model, plant, where = run
            line = f"{model:8} {plant or '':24} {where}"
            try:
                fault, states, took = future.result()
            except Exception as error:  # spin, the compiler, or a bound
                print(f"FAILED  {line}\n        {error}", flush=True)
                failed += 1
                continue
            good = (fault is not None) == (plant is not None)
            word = ("found" if plant else "holds") if good else ("MISSED" if plant else "BROKEN")
            print(f"{word:7} {line}  {states} states, {took:.1f} s{'  ' + fault if fault else ''}", flush=True)
            failed += not good
    print(f"{len(runs) - failed} of {len(runs)} as they should be")
    return 1 if failed or not runs else 0


if __name__ == "__main__":
    sys.exit(main())
