#!/usr/bin/env python3
"""Reads meson's testlog.json and prints a line for each test: PASS, FAIL or SKIP, a tab, its name, a tab, the reason.

A test program that passed but skipped some of its cases (GTEST_SKIP) adds a SKIP line for each of those, so that nothing is
skipped silently.
"""
import json
import re
import sys

PASSED = {"OK", "EXPECTEDFAIL"}


def skipped_cases(output):
    """(name, reason) of every case that GoogleTest skipped."""
    lines = output.splitlines()
    reason = ""
    for number, line in enumerate(lines):
        if re.search(r": Skipped$", line):
            reason = lines[number + 1].strip() if number + 1 < len(lines) else ""
        found = re.match(r"\[  SKIPPED \] (\S+) \(\d+ ms\)", line)
        if found:
            yield found.group(1), reason
            reason = ""


def main():
    path, label = sys.argv[1:3]
    try:
        with open(path, encoding="utf-8") as log:
            tests = [json.loads(line) for line in log if line.strip()]
    except OSError:
        return 1
    for test in tests:
        name = f"{test['name']} ({label})"
        output = test.get("stdout") or ""
        result = test["result"]
        if result in PASSED:
            print(f"PASS\t{name}\t")
            for case, reason in skipped_cases(output):
                print(f"SKIP\t{test['name']} {case} ({label})\t{reason}")
        elif result == "SKIP":
            said = [line.strip() for line in output.splitlines() if line.strip()]
            print(f"SKIP\t{name}\t{said[-1] if said else 'no reason given'}")
        else:
            print(f"FAIL\t{name}\t{result.lower()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
