#!/usr/bin/env python3
"""Compiles, without making objects, every source of a build directory that the build has not compiled: check_syntax.py BUILD JOBS.

For the sanitizer build, which makes only what runs there: the rest of the tree must please its compiler too. Exit status: 0 it does, 1 not.
"""
import concurrent.futures
import json
import os
import shlex
import subprocess
import sys


def check(entry):
    command, words = [], iter(shlex.split(entry["command"]))
    for word in words:
        if word in ("-o", "-MQ", "-MF"):
            next(words)
        elif word not in ("-c", "-MD"):
            command.append(word)
    done = subprocess.run(command + ["-fsyntax-only"], cwd=entry["directory"], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{entry['file']}:\n{done.stderr}")
    return done.returncode == 0


def main():
    build, jobs = sys.argv[1], int(sys.argv[2])
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as commands:
        entries = json.load(commands)
    compiled = {os.path.join(e["directory"], e["file"]) for e in entries if os.path.exists(os.path.join(e["directory"], e["output"]))}
    rest = {}
    for entry in entries:
        path = os.path.join(entry["directory"], entry["file"])
        if path not in compiled:
            rest.setdefault(path, entry)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        good = list(pool.map(check, rest.values()))
    print(f"{len(good)} more sources compiled without a warning" if all(good) else f"{good.count(False)} of {len(good)} sources do not compile")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
