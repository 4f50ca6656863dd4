#!/usr/bin/env python3
"""FAULTS.md names a test, a trouble of the simulation, a planted bug, a fuzz target or a scenario with machines for what it claims: do they all exist?"""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])
text = (root / "stp/FAULTS.md").read_text(encoding="utf-8")
sources = "\n".join(path.read_text(encoding="utf-8") for path in sorted(root.glob("tests/**/*.cc")))

tests = {f"{suite}.{case}" for suite, case in re.findall(r"^TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", sources, re.MULTILINE)}
troubles = set(re.findall(r'"([a-z-]+)"', (root / "tests/sim/sim_plan.cc").read_text(encoding="utf-8")))
machines = {name.replace("_", "-") for path in root.glob("tests/vm/scenarios/*.py")
            for name in re.findall(r"^@scenario\(.*\)\ndef (\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)}
crashes = set(re.findall(r'"([a-z-]+)"', re.search(r"kNames\{([^}]*)\}", (root / "tests/sim/crash_run.cc").read_text(encoding="utf-8")).group(1)))
plants = set(re.findall(r'"([a-z-]+)"', (root / "stp/plant.h").read_text(encoding="utf-8")))
kills = set(re.findall(r'^    "([a-z]+)": ', (root / "tests/kill/kill.py").read_text(encoding="utf-8"), re.MULTILINE))

missing = [name for name in re.findall(r"`([A-Z]\w+\.\w+)`", text) if name not in tests and name != "Suite.Test"]
missing += [f"sim:{name}" for name in re.findall(r"`sim:([a-z-]+)`", text) if name not in troubles]
missing += [f"vm:{name}" for name in re.findall(r"`vm:([a-z0-9-]+)`", text) if name not in machines]
missing += [f"crash:{name}" for name in re.findall(r"`crash:([a-z-]+)`", text) if name not in crashes]
missing += [f"crash:{name} (in no line)" for name in sorted(crashes) if f"`crash:{name}`" not in text]
missing += [f"plant:{name}" for name in re.findall(r"`plant:([a-z-]+)`", text) if name not in plants]
missing += [f"kill:{name}" for name in re.findall(r"`kill:([a-z-]+)`", text) if name not in kills and name != "NAME"]
missing += [f"fuzz:{name}" for name in re.findall(r"`fuzz:([a-z_]+)`", text) if not (root / f"tests/fuzz/{name}_fuzz.cc").exists()]
missing += [f"plant:{name} (in no line)" for name in sorted(plants) if f"`plant:{name}`" not in text]
for name in missing:
    print(f"FAULTS.md: {name} does not exist")
sys.exit(1 if missing else 0)
