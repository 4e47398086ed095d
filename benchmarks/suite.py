"""Runs the benchmarks, and keeps what they find.

``python benchmarks/suite.py [NAME …]`` runs all of them, or those named, and writes what each finds
to results/NAME.json, with the command, the day and the machine. Then it writes the tables of
README.md and the plots of docs/images from those files; ``--render`` does only that. ``--quick``
takes a few minutes, keeps nothing, and shows no more than that all of it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from render import render

from flask_wsviews.commands.doctor.build import is_compiled

HERE = Path(__file__).parent
RESULTS = HERE / "results"

# Those that may have 10,000 connections, and not all of them, as connecting takes its time.
MANY = (
    "asyncio-class gevent-class flask-sock-gevent uvicorn-websockets websockets aiohttp picows "
    "ws-node"
)

JOBS = {
    "echo-32": "echo.py -b 32 -r 5 -s 1.2",
    "echo-1k": "echo.py -b 1024 -r 3 -s 0.8",
    "echo-64k": "echo.py -b 65536 --binary -r 3 -s 1",
    "latency": "echo.py -c 1 -r 2 -s 0.6",
    "fan-out": "broadcast.py -r 2 -s 1",
    "fan-out-1": "broadcast.py -m 500 -k 1 -r 9 -s 0.8",
    "handshakes": "handshakes.py -r 5 -s 2",
    "memory-2000": "memory.py -n 2000 -r 1",
    "memory-10000": f"memory.py -n 10000 -r 1 {MANY}",
    "crowd": "crowd.py -r 5 -s 5 -c",
    "many": "crowd.py -r 2 -s 3 --idle",
    "router": "router.py -r 1 -s 0.5",
    "hooks": "hooks.py",
    "typed": "typed.py -n 20000 -r 9",
}
# Of a benchmark or, where it has none of its own, of its script.
QUICK = {
    "echo": "-r 1 -s 0.3",
    "broadcast": "-m 500 -r 1 -s 0.3",
    "handshakes": "-r 1 -s 0.3",
    "memory": "-n 200",
    "crowd": "-r 1 -s 0.5 --idle 0 500",
    "many": "-r 1 -s 0.5 -c 100 500",
    "router": "-r 1 -s 0.1",
    "hooks": "-r 1",
    "typed": "-r 1 -n 2000",
}
PACKAGES = ("uwsgi", "gevent", "greenlet", "uvloop", "flask", "marshmallow", "websockets")


def machine() -> str:
    """What it is measured on, in a line."""
    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} cores of {cpu}, Linux {platform.release().partition('-')[0]}"


def versions() -> str:
    """What it is measured with, in a line."""
    found = [f"{name} {version(name)}" for name in PACKAGES]
    return ", ".join([f"CPython {platform.python_version()}", *found])


def run(name: str, *, quick: bool) -> dict[str, Any]:
    """Run one benchmark; returns what is kept of it."""
    script, *options = JOBS[name].split()
    if quick:
        options += (QUICK.get(name) or QUICK[script.removesuffix(".py")]).split()
    print(f"\n== {name}\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, str(HERE / script), *options, "--json", str(file)]
        subprocess.run(command, check=True)
        rows = json.loads(file.read_text())
    return {
        "command": shlex.join(["python", f"benchmarks/{script}", *options]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(),
        "compiled": is_compiled(),
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-q", "--quick", action="store_true")
    parser.add_argument("--render", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(JOBS))
    options = parser.parse_args()
    if unknown := set(options.names) - set(JOBS):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(JOBS)}")
    RESULTS.mkdir(exist_ok=True)
    failed = []
    for name in [] if options.render else options.names or JOBS:
        try:
            found = run(name, quick=options.quick)
        except subprocess.CalledProcessError:
            failed.append(name)
            continue
        if not options.quick:
            (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    render(RESULTS, HERE / "README.md", HERE.parent / "docs" / "images")
    if failed:
        raise SystemExit(f"failed, so what was found before stays: {', '.join(failed)}")


if __name__ == "__main__":
    main()
