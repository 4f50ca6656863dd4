#!/usr/bin/env python3
"""DIFFERENCES.md lists what the comparison with the kernel's sockets lets pass: are the two lists the same?"""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])
listed = set(re.findall(r"^\| `([a-z-]+)` \|", (root / "hostlib/DIFFERENCES.md").read_text(encoding="utf-8"), re.MULTILINE))
source = (root / "tests/differential/excuses.h").read_text(encoding="utf-8")
known = set(re.findall(r'"([a-z-]+)"', source))

for name in sorted(known - listed):
    print(f"DIFFERENCES.md: {name} is not there, and tests/differential lets it pass")
for name in sorted(listed - known):
    print(f"DIFFERENCES.md: {name} is there, and tests/differential does not know it")
sys.exit(0 if known and listed == known else 1)
