#!/usr/bin/env python3
"""What gcov counted in stp/, as tests/coverage.sh reports it.

    coverage_report.py BUILD [--lines N] [--branches N] [--missing FILE]

Exit status: 0 both shares are reached, 1 one is not.

A line or branch counts once, in however many objects and instances of a template it was compiled: it was taken if it was in one of them.
Branches are those of the objects of stp/, which are compiled without exceptions. Where others include its headers, each call has a branch more, to the
cleanup after an exception: of those objects the lines count. Left out are branches that are no decisions of the source: of destructors, on lines that hold
nothing but a brace, and of comparisons that the compiler writes (= default).
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys


def measured(build):
    """gcov's data files of what is in the build; for what never ran in any program, the compiler's notes."""
    for notes in sorted(build.rglob("*.gcno")):
        counts = notes.with_suffix(".gcda")
        if counts.exists():
            yield counts
        elif notes.is_relative_to(build / "stp"):
            yield notes


def collect(build, root):
    """{file: {line: [count, {key of branch: count}]}}"""
    files = {}
    for data in measured(build):
        # From where the compiler ran, so that the names of sources are found.
        own = data.is_relative_to(build / "stp")
        gcov = subprocess.run(["gcov", "--json-format", "--stdout", "--branch-probabilities", str(data.relative_to(build))], cwd=build, capture_output=True)
        if gcov.returncode != 0:  # it was compiled anew since it ran, and counts as not run
            print(gcov.stderr.decode().strip(), file=sys.stderr)
        for text in gcov.stdout.splitlines():
            for file in json.loads(text)["files"]:
                path = (build / file["file"]).resolve()
                if not path.is_relative_to(root / "stp"):
                    continue
                starts = {function["name"]: (function["start_line"], function["start_column"]) for function in file["functions"]}
                lines = files.setdefault(path.name, {})
                for line in file["lines"]:
                    entry = lines.setdefault(line["line_number"], [0, {}])
                    entry[0] += line["count"]
                    for index, branch in enumerate(line["branches"] if own else []):
                        key = starts.get(line.get("function_name")), index
                        entry[1][key] = entry[1].get(key, 0) + branch["count"]
    return files


def share(part, whole):
    return 100 * part / whole if whole else 100


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--lines", type=float, default=0)
    parser.add_argument("--branches", type=float, default=0)
    parser.add_argument("--missing", action="append", default=[])
    options = parser.parse_args()
    root = pathlib.Path(__file__).resolve().parent.parent
    rows = []
    for name, lines in collect(options.build.resolve(), root).items():
        source = (root / "stp" / name).read_text(encoding="utf-8").splitlines()
        taken = found = 0
        for number, (count, branches) in sorted(lines.items()):
            text = source[number - 1].split("//")[0]
            if re.fullmatch(r"[\s{}();]*|.*= default;\s*", text):
                branches = {}
            hit = sum(value > 0 for value in branches.values())
            taken, found = taken + hit, found + len(branches)
            if name in options.missing and (count == 0 or hit < len(branches)):
                print(f"{name}:{number:<4} {count:>8} {f'{hit}/{len(branches)}' if branches else '':>6} {source[number - 1]}")
        rows.append((f"stp/{name}", sum(count > 0 for count, _ in lines.values()), len(lines), taken, found))
    rows.sort(key=lambda row: (row[3] - row[4], row[1] - row[2]))
    total = ("stp/", *(sum(row[column] for row in rows) for column in range(1, 5)))
    if not options.missing:
        print(f'{"file":26} {"lines":>16} {"branches":>18} {"missing":>8}')
        for name, line, all_lines, branch, all_branches in [*rows, total]:
            print(f"{name:26} {line:5}/{all_lines:<5} {share(line, all_lines):3.0f}% {branch:6}/{all_branches:<6} {share(branch, all_branches):3.0f}% {all_branches - branch:8}")
    lines, branches = share(*total[1:3]), share(*total[3:5])
    print(f"lines {lines:.1f} % (wanted {options.lines:g}), branches {branches:.1f} % (wanted {options.branches:g})")
    sys.exit(lines < options.lines or branches < options.branches)


main()
